"""Where a run of `predict` keeps its answers, so that it can be killed and go on.

While it runs, each process appends to `OUT.part-RANK`; at the end the rows stand in `OUT` in the order of the
samples. `OUT.run.json` records what made them, so that another model's answers are never mixed in.
"""

from __future__ import annotations

import contextlib
import dataclasses
import glob
import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from roborefer_spatial import __version__, files, predictions
from roborefer_spatial.predictions import Prediction


class Store:
    """The finished file `out`, the parts beside it, and the record of what made them."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.record = out.with_name(out.name + ".run.json")

    def part(self, rank: int) -> Path:
        """Return the file that process `rank` appends to."""
        return self.out.with_name(f"{self.out.name}.part-{rank:05d}")

    def claim(self, identity: dict[str, Any], *, restart: bool) -> None:
        """Record what makes the answers.

        Raises
        ------
        ValueError
            `out` holds answers made by something else, or was not written by a run of predict.
        """
        if restart:
            for path in (self.out, self.record, *self._parts()):
                path.unlink(missing_ok=True)
        if not self.record.is_file():
            if self.out.exists() or self._parts():
                raise ValueError(
                    f"{self.out} exists without {self.record.name}, so nothing says what made it; write to "
                    "another file, or pass --restart to replace it"
                )
            files.write_json(self.record, identity)
            return
        before = files.read_json_object(self.record)
        changed = [key for key in sorted({*before, *identity}) if before.get(key) != identity.get(key)]
        if changed:
            differences = "; ".join(f"{key} was {before.get(key)!r}, is {identity.get(key)!r}" for key in changed)
            raise ValueError(
                f"{self.out} was made differently: {differences}. Write to another file, or pass --restart "
                "to replace it"
            )

    def rows(self) -> dict[str, Prediction]:
        """Return one row per id: an answer before an error, a later row before an earlier one."""
        found: dict[str, Prediction] = {}
        for path in (self.out, *self._parts()):
            for row in predictions.read(path, unfinished=path != self.out) if path.is_file() else ():
                if row.text is not None or row.id not in found or found[row.id].text is None:
                    found[row.id] = row
        return found

    def merge(self, ids: Sequence[str]) -> None:
        """Write all rows to `out`, those of `ids` first and in their order; then remove the parts."""
        rows = self.rows()
        with files.atomic_open(self.out) as stream:
            for sample_id in dict.fromkeys((*ids, *rows)):
                if sample_id in rows:
                    stream.write((rows[sample_id].to_json() + "\n").encode())
        for path in self._parts():
            path.unlink()

    def _parts(self) -> list[Path]:
        return sorted(self.out.parent.glob(f"{glob.escape(self.out.name)}.part-[0-9]*"))


@contextlib.contextmanager
def append_rows(part: Path) -> Iterator[IO[str]]:
    """Open a part for appending, without the half row that a killed process may have left at its end."""
    part.parent.mkdir(parents=True, exist_ok=True)
    if part.is_file():
        data = part.read_bytes()
        with part.open("r+b") as torn:
            torn.truncate(data.rfind(b"\n") + 1)
    with part.open("a", encoding="utf-8") as stream:
        yield stream


def run_identity(samples_file: Path, backend: str, options: Any) -> dict[str, Any]:
    """Return what determines a run's answers: version, backend, options, the samples and the checkpoint."""
    chosen = {
        key: str(value) if isinstance(value, Path) else value for key, value in dataclasses.asdict(options).items()
    }
    identity = {
        "version": __version__,
        "backend": backend,
        "options": chosen,
        "samples_sha256": hashlib.sha256(samples_file.read_bytes()).hexdigest(),
    }
    model = chosen.get("model")
    if model and Path(model).is_dir():
        identity["checkpoint"] = _folder_state(Path(model))
    return identity


def _folder_state(folder: Path) -> str:
    """Return a digest of names, sizes and times: a checkpoint trained further is another one."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            status = path.stat()
            digest.update(f"{path.relative_to(folder)}\0{status.st_size}\0{status.st_mtime_ns}\0".encode())
    return digest.hexdigest()
