"""Two operators that torchvision refers to when it is imported.

PyPI's torchvision cannot load its compiled part beside a torch built for CPUs only, and then fails at import, since
these names are missing. Nothing here calls them.
"""

from __future__ import annotations

import torch

_defined: list[torch.library.Library] = []
"""The names exist as long as what defined them."""


def define_missing() -> bool:
    """Define the operators if torchvision has not brought its own; say whether that was needed."""
    try:
        import torchvision  # noqa: F401
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
    else:
        return False
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _defined.append(library)
    return True
