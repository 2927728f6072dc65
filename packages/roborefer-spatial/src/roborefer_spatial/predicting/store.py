"""Where a run of `predict` keeps its answers, so that it can be killed and go on.

While it runs, each process appends to `OUT.part-RANK`; at the end the rows stand in `OUT` in the order of the
samples. `OUT.run.json` records what made them, so that another model's answers are never mixed in; it is
written with the first answer. What is replaced is set aside as `OUT.old-N`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import glob
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from roborefer_spatial import __version__, files, predictions
from roborefer_spatial.predicting import backends
from roborefer_spatial.predicting.profiles import Profile
from roborefer_spatial.predictions import Prediction


class Store:
    """The finished file `out`, the parts beside it, and the record of what made them."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.record = out.with_name(out.name + ".run.json")

    def part(self, rank: int) -> Path:
        """Return the file that process `rank` appends to."""
        return self.out.with_name(f"{self.out.name}.part-{rank:05d}")

    def check(self, identity: dict[str, Any], *, restart: bool) -> None:
        """See that a run may go on here, before its backend is made; nothing is claimed yet.

        What an earlier run left is never deleted: with `restart` it is set aside under another name, and so
        is what a run left that got no answer.

        Raises
        ------
        ValueError
            `out` holds answers made by something else, or was not written by a run of predict.
        """
        if restart:
            self.set_aside()
        if not self.record.is_file():
            if self.out.exists() or self._parts():
                raise ValueError(
                    f"{self.out} exists without {self.record.name}, so nothing says what made it; write to "
                    "another file, or pass --restart to set it aside"
                )
            return
        before = files.read_json_object(self.record)
        options = before.get("options", {})
        if not isinstance(options, dict) or not isinstance(options.get("url"), str | None):
            raise ValueError(f"{self.record}: no record of a run, its options are {options!r}; is it damaged?")
        differences = changes(before, identity)
        if not differences:
            return
        if not any(row.text is not None for row in self.rows().values()):
            self.set_aside()
            return
        raise ValueError(
            f"{self.out} was made differently: {'; '.join(differences)}. Write to another file, or pass "
            "--restart to set the old answers aside"
        )

    def claim(self, identity: dict[str, Any]) -> None:
        """Record what makes the answers; called with the first of them, by any process."""
        if not self.record.is_file():
            files.write_json(self.record, identity)

    def set_aside(self) -> Store | None:
        """Move what there is to `OUT.old-N`, with its record and parts; return that store, or None."""
        found = [path for path in (self.out, self.record, *self._parts()) if path.exists()]
        if not found:
            return None
        number = 1
        while any(self.out.parent.glob(f"{glob.escape(self.out.name)}.old-{number}*")):
            number += 1
        aside = Store(self.out.with_name(f"{self.out.name}.old-{number}"))
        for path in found:
            path.rename(self.out.with_name(aside.out.name + path.name.removeprefix(self.out.name)))
        return aside

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


def run_identity(
    samples_file: Path, backend: str, options: Any, *, depth: str = "use", profile: Profile | None = None
) -> dict[str, Any]:
    """Return the record of a run: version, backend, options, profile, the samples and the checkpoint.

    "same_answers" names the options that a later run may change, because they do not change answers.
    """
    chosen = {
        key: str(value) if isinstance(value, Path) else value for key, value in dataclasses.asdict(options).items()
    }
    identity: dict[str, Any] = {
        "version": __version__,
        "backend": backend,
        "options": chosen,
        "same_answers": sorted(backends.same_answers(backend, options)),
        "samples_sha256": hashlib.sha256(samples_file.read_bytes()).hexdigest(),
    }
    if profile is not None and not profile.asks_as_built:  # records of earlier versions have none
        identity["profile"] = profile.record()
    if depth != "use":
        identity["depth"] = depth
    model = chosen.get("model")
    if model and Path(model).is_dir():
        identity["checkpoint"] = _folder_state(Path(model))
    return identity


_INFORMATION = frozenset({"version", "same_answers"})
"""What a record says besides what determines the answers."""


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return what determines the answers and differs between two records, one phrase each.

    An option that an older record does not have counts as left out (None). A checkpoint folder is known by
    its content, wherever it lies. `http` servers are known by `server_name`, however their address is
    written.
    """
    free = set(now.get("same_answers", ()))
    if "checkpoint" in before and "checkpoint" in now:
        free.add("model")
    found = []
    for key in sorted({*before, *now} - _INFORMATION - {"options"}):
        if before.get(key) != now.get(key):
            found.append(f"{key} was {before.get(key)!r}, is {now.get(key)!r}")
    old, new = before.get("options", {}), now.get("options", {})
    for key in sorted({*old, *new} - free):
        was, is_now = old.get(key), new.get(key)
        if key == "url" and was and is_now and server_name(was) == server_name(is_now):
            continue
        if was != is_now:
            found.append(f"{key} was {was!r}, is {is_now!r}")
    return found


_THIS_MACHINE = frozenset({"localhost", "127.0.0.1", "::1", "0.0.0.0"})
_PORTS = {"http": 80, "https": 443}


def server_name(url: str) -> str:
    """Return a server's address in one spelling: case, default port, slash at the end, this machine's names."""
    parts = urlsplit(url)
    host = (parts.hostname or "").lower()
    host = "localhost" if host in _THIS_MACHINE else host
    return f"{parts.scheme}://{host}:{parts.port or _PORTS.get(parts.scheme)}{parts.path.rstrip('/')}"


def _folder_state(folder: Path) -> str:
    """Return a digest of names, sizes and times: a checkpoint trained further is another one."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            status = path.stat()
            digest.update(f"{path.relative_to(folder)}\0{status.st_size}\0{status.st_mtime_ns}\0".encode())
    return digest.hexdigest()
