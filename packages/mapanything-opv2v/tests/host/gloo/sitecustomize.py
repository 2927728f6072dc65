"""Let MapAnything's own DDP code, which knows GPUs and NCCL only, run in several processes on a CPU. Tests only.

Python runs this file at start where its folder is on PYTHONPATH, before `shims`, whose work it does too.
"""

import functools
import runpy
from pathlib import Path

import torch

_SHIMS = runpy.run_path(str(Path(__file__).parents[1] / "shims" / "sitecustomize.py"))
_init, _ddp = torch.distributed.init_process_group, torch.nn.parallel.DistributedDataParallel


@functools.wraps(_init)
def _gloo(backend=None, **options):
    return _init(backend="gloo", **options)


def _on_cpu(model, device_ids=None, **options):
    return _ddp(model, **options)


torch.distributed.init_process_group = _gloo
torch.nn.parallel.DistributedDataParallel = _on_cpu
torch.cuda.set_device = lambda device: None
torch.Tensor.cuda = lambda self, *args, **options: self
