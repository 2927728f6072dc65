"""Small versions of the host's models, trained by the host's own runner on synthetic rooms.

The tests overfit a few rooms; `benchmarks/host_learning.py` also evaluates on others.
"""

from __future__ import annotations

import copy
from importlib.resources import files
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.runner import Runner

CONFIGS = Path(str(files("influencer_mmdet3d") / "configs"))


def s3dis(
    root: Path,
    work_dir: Path,
    criterion: dict | None = None,
    *,
    steps: int = 250,
    seed: int = 0,
    held_out: bool = False,
) -> Config:
    """Shrink the shipped S3DIS config.

    `criterion` replaces options of the influencer criterion, None is the host's. Training is on Area 1, and so is
    the test; with `held_out` validation is on the config's Area 5, else on Area 1 too.
    """
    cfg = _load("s3dis", criterion)
    cfg.model.update(num_channels=16, voxel_size=0.1, min_spatial_shape=64)
    cfg.model.backbone.num_planes = [16, 32, 48]
    cfg.model.decoder.update(num_instance_queries=60, in_channels=16, d_model=64, num_heads=4, hidden_dim=128)
    cfg.model.test_cfg.update(topk_insts=100, npoint_thr=20)
    _pipeline(cfg.train_dataloader.dataset.datasets[0].pipeline, cfg.val_dataloader.dataset.pipeline)
    dataset = cfg.train_dataloader.dataset.datasets[0]
    dataset.update(data_root=str(root), ann_file="s3dis_infos_Area_1.pkl")
    cfg.train_dataloader.dataset = dataset
    return _short(cfg, work_dir, steps, seed, held_out)


def scannet(
    root: Path, work_dir: Path, criterion: dict | None = None, *, steps: int = 20, seed: int = 0, held_out: bool = False
) -> Config:
    """Shrink the shipped ScanNet config; training and test are on split train, `held_out` validation on val."""
    cfg = _load("scannet", criterion)
    cfg.model.update(num_channels=16, voxel_size=0.1, min_spatial_shape=64)
    cfg.model.backbone.num_planes = [16, 32, 48]
    cfg.model.decoder.update(in_channels=16, d_model=64, num_heads=4, hidden_dim=128, num_layers=3)
    cfg.model.test_cfg.update(topk_insts=100, npoint_thr=20)
    _pipeline(cfg.train_dataloader.dataset.pipeline, cfg.val_dataloader.dataset.pipeline)
    cfg.train_dataloader.dataset.update(data_root=str(root))
    return _short(cfg, work_dir, steps, seed, held_out)


def _load(name: str, criterion: dict | None) -> Config:
    stem = {"s3dis": "s3dis_area5", "scannet": "scannet"}[name]
    cfg = Config.fromfile(CONFIGS / f"{stem}_{'baseline' if criterion is None else 'influencer'}.py")
    cfg.model.criterion.inst_criterion.update(criterion or {})
    return cfg


def _pipeline(train: list[ConfigDict], test: list[ConfigDict]) -> None:
    """Take out what only adds noise to a memory test."""
    train[:] = [step for step in train if step.type not in ("RandomFlip3D", "GlobalRotScaleTrans", "ElasticTransfrom")]
    for step in train:
        if step.type == "PointSample_":
            step.num_points = 100_000
        if step.type == "Pack3DDetInputs_":
            step["keys"] = [key for key in step["keys"] if key != "elastic_coords"]


def _short(cfg: Config, work_dir: Path, steps: int, seed: int, held_out: bool) -> Config:
    trained = cfg.train_dataloader.dataset
    cfg.val_dataloader.dataset.data_root = trained.data_root
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        loader.update(num_workers=0, persistent_workers=False)
    cfg.train_dataloader.update(batch_size=4, dataset=trained, sampler=dict(type="InfiniteSampler", shuffle=True))
    cfg.test_dataloader = copy.deepcopy(cfg.val_dataloader)
    cfg.test_dataloader.dataset.ann_file = trained.ann_file
    if not held_out:
        cfg.val_dataloader = copy.deepcopy(cfg.test_dataloader)
    cfg.test_evaluator = copy.deepcopy(cfg.val_evaluator)
    cfg.train_cfg = dict(type="IterBasedTrainLoop", max_iters=steps, val_interval=10 * steps)
    cfg.optim_wrapper.optimizer.update(lr=2e-3)
    cfg.param_scheduler = dict(type="PolyLR", begin=0, end=steps, power=0.9, by_epoch=False)
    cfg.custom_hooks = []
    cfg.default_hooks = dict(
        cfg.default_hooks,
        checkpoint=dict(type="CheckpointHook", interval=steps, by_epoch=False),
        logger=dict(type="LoggerHook", interval=50),
    )
    cfg.load_from = None
    cfg.randomness = dict(seed=seed)
    cfg.work_dir = str(work_dir)
    cfg.visualizer = dict(type="Visualizer", vis_backends=[])
    cfg.log_level = "WARNING"
    return cfg


def run(cfg: Config) -> Runner:
    """Build and train."""
    runner = Runner.from_cfg(cfg)
    runner.train()
    return runner


def evaluate(runner: Runner) -> dict[str, Any]:
    """Score the training scenes with the host's own metric."""
    return runner.test()
