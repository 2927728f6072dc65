"""What an output folder of the host holds: finished or not, at which step, which checkpoints."""

from __future__ import annotations

import re
from pathlib import Path

from roborefer_spatial.files import read_json

_CHECKPOINT = re.compile(r"checkpoint-(\d+)")


def is_finished(output_dir: Path) -> bool:
    """Say whether the host would take a folder for a finished run."""
    return (output_dir / "config.json").is_file()


def steps_done(folder: Path) -> int | None:
    """Return the optimizer step of a folder's `trainer_state.json`, or None without one.

    Raises
    ------
    ValueError
        If the file is not what transformers writes.
    """
    path = folder / "trainer_state.json"
    if not path.is_file():
        return None
    try:
        return int(read_json(path)["global_step"])
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise ValueError(
            f"{path}: no trainer state of transformers ({error}); delete the folder or restore it"
        ) from error


def checkpoints(output_dir: Path) -> list[Path]:
    """Return `checkpoint-N` folders, lowest step first."""
    found = [
        (int(match[1]), path)
        for path in (output_dir.iterdir() if output_dir.is_dir() else ())
        if path.is_dir() and (match := _CHECKPOINT.fullmatch(path.name))
    ]
    return [path for _, path in sorted(found)]


def latest_checkpoint(output_dir: Path) -> Path | None:
    """Return the checkpoint that a resumed run starts from.

    Raises
    ------
    ValueError
        If it is incomplete, as a copy that broke off leaves it.
    """
    found = checkpoints(output_dir)
    if not found:
        return None
    last = found[-1]
    missing = [name for name in ("config.json", "trainer_state.json", "llm") if not (last / name).exists()]
    if missing:
        raise ValueError(
            f"{last} is incomplete (no {', '.join(missing)}): a resumed run would fail on it; delete it "
            "to resume from "
            f"{found[-2].name if len(found) > 1 else 'the beginning'}"
        )
    return last
