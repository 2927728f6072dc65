"""The criteria of `host_learning.py` by name, with the decoders that they are trained with."""

from __future__ import annotations

from typing import Any, NamedTuple

from influencer_mmdet3d.host.options import CriterionOptions

CRITERIA = ("host", "influence")
_HOST_OPTIONS = ("non_object_weight",)
_DECODERS = {
    "S3DISOneFormer3D": ("InfluencerQueryDecoder", "InfluencerS3DISOneFormer3D"),
    "ScanNetOneFormer3D": ("InfluencerScanNetQueryDecoder", "InfluencerScanNetOneFormer3D"),
}
"""Our decoder, and the model that tells it more, for each model of the host."""


class Choice(NamedTuple):
    """What a name asks for.

    Attributes
    ----------
    criterion : str
        One of `CRITERIA`.
    options : dict
        What changes in the criterion's shipped config.
    decoder : dict
        Options of our decoder; empty for the host's own.
    """

    criterion: str
    options: dict[str, float | str]
    decoder: dict[str, Any]


def read(name: str) -> Choice:
    """Read ``criterion:option=value,...``; `groups`, `start` and `pilots` are options of the decoder.

    Raises
    ------
    ValueError
        If criterion, option or value is not known.
    """
    criterion, _, changes = name.partition(":")
    if criterion not in CRITERIA:
        raise ValueError(f"no criterion {criterion!r}; known: {', '.join(CRITERIA)}")
    options: dict[str, float | str] = {}
    decoder: dict[str, Any] = {}
    for change in filter(None, changes.split(",")):
        option, _, text = change.partition("=")
        if option in ("groups", "start", "pilots"):
            decoder[option] = _of_decoder(name, option, text)
            continue
        if criterion == "host" and option not in _HOST_OPTIONS:
            raise ValueError(
                f"{name}: of the host's criterion only {', '.join(_HOST_OPTIONS)} can be changed here, and start"
            )
        try:
            options[option] = float(text)
        except ValueError:
            options[option] = text
    if criterion == "influence":
        CriterionOptions.from_kwargs(num_classes=1, **options)  # type: ignore[arg-type]
    elif words := [f"{option}={value!r}" for option, value in options.items() if isinstance(value, str)]:
        raise ValueError(f"{name}: {', '.join(words)} is no number")
    if criterion == "host" and decoder.keys() & {"groups", "pilots"}:
        raise ValueError(f"{name}: the host's criterion knows neither groups nor pilots")
    return Choice(criterion, options, decoder)


def _of_decoder(name: str, option: str, text: str) -> Any:
    if option == "groups":
        if not text.isdecimal() or int(text) < 1:
            raise ValueError(f"{name}: groups must be a positive integer, got {text!r}")
        return int(text)
    if option == "pilots":
        if text not in ("True", "False"):
            raise ValueError(f"{name}: pilots must be True or False, got {text!r}")
        return text == "True"
    if text not in ("learned", "voxels"):
        raise ValueError(f"{name}: start must be 'learned' or 'voxels', got {text!r}")
    return text


def configure(cfg: Any, name: str) -> None:
    """Change a config's instance criterion and decoder as the name says.

    Raises
    ------
    ValueError
        If the model's decoder has no such option.
    """
    choice = read(name)
    recipe = {} if choice.options.get("recipe") is None else {"non_object_weight"}
    for option in recipe - choice.options.keys():
        cfg.model.criterion.inst_criterion.pop(option, None)  # the shipped config's would win over the recipe's
    cfg.model.criterion.inst_criterion.update(choice.options)
    if not choice.decoder:
        return
    if cfg.model.type == "ScanNetOneFormer3D" and "start" in choice.decoder:
        raise ValueError(f"{name}: queries of ScanNet's decoder are superpoints, it takes no start")
    decoder, model = _DECODERS[cfg.model.type]
    cfg.model.decoder.update(type=decoder, **choice.decoder)
    if choice.decoder.get("start") == "voxels" or choice.decoder.get("pilots"):
        cfg.model.type = model
