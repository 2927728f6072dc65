"""Import this before `oneformer3d`: the unmodified host runs without compiled mmcv ops and GPU, with new NumPy."""

import importlib.machinery
import sys
import types

import numpy as np
import torch


class _Ops(types.ModuleType):
    """`mmcv._ext` without compiled code: importable, and an error where an op is called."""

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)

        def op(*args, **kwargs):
            raise RuntimeError(f"mmcv op {name} needs the full mmcv, mmcv-lite is installed")

        return op


_ops = _Ops("mmcv._ext")
_ops.__spec__ = importlib.machinery.ModuleSpec("mmcv._ext", None)  # mmengine asks for a loader: there is none
sys.modules.setdefault("mmcv._ext", _ops)

if not hasattr(np, "in1d"):  # NumPy 2.4 took it away, the host's metric calls it
    np.in1d = np.isin  # noqa: NPY201

if not torch.cuda.is_available():
    import spconv.pytorch.ops

    # spconv 2.3.8 asks for a CUDA stream in every backward pass, on the CPU too
    spconv.pytorch.ops.get_current_stream = lambda: 0
    torch.cuda.set_device = lambda device: None  # mmengine selects a GPU whatever the backend
