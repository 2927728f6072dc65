"""The host's S3DIS dataset with classes from the data folder; a config names this module in `custom_imports`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mmdet3d.registry import DATASETS
from oneformer3d import S3DISSegDataset_

from influencer_mmdet3d.data.formats import CLASS_FILE, read_classes


@DATASETS.register_module()
def FolderDataset(data_root: str, class_file: str = CLASS_FILE, **options: Any) -> Any:
    """Build the dataset of a folder.

    Parameters
    ----------
    data_root : str
        The folder.
    class_file : str
        File in it with the names of the classes, one a line in the order of the labels.
    **options
        Of the host's `S3DISSegDataset_`.
    """
    names = read_classes(Path(data_root, class_file))
    count = len(names)
    metainfo = {
        "classes": tuple(names),
        "palette": [[37 * k % 256, 101 * k % 256, 173 * k % 256] for k in range(1, count + 1)],
        "seg_valid_class_ids": tuple(range(count)),
        "seg_all_class_ids": tuple(range(count + 1)),
    }
    # mmdet3d reads METAINFO from the class, before an instance could say anything
    kind = type("FolderDataset", (S3DISSegDataset_,), {"METAINFO": metainfo, "__module__": __name__})
    return kind(data_root=data_root, **options)
