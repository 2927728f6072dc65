"""Whether the fused kernels are right on this GPU: tried once against plain torch, and kept on disk.

The trial is a process of its own, so that a kernel that fails there does no harm here. It is started by its name,
`influencer_mmdet3d.host.kernel_trial`: it needs the criterion, which this layer does not know. What it finds holds for
the GPU's model and the versions of torch, CUDA, Triton and these kernels.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import torch

from influencer_mmdet3d.files import write_whole

_MODULE = "influencer_mmdet3d.host.kernel_trial"
_SECONDS = 900  # after which a trial is given up; compilation takes about one
_EXCLUSIVE = "busy or unavailable"  # CUDA's words where a GPU takes other programs through MPS alone


class Verdict(NamedTuple):
    """What a trial found.

    Attributes
    ----------
    passed : bool
        Whether 'auto' takes the kernels.
    reason : str
        Why not, as the end of a sentence that begins with "the kernels"; else what agreed.
    times : mapping
        Size: milliseconds of a step of plain torch and of the kernels; empty where nothing was timed.
    """

    passed: bool
    reason: str
    times: Mapping[str, tuple[float, float]] = {}


def store() -> Path:
    """Return the file that keeps verdicts, in the user's cache folder."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "influencer-mmdet3d" / "kernels.json"


def key(device: torch.device) -> str:
    """Return what a verdict holds for."""
    import triton

    major, minor = torch.cuda.get_device_capability(device)
    return (
        f"{torch.cuda.get_device_name(device)} ({major}.{minor}), torch {torch.__version__}, "
        f"CUDA {torch.version.cuda}, triton {triton.__version__}, "
        f"influencer-mmdet3d {version('influencer-mmdet3d')} {_digest()}"
    )


@functools.cache
def _digest() -> str:
    """Tell versions of the kernels' source apart."""
    found = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        found.update(path.read_bytes())
    return found.hexdigest()[:12]


def recall(device: torch.device) -> Verdict | None:
    """Return the verdict that is kept, or None."""
    entry = _read().get(key(device))
    return None if entry is None else Verdict(entry["passed"], entry["reason"], entry["times"])


def _read() -> dict[str, Any]:
    try:
        found = json.loads(store().read_text(encoding="utf-8"))
    except (OSError, ValueError):  # none yet, or not readable: the trial is made again
        return {}
    return found if isinstance(found, dict) else {}


@functools.cache
def verdict(device: torch.device) -> Verdict:
    """Return the verdict that is kept, or make the trial; processes that start together wait for the first one."""
    with _alone():
        return recall(device) or make_trial(device)


def make_trial(device: torch.device, *, times: bool = False) -> Verdict:
    """Run the trial and keep what it finds; a trial that could not be made counts as failed, and is not kept.

    Parameters
    ----------
    device : torch.device
        The GPU.
    times : bool
        Also time a step.
    """
    number = torch.cuda.current_device() if device.index is None else device.index
    command = [sys.executable, "-m", _MODULE, str(number), *(["--times"] if times else [])]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    # Through NVIDIA's MPS a fault of one program ends all: the trial's would end trainings, another's would be kept as
    # its verdict. So the trial looks for MPS where there is none, unless the GPU takes no program otherwise.
    apart = {**env, "CUDA_MPS_PIPE_DIRECTORY": str(store().parent / "no-mps")}
    try:
        done = subprocess.run(command, env=apart, capture_output=True, text=True, timeout=_SECONDS)
        if done.returncode and _EXCLUSIVE in done.stderr:
            done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        return Verdict(False, f"could not be tried: {error}")
    lines = done.stdout.splitlines()
    if done.returncode or not lines:
        last = (done.stderr.splitlines() or ["no message"])[-1]
        return Verdict(False, f"could not be tried: exit status {done.returncode}, {last}")
    found = Verdict(**json.loads(lines[-1]))
    with contextlib.suppress(OSError):  # a home that cannot be written to: each process makes its own trial
        write_whole(store(), json.dumps({**_read(), key(device): found._asdict()}, indent=1))
    return found


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Hold a lock beside the store, where it can be written to."""
    import fcntl

    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            store().parent.mkdir(parents=True, exist_ok=True)
            file = stack.enter_context(store().with_suffix(".lock").open("w"))
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
