"""What an output folder is trained on, recorded at the start, so that a resumed run does not change it unseen."""

from __future__ import annotations

import argparse
import hashlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from roborefer_spatial import __version__, files
from roborefer_spatial.curriculum import load_curriculum

logger = logging.getLogger(__name__)

NAME = "x3_run.json"

_RECIPE = (
    "model_name_or_path", "freeze_vision", "image_aspect_ratio", "model_max_length", "per_device_train_batch_size",
    "gradient_accumulation_steps", "learning_rate", "seed", "dtype",
)  # fmt: skip


def record_of(args: argparse.Namespace) -> dict[str, Any]:
    """Return the record of a run: its data by content, and the recipe.

    "data" is a list of {"file", "sha256"} for `--data`, of stages with such lists for `--curriculum`, or the
    names of `--data_mixture`.
    """
    data: Any = args.data_mixture
    if args.data:
        data = [_file(path) for path in args.data]
    elif args.curriculum is not None:
        stages = load_curriculum(args.curriculum, args.data_root).stages
        data = [{"stage": s.name, "until": s.max_steps, "data": [_file(path) for path in s.data]} for s in stages]
    depth = None if args.depth_path is None else str(args.depth_path.absolute())
    recipe = {name: getattr(args, name) for name in _RECIPE}
    recipe["model_name_or_path"] = str(args.model_name_or_path.absolute())
    return {"version": __version__, "data": data, "depth_path": depth, "recipe": recipe}


def _file(path: Path) -> dict[str, str]:
    return {"file": str(path.absolute()), "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


def check(output_dir: Path, now: dict[str, Any], *, resuming: bool) -> None:
    """Compare a run with what its folder was trained on so far; another recipe is a warning.

    Raises
    ------
    ValueError
        Other training files, or other content in them, or a record that cannot be read.
    """
    path = output_dir / NAME
    if not path.is_file():
        if resuming:
            logger.warning("%s has no %s: nothing says which data its checkpoints were trained on", output_dir, NAME)
        return
    try:
        before = files.read_json(path)
        was, recipe = before["data"], before["recipe"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: not a record of a training run ({error}); delete it to go on without") from error
    same_kind = (before.get("depth_path") is None) == (now["depth_path"] is None)
    if not same_kind or _content(was) != _content(now["data"]):
        raise ValueError(
            f"{output_dir} was trained on {_shown(was, before.get('depth_path'))}; now it is "
            f"{_shown(now['data'], now['depth_path'])}. "
            "Train on other data into another --output_dir, with this one as --model_name_or_path"
        )
    for name, value in now["recipe"].items():
        if recipe.get(name) != value:
            logger.warning("%s: %s was %s, is %s", output_dir, name, recipe.get(name), value)


def write(output_dir: Path, record: dict[str, Any]) -> None:
    """Write a run's record into its folder."""
    files.write_json(output_dir / NAME, record)


def _content(data: Any) -> Any:
    """Return the data without the files' places: a folder may move."""
    if isinstance(data, list):
        return [_content(item) for item in data]
    if isinstance(data, dict):
        return {key: _content(value) for key, value in data.items() if key != "file"}
    return data


def _shown(data: Any, depth_path: str | None) -> str:
    names = data if isinstance(data, str) else ", ".join(_names(data))
    return f"{names} with depth of {depth_path}" if depth_path else names


def _names(data: Any) -> Iterator[str]:
    for item in data if isinstance(data, list) else [data]:
        if "stage" in item:
            yield f"{item['stage']} ({', '.join(_names(item['data']))}, to step {item['until']})"
        else:
            yield f"{item['file']} (sha256 {item['sha256'][:12]})"
