"""The files of a build: sample sets as JSON and JSONL, and the manifest that says how they came about."""

from __future__ import annotations

import contextlib
import hashlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from roborefer_spatial.files import atomic_open, write_json
from roborefer_spatial.tasks.object_samples import UidResult
from roborefer_spatial.tasks.scenes import REASONS, Skip

MANIFEST = "manifest.json"
SET_NAMES = tuple(
    f"{family}_{split}_{kind}"
    for family, kinds in (("t1", ("multi", "concat")), ("t2a", ("multi",)), ("t2b", ("multi",)))
    for split in ("train", "val")
    for kind in kinds
)
"""Every set that a build can write, each as NAME.json and NAME.jsonl."""


class _HashedFile:
    """A growing file whose size and hash are known at the end."""

    def __init__(self, stream: IO[bytes]) -> None:
        self.stream, self.sha256, self.bytes = stream, hashlib.sha256(), 0

    def write(self, data: bytes) -> None:
        self.stream.write(data)
        self.sha256.update(data)
        self.bytes += len(data)


class SetWriter:
    """Collects rows into sets; all files appear together when the `writing` block ends without an error."""

    def __init__(self, out_dir: Path) -> None:
        self.out_dir = out_dir
        self.counts: dict[str, Counter[str]] = {}
        self.members: dict[str, dict[str, set[str]]] = {}
        self.ids = 0
        self._files: dict[str, tuple[_HashedFile, _HashedFile]] = {}
        self._stack = contextlib.ExitStack()

    def add(self, result: UidResult) -> None:
        """Append the rows of one object."""
        for name, visible, line, line_jsonl in result.rows:
            assert name in SET_NAMES, name
            if name not in self._files:
                files = [
                    _HashedFile(self._stack.enter_context(atomic_open(self.out_dir / f"{name}.{suffix}")))
                    for suffix in ("json", "jsonl")
                ]
                self._files[name] = (files[0], files[1])
                self.counts[name] = Counter()
                self.members[name] = {"scenes": set(), "uids": set()}
            as_json, as_jsonl = self._files[name]
            as_json.write((",\n" if self.counts[name]["samples"] else "[\n").encode() + line.encode())
            as_jsonl.write(line_jsonl.encode() + b"\n")
            self.counts[name].update(samples=1, visible=int(visible), not_visible=int(not visible))
            self.members[name]["scenes"].add(result.uid.scene)
            self.members[name]["uids"].add(result.uid.where)

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Write sets inside of this block. On success the old sets and manifest give way to the new sets."""
        with self._stack:
            yield
            for as_json, _ in self._files.values():
                as_json.write(b"\n]\n")
            # without its manifest a folder is unfinished: whoever reads it now knows
            (self.out_dir / MANIFEST).unlink(missing_ok=True)
        for name in set(SET_NAMES) - set(self._files):
            for suffix in ("json", "jsonl"):
                (self.out_dir / f"{name}.{suffix}").unlink(missing_ok=True)

    def describe(self) -> dict[str, Any]:
        """Return counts, sizes and hashes of the sets for the manifest."""
        return {
            name: {
                **self.counts[name],
                **{what: len(members) for what, members in self.members[name].items()},
                "files": {
                    f"{name}.{suffix}": {"bytes": file.bytes, "sha256": file.sha256.hexdigest()}
                    for suffix, file in zip(("json", "jsonl"), self._files[name])
                },
            }
            for name in SET_NAMES
            if name in self._files
        }


class Tally:
    """What a build read, skipped and drew, over all objects."""

    def __init__(self) -> None:
        self.uids = self.files = self.images_written = self.images_reused = 0
        self.skipped: list[Skip] = []
        self._inputs = hashlib.sha256()
        self._pictures: dict[str, dict[str, str]] = {"train": {}, "val": {}}

    def add(self, result: UidResult) -> None:
        """Count one object; ValueError when one of its pictures is in the other split, too."""
        uid = result.uid
        self.uids += 1
        self.files += len(result.digests)
        for name in sorted(result.digests):
            self._inputs.update(f"{uid.where}/{name}\0{result.digests[name]}\n".encode())
        self.images_written += sum(result.images.values())
        self.images_reused += len(result.images) - sum(result.images.values())
        self.skipped += result.skipped
        other = self._pictures["val" if uid.split == "train" else "train"]
        for digest in result.originals:
            self._pictures[uid.split].setdefault(digest, uid.where)
            if digest in other:
                raise ValueError(
                    f"{uid.where} and {other[digest]} hold the same picture, one in the training and one in "
                    "the validation split: the same room under two names? Keep every room in one split"
                )

    def reasons(self) -> dict[str, int]:
        """Return how often each reason occurred, most frequent first."""
        return dict(Counter(skip.reason for skip in self.skipped).most_common())

    def describe(self) -> dict[str, Any]:
        """Return the manifest's account of inputs, images and what was left out."""
        return {
            "inputs": {"uids": self.uids, "files": self.files, "sha256": self._inputs.hexdigest()},
            "images": {"written": self.images_written, "reused": self.images_reused},
            "skipped": {
                "counts": self.reasons(),
                "meaning": {reason: REASONS[reason] for reason in self.reasons()},
                "items": [{"where": s.where, "reason": s.reason, "detail": s.detail} for s in self.skipped],
            },
        }


def write_manifest(out_dir: Path, content: dict[str, Any]) -> None:
    """Write the manifest, the last file of a build."""
    write_json(out_dir / MANIFEST, content)
