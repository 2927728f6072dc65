"""The criteria of `host_learning.py` by name."""

from __future__ import annotations

from typing import Any

from influencer_mmdet3d.host.options import CriterionOptions

CRITERIA = ("host", "influence")
_HOST_OPTIONS = ("non_object_weight",)


def options_of(name: str) -> dict[str, float | str]:
    """Return the options that ``criterion:option=value,...`` changes in the criterion's shipped config.

    Raises
    ------
    ValueError
        If criterion, option or value is not known.
    """
    criterion, _, changes = name.partition(":")
    if criterion not in CRITERIA:
        raise ValueError(f"no criterion {criterion!r}; known: {', '.join(CRITERIA)}")
    options: dict[str, float | str] = {}
    for change in filter(None, changes.split(",")):
        option, _, text = change.partition("=")
        if criterion == "host" and option not in _HOST_OPTIONS:
            raise ValueError(f"{name}: of the host's criterion only {', '.join(_HOST_OPTIONS)} can be changed here")
        try:
            options[option] = float(text)
        except ValueError:
            options[option] = text
    if criterion == "influence":
        CriterionOptions.from_kwargs(num_classes=1, **options)
    elif words := [f"{option}={value!r}" for option, value in options.items() if isinstance(value, str)]:
        raise ValueError(f"{name}: {', '.join(words)} is no number")
    return options


def configure(cfg: Any, name: str) -> None:
    """Change a config's instance criterion as the name says."""
    cfg.model.criterion.inst_criterion.update(options_of(name))
