"""x3 spatial tasks for RoboRefer: build task sets, ask models, score answers.

Importing the package loads nothing else; each name below is imported when it is first used.
"""

import importlib
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from roborefer_spatial.answers import NOT_VISIBLE, Parsed, format_points, parse
    from roborefer_spatial.host.data.dataset import LazySupervisedSpatialDataset
    from roborefer_spatial.host.data.registry import make_entry, register
    from roborefer_spatial.look.report import Run, write_report
    from roborefer_spatial.predicting.predict import predict
    from roborefer_spatial.predictions import Prediction
    from roborefer_spatial.sample import Sample, load_samples
    from roborefer_spatial.scoring.metrics import by_set
    from roborefer_spatial.scoring.score import ScoreOptions, Scores, score
    from roborefer_spatial.synthetic.tree import write_scenes
    from roborefer_spatial.tasks.build import build
    from roborefer_spatial.tasks.object_samples import BuildOptions

__version__ = version("roborefer-spatial")

_HOME = {
    "NOT_VISIBLE": "answers",
    "Parsed": "answers",
    "format_points": "answers",
    "parse": "answers",
    "Sample": "sample",
    "load_samples": "sample",
    "Prediction": "predictions",
    "BuildOptions": "tasks.object_samples",
    "build": "tasks.build",
    "predict": "predicting.predict",
    "ScoreOptions": "scoring.score",
    "Scores": "scoring.score",
    "score": "scoring.score",
    "by_set": "scoring.metrics",
    "Run": "look.report",
    "write_report": "look.report",
    "write_scenes": "synthetic.tree",
    # these need a RoboRefer checkout on the path
    "LazySupervisedSpatialDataset": "host.data.dataset",
    "make_entry": "host.data.registry",
    "register": "host.data.registry",
}
"""Public name -> module that defines it."""

__all__ = [
    "NOT_VISIBLE",
    "BuildOptions",
    "LazySupervisedSpatialDataset",
    "Parsed",
    "Prediction",
    "Run",
    "Sample",
    "ScoreOptions",
    "Scores",
    "__version__",
    "build",
    "by_set",
    "format_points",
    "load_samples",
    "make_entry",
    "parse",
    "predict",
    "register",
    "score",
    "write_report",
    "write_scenes",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
