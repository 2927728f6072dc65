"""Tests in the real MapAnything. They fail, and never skip, where there is none."""

from __future__ import annotations

import importlib.util
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

SHIMS = Path(__file__).with_name("shims")
GLOO = Path(__file__).with_name("gloo")
_KEPT = pytest.StashKey[dict]()  # the operators exist as long as what defined them

# A mapanything model of about a million parameters that needs no download.
TINY_MODEL = (
    "model=mapanything",
    "model/encoder=croco_512",
    "++model.encoder.pretrained_checkpoint_path=null",
    "+model.encoder.patch_size=14",
    "+model.encoder.enc_embed_dim=64",
    "+model.encoder.enc_depth=2",
    "+model.encoder.enc_num_heads=4",
    "+model.encoder.mlp_ratio=2",
    "model.info_sharing.module_args.depth=4",
    "model.info_sharing.module_args.indices=[1,2]",
    "model.info_sharing.module_args.dim=64",
    "model.info_sharing.module_args.num_heads=4",
    "model.pred_head.feature_head.feature_dim=16",
    "loss=overall_loss",
    "train_params.amp=0",
)

# Each experiment, small enough for a CPU: 2 epochs of 2 steps.
_SCHEDULE = ("train_params.epochs=2", "train_params.warmup_epochs=0.5", "train_params.keep_freq=0")
_STEPS = ("dataset.designed_for_gpus=1", "train_params.max_num_of_imgs_per_gpu=4")
_PINHOLE = ('dataset.resolution_train="(56,42)"', "dataset.num_views=4", *_SCHEDULE, *_STEPS)
TINY_EXPERIMENTS = {
    "stage1": (*_PINHOLE, "dataset.max_sets_per_epoch=4"),
    "stage2": (*_PINHOLE, "dataset.max_sets_per_epoch=2"),
    "stage3": (
        *_PINHOLE,
        "dataset.max_sets_per_epoch=4",
        "dataset.coop_min_num_views=2",
        "dataset.opv2v.val.num_views=4",
    ),
    "cylindrical": (
        'dataset.resolution_train="(112,28)"',
        "dataset.num_views=3",
        "dataset.max_sets_per_epoch=4",
        *_SCHEDULE,
        *_STEPS,
    ),
    "start": (
        'dataset.resolution_train="(112,28)"',
        "dataset.max_sets_per_epoch=4",
        *_SCHEDULE,
        *_STEPS,
    ),
}


def pytest_configure(config):
    root = os.environ.get("MAPANYTHING_ROOT")
    if not root or not (Path(root) / "scripts" / "train.py").is_file():
        raise pytest.UsageError(
            f"MAPANYTHING_ROOT={root or ''}: the tests of this folder need it to name a MapAnything checkout"
        )
    config.stash[_KEPT] = runpy.run_path(str(SHIMS / "sitecustomize.py"))
    if importlib.util.find_spec("mapanything") is None:
        raise pytest.UsageError(f"no module mapanything: set PYTHONPATH={root}")


@pytest.fixture(scope="session")
def host_root():
    return Path(os.environ["MAPANYTHING_ROOT"])


@pytest.fixture(scope="session")
def datasets():
    """`mapanything_opv2v.host.datasets` on the real host."""
    from mapanything_opv2v.host import datasets

    return datasets


@pytest.fixture(scope="session")
def start(host_root, small_town, tmp_path_factory):
    """Return a function that runs Python with the host on its path and the town as its data."""
    started = []

    def run(*command, roots=(small_town.root, small_town.depth_root), **variables):
        env = {
            **os.environ,
            "OPV2V_ROOT": str(roots[0]),
            "OPV2V_DEPTH_ROOT": str(roots[1]),
            "PYTHONPATH": os.pathsep.join([str(host_root), str(SHIMS)]),
            "OMP_NUM_THREADS": "1",
            "CUDA_VISIBLE_DEVICES": "",
            "HYDRA_FULL_ERROR": "1",
            **variables,
        }
        process = subprocess.Popen(
            [sys.executable, *map(str, command)],
            cwd=tmp_path_factory.getbasetemp(),
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        said, errors = process.communicate()
        return subprocess.CompletedProcess(process.args, process.returncode, said, errors)

    yield run
    for process in started:
        if process.poll() is None:  # a launcher that still waits for a job that its test did not wait for
            process.terminate()


@pytest.fixture(scope="session")
def train(host_root, start):
    """Return a function that runs the host's own scripts/train.py in a process of its own."""

    def run(name, run_dir, *overrides, **options):
        arguments = [
            f"dataset={name}",
            f"train_params={name}",
            "machine=opv2v",
            *TINY_MODEL,
            "dataset.num_workers=1",
            f"hydra.run.dir={run_dir}",
            *overrides,
        ]
        return start(host_root / "scripts" / "train.py", *arguments, **options)

    return run


@pytest.fixture(scope="session")
def launch(host_root, start):
    """Return a function that runs this package's launcher on a tiny experiment in a process of its own."""

    def run(experiment, folder, *overrides, options=(), processes=1, **variables):
        arguments = [
            f"+experiment=opv2v_{experiment}",
            *(override for override in TINY_MODEL if not override.startswith(("model=", "loss="))),
            f"machine.root_experiments_dir={folder}",
            "model.model_config.pretrained_checkpoint_path=null",
            "dataset.num_workers=1",
            "dataset.opv2v.val.max_scenes=2",
            *TINY_EXPERIMENTS[experiment],
            *overrides,
        ]
        torchrun = []
        if processes > 1:
            torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
            variables["PYTHONPATH"] = os.pathsep.join([str(host_root), str(GLOO)])
        return start(*torchrun, "-m", "mapanything_opv2v.train", *options, *arguments, **variables)

    return run


@pytest.fixture(scope="session")
def compose_tiny(host_root, small_town):
    """Return a function that composes train.yaml with the tiny model and overrides, as the entry points do it."""
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from mapanything.models import resolve_special_float
    from mapanything_opv2v.host.register import register
    from omegaconf import OmegaConf

    register()
    if not OmegaConf.has_resolver("special_float"):  # the host registers it with its first model
        OmegaConf.register_new_resolver("special_float", resolve_special_float)

    def run(*overrides):
        GlobalHydra.instance().clear()
        with initialize_config_dir(str(host_root / "configs"), version_base=None):
            return compose("train", overrides=["machine=opv2v", "dataset=opv2v_coop_ft", *TINY_MODEL, *overrides])

    return run


@pytest.fixture(scope="session")
def tiny_checkpoint(compose_tiny, tmp_path_factory):
    """A checkpoint of an untrained tiny model, as the host's own script saves one: with its config, unresolved."""
    import torch
    from mapanything.models import init_model

    config = compose_tiny()
    torch.manual_seed(3)
    model = init_model(config.model.model_str, config.model.model_config)
    path = tmp_path_factory.mktemp("runs") / "tiny" / "checkpoint-best.pth"
    path.parent.mkdir()
    torch.save({"args": config, "model": model.state_dict(), "epoch": 0}, path)
    return path


@pytest.fixture(scope="session")
def tiny(tiny_checkpoint):
    """The tiny model, loaded as `evaluate` does."""
    from mapanything_opv2v.host.models.from_checkpoint import load_model

    return load_model(tiny_checkpoint)
