"""`--cfg-options`: refuse what mmengine would merge into the config without anything ever reading it."""

from __future__ import annotations

import argparse
import difflib
import inspect
from collections.abc import Sequence
from typing import Any

from mmengine.config import DictAction
from mmengine.runner import Runner

_OTHERS = {"custom_imports", "model_wrapper_cfg", "runner_type", "tta_model", "find_unused_parameters", "sync_bn"}
_FREE = ("model.test_cfg.", "model.train_cfg.")
"""Dicts that the host reads by key: an unknown one is read by nobody."""


def parse_options(words: Sequence[str]) -> dict[str, Any]:
    """Turn KEY=VALUE words into values as mmengine's own command lines do."""
    for word in words:
        if "=" not in word:
            raise ValueError(f"--cfg-options takes KEY=VALUE, got {word!r}")
    parser = argparse.ArgumentParser()
    parser.add_argument("--options", nargs="*", action=DictAction, default={})
    return dict(parser.parse_args(["--options", *words]).options)


def check_options(cfg: Any, options: dict[str, Any]) -> None:
    """Raise ValueError for an option that no part of a run reads; the parts themselves refuse their unknown ones.

    Parameters
    ----------
    cfg : Config
        Before the options are merged.
    options : dict
        Dotted key to value.
    """
    read = sorted((set(inspect.signature(Runner.__init__).parameters) - {"self", "cfg"}) | _OTHERS)
    for key in options:
        first = key.split(".")[0]
        if first in read:
            _check_free(cfg, key)
        elif first in cfg:
            raise ValueError(
                f"--cfg-options {key}: {first} is a variable of the config file, which has been read already: "
                f"nothing would change. Set the places that use it, e.g. model.{first} if there is one"
            )
        else:
            raise ValueError(f"--cfg-options {key}: no part of a run reads {first!r}.{_closest(first, read)}")


def _check_free(cfg: Any, key: str) -> None:
    for prefix in _FREE:
        known: Any = cfg
        for part in prefix.rstrip(".").split("."):
            known = (known or {}).get(part)
        name = key.removeprefix(prefix).split(".")[0]
        if key.startswith(prefix) and known and name not in known:
            raise ValueError(f"--cfg-options {key}: the host reads no {name!r} there.{_closest(name, sorted(known))}")


def _closest(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return (f" Did you mean {close[0]!r}?" if close else "") + f" Known: {', '.join(known)}"
