"""Progress bar of the demo's training and its record of losses and scores."""

from __future__ import annotations

from typing import Any

from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from tqdm import tqdm

from influencer_mmdet3d.terminal import progress


@HOOKS.register_module()
class DemoProgressHook(Hook):
    """Show a bar and keep the curves.

    Parameters
    ----------
    description : str
        Text in front of the bar.
    quiet : bool
        Show no bar.

    Attributes
    ----------
    losses : list of (int, float)
        Iteration and total loss.
    scores : list of (int, dict)
        Iteration and metrics of each evaluation.
    """

    priority = "LOW"

    def __init__(self, description: str = "training", quiet: bool = False) -> None:
        self.description, self.quiet = description, quiet
        self.losses: list[tuple[int, float]] = []
        self.scores: list[tuple[int, dict[str, float]]] = []
        self.bar: tqdm[Any] | None = None

    def before_train(self, runner: Runner) -> None:
        """Open the bar."""
        self.bar = progress(description=self.description, unit="step", total=runner.max_iters, quiet=self.quiet)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict[str, Any] | None = None
    ) -> None:
        """Note the loss and move the bar."""
        assert outputs is not None and self.bar is not None
        self.losses.append((runner.iter + 1, outputs["loss"].item()))
        self.bar.update()
        self.bar.set_postfix(loss=f"{self.losses[-1][1]:.2f}", refresh=False)

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Note the metrics; validation follows the iteration that `runner.iter` has counted."""
        self.scores.append((runner.iter, {key.removeprefix("val/"): value for key, value in (metrics or {}).items()}))

    def after_train(self, runner: Runner) -> None:
        """Close the bar."""
        if self.bar is not None:
            self.bar.close()
