"""ScanNet-style AP with mmdet3d's own evaluator.

``import mmdet3d`` needs mmcv's compiled ops, the evaluator is numpy only. It is therefore loaded from the
installed mmdet3d under a name of its own, without running mmdet3d's ``__init__``.
"""

from __future__ import annotations

import functools
import importlib.util
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from mmengine.evaluator import BaseMetric
from mmengine.registry import METRICS

from influencer_mmdet3d.host.recipe import pinned

_NAME = "influencer_mmdet3d._mmdet3d_scannet_utils"
HOW_TO_INSTALL = f"pip install matplotlib && pip install --no-deps {pinned('mmdet3d')}"
"""What the demo needs beside the package; of mmdet3d only the evaluator, which wants nothing of what mmdet3d wants."""


@functools.cache
def scannet_eval() -> Callable[..., dict[str, Any]]:
    """Return ``mmdet3d.evaluation.functional.scannet_utils.scannet_eval``.

    Raises
    ------
    ImportError
        If mmdet3d is not installed, or has no such module.
    """
    found = importlib.util.find_spec("mmdet3d")
    if found is None or not found.submodule_search_locations:
        raise ImportError(f"the evaluation is mmdet3d's: {HOW_TO_INSTALL}")
    folder = Path(found.submodule_search_locations[0]) / "evaluation" / "functional" / "scannet_utils"
    spec = importlib.util.spec_from_file_location(
        _NAME, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    if spec is None or spec.loader is None or not (folder / "__init__.py").is_file():
        raise ImportError(f"{folder} is not there: mmdet3d 1.1 to 1.4 is expected")
    module = importlib.util.module_from_spec(spec)
    sys.modules[_NAME] = module
    spec.loader.exec_module(module)
    function: Callable[..., dict[str, Any]] = module.scannet_eval
    if not hasattr(np, "in1d"):  # left out by numpy 2.4, which mmdet3d 1.4 does not know
        function.__globals__["np"] = SimpleNamespace(**vars(np), in1d=np.isin)
    return function


def average_precision(
    rooms: Sequence[dict[str, Any]], classes: Sequence[str], min_points: int = 50
) -> dict[str, float]:
    """Evaluate the predictions of all rooms together.

    Parameters
    ----------
    rooms : sequence of dict
        Each has ``semantic`` (N,) labels, ``instance`` (N,) ids from 0 and ``found``, with ``masks`` (P, N) bool,
        ``labels`` (P,), ``scores`` (P,); tensors.
    classes : sequence of str
        Names of the labels 0, 1, ...
    min_points : int
        Instances with fewer points are ignored, in truth and prediction (ScanNet's own limit is 100).

    Returns
    -------
    dict
        ``ap`` (mean over IoU 0.5 to 0.95), ``ap50``, ``ap25``, and ``ap50/<class>`` for each class that occurs.
    """
    truths, predictions = [], []
    for number, room in enumerate(rooms):
        semantic, instance = room["semantic"].cpu().numpy(), room["instance"].cpu().numpy()
        truths.append((semantic + 1) * 1000 + instance + 1)  # ScanNet's coding; label 0 means unlabelled there
        found = room["found"]
        masks, labels, scores = (part.cpu().numpy() for part in (found.masks, found.labels, found.scores))
        predictions.append(
            {
                f"{number}_{i}": {"mask": masks[i], "label_id": int(labels[i]) + 1, "conf": float(scores[i])}
                for i in range(len(masks))
            }
        )
    ids = tuple(range(1, len(classes) + 1))
    result = scannet_eval()(
        preds=predictions,
        gts=truths,
        options={"min_region_sizes": np.array([min_points])},
        valid_class_ids=ids,
        class_labels=tuple(classes),
        id_to_label=dict(zip(ids, classes)),
    )
    per_class = {name: float(values["ap50%"]) for name, values in result["classes"].items()}
    return {
        "ap": float(result["all_ap"]),
        "ap50": float(result["all_ap_50%"]),
        "ap25": float(result["all_ap_25%"]),
        **{f"ap50/{name}": value for name, value in per_class.items() if np.isfinite(value)},
    }


@METRICS.register_module()
class DemoInstanceMetric(BaseMetric):
    """`average_precision` for mmengine's evaluation loop.

    Parameters
    ----------
    classes : sequence of str
        Names of the labels.
    min_points : int
        See `average_precision`.

    Attributes
    ----------
    rooms : list of dict
        Ground truth and predictions of the last evaluation.
    """

    default_prefix = "val"

    def __init__(self, classes: Sequence[str], min_points: int = 50, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.classes, self.min_points = list(classes), min_points
        self.rooms: list[dict[str, Any]] = []

    def process(self, data_batch: Any, data_samples: Sequence[dict[str, Any]]) -> None:
        """Keep the predictions of a batch."""
        self.results.extend(data_samples)

    def compute_metrics(self, results: list[dict[str, Any]]) -> dict[str, float]:
        """Evaluate all rooms."""
        self.rooms = list(results)
        return average_precision(results, self.classes, self.min_points)
