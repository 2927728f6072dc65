"""Figures of many frames: files that grow whole by whole, a table, a summary."""

from __future__ import annotations

import csv
import io
import json
import logging
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mapanything_opv2v.evaluation.metrics import Figures, scale_applied
from mapanything_opv2v.files import read_json, write_bytes, write_json

logger = logging.getLogger(__name__)

FRAMES, FAILED, PROVENANCE, BASELINES = "frames", "failed", "provenance.json", "baselines"

RECORDED_LATER = {
    "baseline": "it is gone on with; its finished frames keep their figures and have no baselines beside them, so a "
    "comparison counts the new frames only. For baselines of all frames give another folder"
}
"""What earlier versions did not record, and what that means for a folder of theirs."""


def claim(folder: Path, provenance: Mapping[str, Any]) -> None:
    """Bind a folder to what makes its contents (checkpoint, data, options), or check that it is bound to that.

    Raises
    ------
    ValueError
        If the folder was begun with another provenance; names the differences.
    """
    path = folder / PROVENANCE
    wanted = json.loads(json.dumps(provenance))
    if path.is_file():
        there = read_json(path)
        if not isinstance(there, dict):
            raise ValueError(f"{path}: expected an object, got {type(there).__name__}; give another folder")
        later = {key: wanted[key] for key in RECORDED_LATER if key in wanted and key not in there}
        differ = sorted(key for key in {*there, *wanted} - {*later} if there.get(key) != wanted.get(key))
        if differ:
            listed = "; ".join(f"{key}: {there.get(key)!r} there, {wanted.get(key)!r} now" for key in differ)
            raise ValueError(f"{folder} holds results of another run ({listed}); give another folder")
        if later:
            for key in later:
                logger.warning("%s was begun before `%s` was recorded: %s", folder, key, RECORDED_LATER[key])
            write_json(path, {**there, **later})
    else:
        write_json(path, wanted)


class ResultsFolder:
    """A folder of one JSON per frame, bound to its provenance; several processes may fill it.

    A frame (`split/sequence/frame_agentID`) is done, failed or neither. What failed is tried again by the next run.
    """

    def __init__(self, folder: Path, provenance: Mapping[str, Any]) -> None:
        claim(folder, provenance)
        self.folder, self.provenance = folder, dict(provenance)

    def beside(self, name: str) -> ResultsFolder:
        """Return the folder of the same frames' figures by a baseline of this name."""
        return ResultsFolder(self.folder / BASELINES / name, self.provenance)

    def _path(self, name: str, kind: str = FRAMES) -> Path:
        return self.folder / kind / f"{name}.json"

    def has(self, name: str) -> bool:
        """Say whether a frame is done."""
        return self._path(name).is_file()

    def add(self, name: str, figures: Figures) -> None:
        """Keep a frame's figures, whole or not at all."""
        write_json(self._path(name), figures)
        self._path(name, FAILED).unlink(missing_ok=True)

    def fail(self, name: str, message: str) -> None:
        """Note why a frame has no figures."""
        write_json(self._path(name, FAILED), message)

    def load(self, names: Iterable[str]) -> dict[str, Figures]:
        """Return the figures of those of these frames that are done."""
        return {name: read_json(self._path(name)) for name in names if self.has(name)}

    def failures(self, names: Iterable[str]) -> dict[str, str]:
        """Return why those of these frames that failed did."""
        paths = {name: self._path(name, FAILED) for name in names}
        return {name: read_json(path) for name, path in paths.items() if path.is_file()}


def summarise(frames: Mapping[str, Figures]) -> dict[str, Any]:
    """Return mean, median, standard deviation, 90 % quantile and count of every figure.

    Every frame counts the same; frames in which a figure is None do not count for it. ``scale_applied`` counts
    the frames by `metrics.scale_applied`.
    """
    names = dict.fromkeys(name for figures in frames.values() for name in figures)
    summary: dict[str, Any] = {}
    for name in names:
        values = np.array([f[name] for f in frames.values() if f.get(name) is not None], dtype=np.float64)
        if values.size == 0:
            summary[name] = {"frames": 0}
            continue
        summary[name] = {
            "frames": int(values.size),
            "mean": float(values.mean()),
            "median": float(np.median(values)),
            "std": float(values.std()),
            "p90": float(np.quantile(values, 0.9)),
        }
    applied = Counter(scale_applied(f.get("scale_ratio"), f.get("metric_scale")) for f in frames.values())
    return {"frames": len(frames), "figures": summary, "scale_applied": dict(sorted(applied.items()))}


def scale_warning(summary: Mapping[str, Any]) -> str | None:
    """Return a warning if most frames look as if the metric scale were applied twice, or never."""
    for how in ("twice", "never"):
        count = summary["scale_applied"].get(how, 0)
        if count > summary["frames"] / 2:
            return (
                f"in {count} of {summary['frames']} frames the ranges look as if the metric scale were applied "
                f"{how}: their ratio to the truth is the predicted scale itself, or its inverse"
            )
    return None


def write_frames(folder: Path, frames: Mapping[str, Figures]) -> None:
    """Write `frames.csv`: a row per frame, sorted by name."""
    names = list(dict.fromkeys(name for figures in frames.values() for name in figures))
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["frame", *names])
    for frame in sorted(frames):
        values = (frames[frame].get(name) for name in names)
        table.writerow([frame, *("" if value is None else repr(value) for value in values)])
    write_bytes(folder / "frames.csv", text.getvalue().encode())


def write_tables(
    folder: Path,
    frames: Mapping[str, Figures],
    provenance: Mapping[str, Any],
    failed: Mapping[str, str],
    **more: Any,
) -> dict[str, Any]:
    """Write `frames.csv` and `summary.json` (with `more`); return the summary."""
    write_frames(folder, frames)
    summary = {**summarise(frames), **more, "failed": dict(failed), "provenance": dict(provenance)}
    write_json(folder / "summary.json", summary)
    return summary
