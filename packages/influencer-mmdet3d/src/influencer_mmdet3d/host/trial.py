"""Build what a run of a config builds, compare it with a checkpoint, and run a synthetic scene through it.

As a command, `python -m influencer_mmdet3d.host.trial`, it serves the launcher, which starts it in the environment of
the run: what a config imports and registers stays in a process. `verify` calls `try_scene` itself.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import importlib
import inspect
import io
import logging
import pickle
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import mmengine.runner  # noqa: F401  registers mmengine's own datasets, hooks and loops
import numpy as np
import torch
from mmengine.config import Config, DictAction
from mmengine.registry import DATASETS, HOOKS, LOOPS, METRICS, MODELS, init_default_scope

from influencer_mmdet3d.host.checkpoint import loaded_shapes, read_checkpoint
from influencer_mmdet3d.host.layouts import backbone_kind

FAILED, MISFIT = 3, 4
"""Exit statuses of the command: something does not build; a checkpoint does not fit. The last line says what."""
SHOWN = 3
POINTS_PER_OBJECT = 240
PIECES = 20  # superpoints of an object


class TrialError(ValueError):
    """Something that a run would stop at, or go wrong with silently."""


def build(cfg: Any, job: str) -> Any:
    """Build model, data, evaluator, optimiser and hooks, whatever `job` ('train' or 'test') needs.

    Returns
    -------
    torch.nn.Module
        The model, with random weights.

    Raises
    ------
    TrialError
        Naming the part that does not build, with the reason.
    """
    init_default_scope(cfg.get("default_scope", "mmengine"))
    with _part("model"):
        model = MODELS.build(copy.deepcopy(cfg.model))
    for loader in ("train_dataloader", "val_dataloader") if job == "train" else ("test_dataloader",):
        if cfg.get(loader):
            with _part(f"{loader}.dataset"):
                DATASETS.build(copy.deepcopy(cfg[loader].dataset))
    evaluator = "val_evaluator" if job == "train" else "test_evaluator"
    for metric in _listed(cfg.get(evaluator)):
        with _part(evaluator):
            METRICS.build(copy.deepcopy(metric))
    for name, hooks in (("custom_hooks", cfg.get("custom_hooks")), ("default_hooks", cfg.get("default_hooks"))):
        for hook in filter(None, hooks.values() if isinstance(hooks, dict) else _listed(hooks)):
            with _part(name):
                _bind(HOOKS, hook)
    if job == "train":
        _build_training(cfg, model)
    return model


def _build_training(cfg: Any, model: Any) -> None:
    from mmengine.optim import build_optim_wrapper

    if cfg.get("optim_wrapper"):
        wrapper = copy.deepcopy(cfg.optim_wrapper)
        if "Amp" in wrapper.get("type", ""):
            wrapper = {key: value for key, value in wrapper.items() if key not in ("loss_scale", "dtype")}
            wrapper["type"] = "OptimWrapper"  # mixed precision asks for a GPU when it is built
        with _part("optim_wrapper"):
            build_optim_wrapper(model, wrapper)
    loop = cfg.get("train_cfg")
    if loop and (loop.get("type") or "by_epoch" in loop):
        named = {key: value for key, value in loop.items() if key != "by_epoch"}
        named.setdefault("type", "EpochBasedTrainLoop" if loop.get("by_epoch") else "IterBasedTrainLoop")
        with _part("train_cfg"):
            _bind(LOOPS, named, runner=None, dataloader=None)


def _bind(registry: Any, options: Mapping[str, Any], **others: Any) -> None:
    """Check name and arguments of what only a runner can build."""
    options = {key: value for key, value in options.items() if key not in ("_scope_", "priority")}
    if "type" not in options:
        raise TrialError(f"no type in {options}, so that nothing can be built from it")
    kind = options.pop("type")
    with registry.switch_scope_and_registry(None) as there:
        found = there.get(kind) if isinstance(kind, str) else kind
    if found is None:
        raise TrialError(f"{kind} is not registered; is the module that has it in custom_imports?")
    inspect.signature(found).bind(**others, **options)


def _listed(value: Any) -> Sequence[Any]:
    return value if isinstance(value, (list, tuple)) else [value] if value else []


@contextlib.contextmanager
def _part(name: str) -> Iterator[None]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except TrialError as error:
        raise TrialError(f"{name} of the config does not build: {error}") from error
    except Exception as error:  # the registries and the host raise whatever they like
        raise TrialError(f"{name} of the config does not build: {type(error).__name__}: {error}") from error


def compare(model: Any, checkpoint: Mapping[str, Any], path: Path) -> str | None:
    """Return how a checkpoint's weights differ from the model's in shape or by absence; None if they fit.

    Entries that only the checkpoint has, and the counters of normalisation layers, are no difference. Raises
    TrialError where nothing fits: another backbone, or other names altogether.
    """
    shapes = loaded_shapes(checkpoint)
    wanted = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    differing = [f"{key} is {shapes[key]}, the config's model has {shape}" for key, shape in wanted.items()
                 if key in shapes and shapes[key] != shape]  # fmt: skip
    absent = [key for key in wanted if key not in shapes and not key.endswith("num_batches_tracked")]
    theirs, ours = backbone_kind(shapes), backbone_kind(wanted)
    if theirs and ours and theirs != ours:
        raise TrialError(
            f"{path}: its backbone is one of {theirs}, the config's of {ours}: not one of its convolutions would be "
            "loaded. The host's ScanNet200 config is the one with a MinkowskiEngine backbone; take the config that "
            "the checkpoint was trained with"
        )
    if not any(key in shapes for key in wanted):
        raise TrialError(
            f"{path}: not one of its {len(shapes)} weights has a name that the config's model knows; it has "
            f"{_first(list(shapes))}, the model {_first(list(wanted))}"
        )
    said = []
    if differing:
        said.append(f"{len(differing)} of another shape: {_first(differing)}")
    if absent:
        said.append(f"{len(absent)} absent: {_first(absent)}")
    if not said:
        return None
    return f"{path}: of the {len(wanted)} weights and buffers that the config's model has, {'; '.join(said)}"


def _first(items: Sequence[str]) -> str:
    return "; ".join(items[:SHOWN]) + (f"; and {len(items) - SHOWN} more" if len(items) > SHOWN else "")


def class_counts(cfg: Any) -> dict[str, int]:
    """Return every place of a config that tells the number of instance classes, with what it tells.

    Places of semantic classes are counted less the stuff classes where the model has both (ScanNet).
    """
    model, places = cfg.get("model", {}), {}
    decoder, criterion, test = (model.get(key) or {} for key in ("decoder", "criterion", "test_cfg"))
    stuff = len(test.get("stuff_classes") or ()) if "stuff_classes" in test else 0
    for holder, name, keys in (
        (model, "model", ("num_classes",)),
        (decoder, "model.decoder", ("num_instance_classes",)),
        (criterion.get("inst_criterion", {}), "model.criterion.inst_criterion", ("num_classes",)),
    ):
        places.update({f"{name}.{key}": int(holder[key]) for key in keys if key in holder})
    semantic = [(criterion, "model.criterion", "num_semantic_classes"), (test, "model.test_cfg", "num_sem_cls")]
    if decoder.get("num_semantic_queries"):
        semantic.append((decoder, "model.decoder", "num_semantic_queries"))
    if decoder.get("num_semantic_classes"):
        semantic.append((decoder, "model.decoder", "num_semantic_classes"))
    for holder, name, key in semantic:
        if key in holder:
            places[f"{name}.{key}" + (f" less {stuff} stuff classes" if stuff else "")] = int(holder[key]) - stuff
    meta = (cfg.get("val_evaluator") or {}).get("metric_meta") if isinstance(cfg.get("val_evaluator"), dict) else None
    if meta and "classes" in meta:
        name = "val_evaluator.metric_meta.classes less 'unlabeled'" + (f" and {stuff} stuff classes" if stuff else "")
        places[name] = len(meta["classes"]) - 1 - stuff
    return places


def check_counts(cfg: Any) -> None:
    """Raise TrialError where class counts contradict each other, or more instances are asked for than there can be."""
    decoder = cfg.model.get("decoder") or {}
    if "num_classes_1dataset" in decoder:
        raise TrialError(
            f"the model trains on two sets of classes at once ({decoder['num_classes_1dataset']} and "
            f"{decoder['num_classes_2dataset']}), which InfluencerCriterion cannot: it takes one. Keep the host's "
            "OneDataCriterion for this config, or train S3DISOneFormer3D on one data set"
        )
    places = class_counts(cfg)
    if len(set(places.values())) > 1:
        listed = ", ".join(f"{name}={count}" for name, count in places.items())
        raise TrialError(f"the class counts contradict each other: {listed}. All must be the number of your classes")
    queries, wanted = decoder.get("num_instance_queries"), (cfg.model.get("test_cfg") or {}).get("topk_insts")
    classes = places.get("model.num_classes")
    if queries and wanted and classes and wanted > queries * classes:
        raise TrialError(
            f"model.test_cfg.topk_insts={wanted} asks for more than {queries} queries x {classes} classes = "
            f"{queries * classes}: the first validation stops with 'selected index k out of range'. "
            f"Set it to {queries * classes} or less"
        )


def try_scene(cfg: Any) -> list[str]:
    """Run a synthetic scene of every class through pipelines, loss, prediction and evaluator of a config.

    Returns
    -------
    list of str
        What was done.

    Raises
    ------
    TrialError
        With the part that fails and the reason.
    """
    check_counts(cfg)
    init_default_scope(cfg.get("default_scope", "mmengine"))
    with _part("model"):
        model = MODELS.build(copy.deepcopy(cfg.model))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = model.to(device)
    with tempfile.TemporaryDirectory() as folder, torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        with _step("the training data's pipeline"):
            sample, _ = _scene(cfg.train_dataloader.dataset, Path(folder, "train"), cfg.model)
            batch = _collate([sample, sample])
        with _step("the model's loss"):
            losses = model.train()(**model.data_preprocessor(batch, True), mode="loss")
            total = sum(value.mean() for key, value in losses.items() if "loss" in key)
        if not bool(torch.isfinite(torch.as_tensor(total))):
            raise TrialError(f"the loss of a synthetic scene is {total}, expected a finite number")
        if cfg.get("val_dataloader"):
            with _step("the validation data's pipeline"):
                sample, meta = _scene(cfg.val_dataloader.dataset, Path(folder, "val"), cfg.model)
                batch = _collate([sample])
            with _step("the model's prediction"), torch.no_grad():
                found = model.eval()(**model.data_preprocessor(batch, False), mode="predict")
            for options in _listed(cfg.get("val_evaluator")):
                with _step("the evaluator"):
                    metric = METRICS.build(copy.deepcopy(options))
                    metric.dataset_meta = meta
                    metric.process(batch, [sample.to_dict() for sample in found])
                    metric.compute_metrics(metric.results)
    return [f"a synthetic scene went through loss ({float(total):.3f}), prediction and evaluator on the {device}"]


@contextlib.contextmanager
def _step(name: str) -> Iterator[None]:
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            logging.disable(logging.ERROR)  # the evaluator's tables
            yield
    except Exception as error:  # whatever the host stops with
        raise TrialError(
            f"{name} fails on a synthetic scene that holds every class of the dataset: {type(error).__name__}: {error}"
        ) from error
    finally:
        logging.disable(logging.NOTSET)


def _collate(samples: Sequence[Any]) -> Any:
    from mmengine.dataset import pseudo_collate

    return pseudo_collate([copy.deepcopy(sample) for sample in samples])


def _leaf(dataset: Any) -> Any:
    """Return the first dataset that reads files."""
    while "ann_file" not in dataset:
        dataset = dataset.datasets[0] if "datasets" in dataset else dataset.dataset
    return dataset


def _scene(dataset: Any, root: Path, model: Any) -> tuple[Any, Any]:
    """Write a scene in the dataset's own format, with an object of each class; return it as read, and the metainfo."""
    options = copy.deepcopy(_leaf(dataset))
    options.update(data_root=str(root), ann_file="trial.pkl")
    if "class_file" in options:  # this package's own dataset: classes come from the user's folder
        options.class_file = str(Path(_leaf(dataset).data_root, _leaf(dataset).class_file).resolve())
    root.mkdir()
    names = dict.fromkeys(("pts_semantic_mask_path", "pts_instance_mask_path", "super_pts_path"), "trial.bin")
    box = {"bbox_3d": [0.0] * 6, "bbox_label_3d": 0}
    entry = {"sample_idx": 0, "lidar_points": {"num_pts_feats": 6, "lidar_path": "trial.bin"}, "instances": [box]}
    infos = {"metainfo": {"categories": {}, "dataset": "trial", "info_version": "1.1"}, "data_list": [entry | names]}
    (root / options.ann_file).write_bytes(pickle.dumps(infos))
    built = DATASETS.build(options)
    built.max_refetch = 1
    labels = np.repeat(list(built.metainfo["seg_valid_class_ids"]), POINTS_PER_OBJECT)
    number = np.arange(len(labels)) // POINTS_PER_OBJECT
    generator = np.random.default_rng(0)
    side = 10 * float(model.get("voxel_size", 0.05))  # of an object: about a hundred voxels on its way
    points = np.zeros((len(labels), 6), "<f4")
    points[:, :3] = generator.uniform(0, side, (len(labels), 3))
    piece = np.argsort(np.argsort(points[:, 0] + number * 2 * side)) * PIECES // POINTS_PER_OBJECT
    points[:, 0] += number % 4 * 2 * side
    points[:, 1] += number // 4 * 2 * side
    points[:, 3:] = generator.integers(0, 256, (len(labels), 3))
    arrays = {
        "pts": points,
        "pts_semantic_mask": labels,
        "pts_instance_mask": number,
        "sp_pts_mask": piece,
    }
    for key, array in arrays.items():
        target = root / options.data_prefix.get(key, key)
        target.mkdir(parents=True, exist_ok=True)
        (target / "trial.bin").write_bytes(array.astype("<f4" if key == "pts" else "<i8").tobytes())
    return built[0], built.metainfo


def main(argv: Sequence[str] | None = None) -> int:
    """Build what a job builds and, with a checkpoint, compare; print the reason if something is wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("job", choices=("train", "test"))
    parser.add_argument("config", type=Path)
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--trust-checkpoint", action="store_true")
    parser.add_argument("--cfg-options", nargs="+", action=DictAction, default={})
    args = parser.parse_args(argv)
    cfg = Config.fromfile(args.config, import_custom_modules=False)
    cfg.merge_from_dict(args.cfg_options)
    try:
        for name in (cfg.get("custom_imports") or {}).get("imports") or []:
            with _part(f"custom_imports, {name},"):
                importlib.import_module(name)
        model = build(cfg, args.job)
        if args.checkpoint is not None:
            difference = compare(model, read_checkpoint(args.checkpoint, trust=args.trust_checkpoint), args.checkpoint)
            if difference is not None:
                print(difference)
                return MISFIT
    except TrialError as error:
        print(" ".join(str(error).split()))
        return FAILED
    return 0


if __name__ == "__main__":
    sys.exit(main())
