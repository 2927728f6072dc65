"""A Hydra callback that looks at a run's config before the host's `train` sees it."""

from __future__ import annotations

from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from mapanything_opv2v.checks.run_config import run_problems

_WEIGHTS = ("model.pretrained", "model.model_config.pretrained_checkpoint_path")


class RunCheck(Callback):
    """Ends a run whose config cannot do what it says (see `checks.run_config`)."""

    def on_job_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Look at the config.

        Raises
        ------
        SystemExit
            With every problem; Hydra turns other exceptions of callbacks into warnings.
        """
        params = config.train_params
        warmups = {"train_params.warmup_epochs": params.warmup_epochs}
        for name, submodule in (params.get("submodule_configs") or {}).items():
            if "warmup_epochs" in submodule:
                warmups[f"train_params.submodule_configs.{name}.warmup_epochs"] = submodule.warmup_epochs
        problems = run_problems(
            test_dataset=config.dataset.test_dataset,
            num_views=config.dataset.num_views,
            max_num_of_imgs_per_gpu=params.max_num_of_imgs_per_gpu,
            epochs=params.epochs,
            warmups=warmups,
            weights={key: OmegaConf.select(config, key) for key in _WEIGHTS},
            model_str=str(OmegaConf.select(config, "model.model_str")),
            train_criterion=str(OmegaConf.select(config, "loss.train_criterion")),
        )
        if problems:
            listed = "\n".join(f"  - {problem}" for problem in problems)
            raise SystemExit(f"mapanything-opv2v: this run would not do what its config says:\n{listed}")
