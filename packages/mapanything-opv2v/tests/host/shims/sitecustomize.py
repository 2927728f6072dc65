"""Let torchvision be imported beside a CPU-only torch: two operators that it refers to must exist.

Python runs this file at start where its folder is on PYTHONPATH. Tests only.
"""

import torch

_LIBRARY = torch.library.Library("torchvision", "FRAGMENT")
for _name in ("nms", "qnms"):
    if not hasattr(torch.ops.torchvision, _name):
        _LIBRARY.define(f"{_name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
