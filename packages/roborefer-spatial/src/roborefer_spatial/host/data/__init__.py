"""x3 rows as RoboRefer's training takes them.

`roborefer_spatial.host.data.LazySupervisedSpatialDataset` is the name that registry YAMLs hold.
"""

from typing import Any

__all__ = ["LazySupervisedSpatialDataset"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from roborefer_spatial.host.data.dataset import LazySupervisedSpatialDataset

        return LazySupervisedSpatialDataset
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
