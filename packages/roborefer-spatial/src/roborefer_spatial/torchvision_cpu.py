"""Lets transformers be imported where torchvision's compiled part does not fit torch.

transformers imports torchvision wherever it is installed. PyPI's torchvision beside a CPU build of torch (or
a torchvision of another release) cannot load its compiled part, and then its import stops at two operators
that it expects to be declared, torchvision::nms and torchvision::qnms. Declaring them, unimplemented,
lets the import through; the transforms, which are plain torch, work, and calling nms raises. Nothing is done
where torchvision imports by itself, or is not installed.

Backends, demo and the repairs of the host all use this module, and so do the tests.
"""

from __future__ import annotations

import importlib.util
import logging
import sys
from typing import Any

log = logging.getLogger(__name__)

_OPERATORS = ("nms", "qnms")
_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_library: Any = None  # an operator lives as long as its library


def lacks_operators() -> bool:
    """Say whether torchvision is installed and its import stops at the operators of its compiled part.

    Raises
    ------
    RuntimeError
        torchvision cannot be imported for another reason.
    """
    if importlib.util.find_spec("torchvision") is None:
        return False
    try:
        import torchvision  # noqa: F401
    except RuntimeError as error:
        if "torchvision::nms does not exist" not in str(error):
            raise
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]  # what the failed import left
        return True
    return False


def make_importable() -> bool:
    """Declare the missing operators if that is what keeps torchvision from being imported.

    Returns
    -------
    bool
        Whether anything was declared.

    Raises
    ------
    RuntimeError
        torchvision cannot be imported for another reason.
    """
    global _library
    if not lacks_operators():
        return False
    import torch

    _library = torch.library.Library("torchvision", "FRAGMENT")
    for operator in _OPERATORS:
        _library.define(operator + _SCHEMA)
    import torchvision  # noqa: F401

    log.warning("torchvision's compiled part does not fit torch %s: its nms cannot be used", torch.__version__)
    return True
