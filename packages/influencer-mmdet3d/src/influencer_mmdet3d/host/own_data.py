"""The host's datasets with classes from the data folder; a config names this module in `custom_imports`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmdet3d.registry import DATASETS
from oneformer3d import S3DISSegDataset_, ScanNetSegDataset_

from influencer_mmdet3d.data.formats import CLASS_FILE, read_classes

BASES = {"s3dis": S3DISSegDataset_, "scannet": ScanNetSegDataset_}


@DATASETS.register_module()
def FolderDataset(
    data_root: str,
    class_file: str = CLASS_FILE,
    base: str = "s3dis",
    order: Sequence[int] | None = None,
    **options: Any,
) -> Any:
    """Build the dataset of a folder.

    Parameters
    ----------
    data_root : str
        The folder.
    class_file : str
        File in it with the names of the classes, one a line in the order of the labels.
    base : {'s3dis', 'scannet'}
        Which of the host's datasets.
    order : sequence of int, optional
        Labels of the files in the order in which the model has them; the host's ScanNet models have stuff first.
    **options
        Of the host's dataset.
    """
    names = read_classes(Path(data_root, class_file))
    count = len(names)
    order = tuple(range(count)) if order is None else tuple(order)
    if base not in BASES or sorted(order) != list(range(count)):
        raise ValueError(
            f"FolderDataset: base must be one of {sorted(BASES)} and order must hold each of 0 to {count - 1} once, "
            f"got {base!r} and {list(order)}; `influencer-mmdet3d new-config` writes both"
        )
    metainfo = {
        "classes": tuple(names[label] for label in order),
        "palette": [[37 * k % 256, 101 * k % 256, 173 * k % 256] for k in range(1, count + 1)],
        "seg_valid_class_ids": order,
        "seg_all_class_ids": tuple(range(count + 1)),
    }
    if base == "scannet":
        options.setdefault("metainfo", {"classes": metainfo["classes"]})  # mmdet3d asks it, METAINFO or not
    # mmdet3d reads METAINFO from the class, before an instance could say anything
    kind = type("FolderDataset", (BASES[base],), {"METAINFO": metainfo, "__module__": __name__})
    return kind(data_root=data_root, **options)
