"""Put this package's names into the namespaces in which MapAnything evaluates its configuration strings.

The host turns `dataset.train_dataset` and `dataset.test_dataset` into objects with `eval` inside the module
`mapanything.datasets`; a name set there can stand in a config. Nothing else of the host is touched.
"""

from __future__ import annotations

import importlib
from types import ModuleType

DATASETS_NAMESPACE = "mapanything.datasets"


def register() -> dict[str, type]:
    """Set every dataset class of this package in the host's namespace and return them by name.

    Calling it again changes nothing.

    Raises
    ------
    ImportError
        If the host, or one of its dependencies, cannot be imported.
    ValueError
        If a name is already taken by something else.
    """
    namespace = _host_module(DATASETS_NAMESPACE)
    from mapanything_opv2v.host.datasets import DATASETS
    from mapanything_opv2v.host.steps import FixedSteps

    classes: dict[str, type] = {**DATASETS, FixedSteps.__name__: FixedSteps}
    for name, cls in classes.items():
        _set(namespace, name, cls)
    return classes


def _host_module(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(
            f"cannot import {name}: {error}. Install MapAnything with its dependencies, or put your checkout "
            "on PYTHONPATH; `mapanything-opv2v doctor` shows what is found"
        ) from error


def _set(namespace: ModuleType, name: str, cls: type) -> None:
    taken = getattr(namespace, name, cls)
    if taken is not cls:
        raise ValueError(
            f"{namespace.__name__}.{name} is already {taken!r}; mapanything-opv2v does not overwrite it. "
            "Remove the other registration (an edited MapAnything checkout, or another plugin)"
        )
    setattr(namespace, name, cls)
