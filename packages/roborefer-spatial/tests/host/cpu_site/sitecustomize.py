"""CPU only: lets PyPI's torchvision be imported beside a CPU build of torch.

The CPU build lacks the kernels of torchvision's extension, so that its import fails at two unknown operators.
"""

import importlib.abc
import importlib.machinery
import sys


class _BeforeTorchvision(importlib.abc.MetaPathFinder):
    def find_spec(self, fullname, path, target=None):
        if fullname == "torchvision":
            sys.meta_path.remove(self)
            import torch

            library = torch.library.Library("torchvision", "FRAGMENT")
            for name in ("nms", "qnms"):
                if not hasattr(torch.ops.torchvision, name):
                    library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
            type(self).library = library  # an operator lives as long as its library


sys.meta_path.insert(0, _BeforeTorchvision())
