"""Config values as Python text: MapAnything turns its dataset and criterion strings into objects with `eval`.

It cuts its test strings at every `+`, so a `+` inside a string (a path, a transform) is escaped.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf

NO_ARGUMENTS = ("class_name", "samples_per_epoch", "dataset_str")
"""Keys of a dataset's config that are not arguments of its class; neither is any nested mapping."""


def python_literal(value: object) -> str:
    """Return a config value as Python text."""
    if OmegaConf.is_config(value):
        value = OmegaConf.to_container(value, resolve=True)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{python_literal(key)}: {python_literal(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(python_literal, value)) + "]"
    if isinstance(value, str):
        return repr(value).replace("+", r"\x2b")
    if isinstance(value, float) and not math.isfinite(value):
        return f"float('{value}')"
    return repr(value)


def dataset_call(name: str, *mappings: Mapping[str, Any]) -> str:
    """Return `name(key=value, ...)` of what the mappings say; where two have a key, the later one counts.

    A null is left out: the default of the class holds.

    Examples
    --------
    >>> dataset_call("OPV2VDataset", {"seed": None, "camera_ids": [0, 3]}, {"resolution": "(518, 392)"})
    'OPV2VDataset(camera_ids=[0, 3], resolution=(518, 392))'
    """
    arguments: dict[str, str] = {}
    for mapping in mappings:
        for key in mapping:
            value = None if key in NO_ARGUMENTS else mapping[key]
            if isinstance(value, Mapping) or value is None:
                continue
            arguments[str(key)] = python_literal(_from_text(value))
    return f"{name}({', '.join(f'{key}={value}' for key, value in arguments.items())})"


def dataset_call_at(name: str, *keys: str, _root_: DictConfig) -> str:
    """Return `dataset_call` of the mappings at these keys of a config: the resolver `opv2v_call`."""
    return dataset_call(name, *(OmegaConf.select(_root_, key, throw_on_missing=True) for key in keys))


def _from_text(value: object) -> object:
    """Return what a text in parentheses or brackets stands for: YAML has no tuples, MapAnything's sizes need them."""
    if not isinstance(value, str) or not value.startswith(("(", "[")):
        return value
    try:
        return ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return value
