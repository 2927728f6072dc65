"""What a run of the launcher left."""

from __future__ import annotations

import json


def text_of(done, folder):
    """Return all that a process said, and the logs in its folder."""
    logs = [path.read_text() for path in sorted(folder.rglob("*.log"))]
    return "\n".join([done.stdout, done.stderr, *logs])


def log_of(run_dir):
    """Return the lines of a run's log."""
    return [json.loads(line) for line in (run_dir / "log.txt").read_text().splitlines()]
