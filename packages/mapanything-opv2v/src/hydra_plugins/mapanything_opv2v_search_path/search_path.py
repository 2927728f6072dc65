"""Let MapAnything's own entry points find this package's configs and dataset names.

Hydra imports this module in every Hydra application of the environment, so the top imports Hydra and its
OmegaConf only, and an application that has not imported `mapanything` is left alone.
"""

from __future__ import annotations

import math
import sys

from hydra.core.config_search_path import ConfigSearchPath
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import OmegaConf


def python_literal(value: object) -> str:
    """Return a config value as Python text for the host's `eval`.

    The host cuts its test strings at every `+`, so a `+` inside a string (a path, a transform) is escaped.
    """
    if OmegaConf.is_config(value):
        value = OmegaConf.to_container(value, resolve=True)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{python_literal(key)}: {python_literal(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(python_literal, value)) + "]"
    if isinstance(value, str):
        return repr(value).replace("+", r"\x2b")
    if isinstance(value, float) and not math.isfinite(value):
        return f"float('{value}')"
    return repr(value)


def activate() -> None:
    """Register this package's names with MapAnything, and the resolver that its configs use."""
    from mapanything_opv2v.host.register import register

    register()
    OmegaConf.register_new_resolver("opv2v_repr", python_literal, replace=True)


class MapAnythingOPV2VSearchPath(SearchPathPlugin):
    """In applications that use MapAnything: register the datasets, append `pkg://mapanything_opv2v.configs`."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Do so once `mapanything` has been imported."""
        if "mapanything" not in sys.modules:
            return
        activate()
        search_path.append(provider="mapanything-opv2v", path="pkg://mapanything_opv2v.configs")
