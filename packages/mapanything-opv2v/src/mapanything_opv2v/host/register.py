"""Put this package's names where MapAnything looks names up.

The host turns config strings into objects with `eval`: dataset strings in the module `mapanything.datasets`,
criterion strings in `mapanything.train.training`. Models are looked up in a dict, `mapanything.models.MODEL_CONFIGS`.
Names are added there; nothing of the host is touched.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

DATASETS_NAMESPACE = "mapanything.datasets"
LOSSES_NAMESPACE = "mapanything.train.training"
MODELS_NAMESPACE = "mapanything.models.MODEL_CONFIGS"


def register() -> dict[str, dict[str, type]]:
    """Add every dataset, loss and model class of this package; return them by place and name.

    Calling it again changes nothing.

    Raises
    ------
    ImportError
        If the host, or one of its dependencies, cannot be imported.
    ValueError
        If a name is already taken by something else.
    """
    datasets = host_module(DATASETS_NAMESPACE)
    training = host_module(LOSSES_NAMESPACE)
    models = host_module(MODELS_NAMESPACE.rpartition(".")[0]).MODEL_CONFIGS
    from mapanything_opv2v.host.data.fixed_steps import FixedSteps
    from mapanything_opv2v.host.datasets import DATASETS
    from mapanything_opv2v.host.losses.criteria import LOSSES
    from mapanything_opv2v.host.losses.distillation import OPV2VTeacher
    from mapanything_opv2v.host.models import identity, start

    classes: dict[str, dict[str, type]] = {
        DATASETS_NAMESPACE: {**DATASETS, FixedSteps.__name__: FixedSteps},
        LOSSES_NAMESPACE: {**LOSSES, OPV2VTeacher.__name__: OPV2VTeacher},
        MODELS_NAMESPACE: {identity.MODEL_NAME: identity.OPV2VMapAnything, start.MODEL_NAME: start.OPV2VStart},
    }
    for name, cls in classes[DATASETS_NAMESPACE].items():
        _add(DATASETS_NAMESPACE, vars(datasets), name, cls)
    for name, cls in classes[LOSSES_NAMESPACE].items():
        _add(LOSSES_NAMESPACE, vars(training), name, cls)
    for name, cls in classes[MODELS_NAMESPACE].items():
        _add(MODELS_NAMESPACE, models, name, {"class": cls})
    return classes


def host_module(name: str) -> ModuleType:
    """Import a module of the host.

    Raises
    ------
    ImportError
        If it, or one of its dependencies, cannot be imported; says what to do.
    """
    try:
        return importlib.import_module(name)
    except RuntimeError as error:  # torchvision's operators beside a torch that they were not built for
        if "torchvision::" not in str(error):
            raise
        raise ImportError(
            f"cannot import {name}: {error}. The installed torchvision was built for another torch than the installed "
            "one; install the two together (pip install torch torchvision, from the same index)"
        ) from error
    except ImportError as error:
        raise ImportError(
            f"cannot import {name}: {error}. Install MapAnything with its dependencies, or put your checkout "
            "on PYTHONPATH; `mapanything-opv2v doctor` shows what is found"
        ) from error


def _add(place: str, names: dict[str, Any], name: str, value: Any) -> None:
    taken = names.setdefault(name, value)
    if taken != value:
        raise ValueError(
            f"{place}.{name} is already {taken!r}; mapanything-opv2v does not overwrite it. "
            "Remove the other registration (an edited MapAnything checkout, or another plugin)"
        )
