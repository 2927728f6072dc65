"""MapAnything's own training as a Hydra task, with this package's deviations around it.

The task can be pickled: a SLURM job that Hydra's submitit launcher starts unpickles it, which registers the names
that the run's config needs.
"""

from __future__ import annotations

import importlib.util
import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from hydra_plugins.mapanything_opv2v_search_path.search_path import activate
from omegaconf import DictConfig

from mapanything_opv2v import checkout
from mapanything_opv2v.host.register import DATASETS_NAMESPACE, host_module
from mapanything_opv2v.host.training.deviations import applied
from mapanything_opv2v.host.training.run_state import RunState

logger = logging.getLogger(__name__)

ROOT_VARIABLE = "MAPANYTHING_ROOT"


@dataclass(frozen=True)
class LaunchOptions:
    """The launcher's own options.

    Attributes
    ----------
    without
        Deviations to leave out.
    accept_changes
        Go on from a checkpoint of another data set or epoch length.
    """

    without: frozenset[str] = frozenset()
    accept_changes: bool = False


def find_host() -> Path:
    """Return the checkout from which `mapanything` is imported, with its scripts and configs.

    Raises
    ------
    ImportError
        If there is none, it is not the one in MAPANYTHING_ROOT, or it has no scripts/train.py.
    """
    spec = importlib.util.find_spec("mapanything")
    named = os.environ.get(ROOT_VARIABLE)
    if spec is None or spec.submodule_search_locations is None:
        raise ImportError(
            f"Python finds no package mapanything; export {ROOT_VARIABLE}=your checkout and PYTHONPATH=${ROOT_VARIABLE}"
        )
    where = Path(next(iter(spec.submodule_search_locations)))
    if named and not checkout.is_below(where, Path(named)):
        raise ImportError(
            f"mapanything comes from {where}, not from {ROOT_VARIABLE}={named}: another checkout or an installed copy "
            f"is first on the path. Put yours first with PYTHONPATH=${ROOT_VARIABLE}, uninstall the other, or unset "
            f"{ROOT_VARIABLE}"
        )
    root = where.resolve().parent
    if not (root / "scripts" / "train.py").is_file():
        raise ImportError(
            f"mapanything comes from {where}, which has no scripts/train.py and configs beside it: an installed copy. "
            f"Use a checkout: export {ROOT_VARIABLE}=your checkout and PYTHONPATH=${ROOT_VARIABLE}"
        )
    return root


class HostTraining:
    """Runs MapAnything's scripts/train.py for a composed config."""

    def __init__(self, options: LaunchOptions) -> None:
        self.options = options
        self.host_root = find_host()
        self._prepare()

    def __getstate__(self) -> dict[str, Any]:
        """Return what a job needs: options. It finds the host itself."""
        return {"options": self.options}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Find the host and register names, before anything of the run's config is looked at."""
        self.__init__(state["options"])  # type: ignore[misc]

    def _prepare(self) -> None:
        host_module(DATASETS_NAMESPACE)
        activate()

    def __call__(self, config: DictConfig) -> None:
        """Train.

        Raises
        ------
        SystemExit
            If the run must not go on from its checkpoint.
        """
        commit = checkout.describe(self.host_root)
        state = RunState(config, self.host_root, commit, self.options.accept_changes)
        script = self._script()
        with applied(state, self.options.without):
            if state.is_first:
                for line in self.said_at_start(state):
                    logger.info("%s", line)
            script.execute_training(config)

    def said_at_start(self, state: RunState) -> Iterator[str]:
        """Yield which MapAnything trains, and how its training is deviated from."""
        yield f"mapanything comes from {self.host_root / 'mapanything'}, commit {state.host_commit}"
        yield f"deviations in force: {', '.join(state.deviations) or 'none'}"
        if state.left_out:
            yield f"deviations switched off: {', '.join(state.left_out)}"

    def _script(self) -> ModuleType:
        spec = importlib.util.spec_from_file_location(
            "mapanything_train_script", self.host_root / "scripts" / "train.py"
        )
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module


def run(task: HostTraining) -> None:
    """Let Hydra read the command line, compose the config and run the training, here or in jobs."""
    import hydra

    task.__module__ = "mapanything_opv2v.train"  # Hydra names the job and its log, train.log, after the last part
    hydra.main(version_base=None, config_path=str(task.host_root / "configs"), config_name="train")(task)()


def print_schedule(overrides: Sequence[str]) -> None:
    """Print the learning rates of the run that the overrides describe; nothing is trained or written."""
    from hydra import compose, initialize_config_dir

    from mapanything_opv2v.host.training.schedule import table

    root = HostTraining(LaunchOptions()).host_root
    with initialize_config_dir(str(root / "configs"), version_base=None):
        config = compose("train", overrides=list(overrides))
    for line in table(config.train_params):
        print(line)
