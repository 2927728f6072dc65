"""Let MapAnything's own entry points find this package's configs and dataset names.

Hydra imports this module in every Hydra application of the environment, so the top imports Hydra and its
OmegaConf only, and an application that has not imported `mapanything` is left alone.
"""

from __future__ import annotations

import sys

from hydra.core.config_search_path import ConfigSearchPath
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import OmegaConf


def activate() -> None:
    """Register this package's names with MapAnything, and the resolvers that its configs use."""
    from mapanything_opv2v.host.config_text import dataset_call_at, python_literal
    from mapanything_opv2v.host.register import register

    register()
    OmegaConf.register_new_resolver("opv2v_repr", python_literal, replace=True)
    OmegaConf.register_new_resolver("opv2v_call", dataset_call_at, replace=True)


class MapAnythingOPV2VSearchPath(SearchPathPlugin):
    """In applications that use MapAnything: register the datasets, append `pkg://mapanything_opv2v.configs`."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Do so once `mapanything` has been imported."""
        if "mapanything" not in sys.modules:
            return
        activate()
        search_path.append(provider="mapanything-opv2v", path="pkg://mapanything_opv2v.configs")
