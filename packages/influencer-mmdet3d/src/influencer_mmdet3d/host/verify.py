"""`verify`: does a config train with `InfluencerCriterion` in the real host, and if not, why not."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import MODELS as MMENGINE_MODELS

from influencer_mmdet3d.host.criterion import InfluencerCriterion
from influencer_mmdet3d.host.pin import host_root, load_pin
from influencer_mmdet3d.host.recipe import import_advice
from influencer_mmdet3d.host.trial import TrialError, try_scene
from influencer_mmdet3d.host.voxels import check_voxels
from influencer_mmdet3d.terminal import DONE, FAILED

REASONS = (
    "mmdet3d-missing",
    "wrong-version",
    "host-root",
    "host-not-on-path",
    "config-unreadable",
    "custom-imports",
    "import-failed",
    "name-taken",
    "not-in-config",
    "does-not-build",
    "class-count",
    "voxel-size",
    "does-not-run",
)
"""Why training would not start; the launcher tools/influencer/register_criterion.py adds "package-missing"."""


class VerifyError(ValueError):
    """One specific reason, of `REASONS`."""

    def __init__(self, reason: str, message: str) -> None:
        assert reason in REASONS
        super().__init__(message)
        self.reason = reason


def default_config() -> Path:
    """Return the shipped S3DIS config."""
    return Path(str(files("influencer_mmdet3d") / "configs" / "s3dis_area5_influencer.py"))


def check_mmdet3d() -> None:
    """Import mmdet3d, which checks the versions of mmcv, mmengine and mmdet with `assert`."""
    try:
        importlib.import_module("mmdet3d")
    except AssertionError as error:
        raise VerifyError("wrong-version", f"mmdet3d refuses its dependencies: {error} ({_versions()})") from error
    except ImportError as error:
        name = (error.name or "mmdet3d").split(".")[0]
        if name in ("mmdet3d", "mmcv", "mmdet"):
            raise VerifyError(
                "mmdet3d-missing",
                f"cannot import {name}: {error} ({_versions()}); {import_advice(str(error))}",
            ) from error
        raise VerifyError("import-failed", f"mmdet3d needs {name}: {error}; {import_advice(str(error))}") from error


def check_host() -> Path:
    """Return the host's root, from which `oneformer3d` must be importable."""
    try:
        root = host_root()
    except ValueError as error:
        raise VerifyError("host-root", str(error)) from None
    spec = importlib.util.find_spec("oneformer3d")
    fix = f"export PYTHONPATH={root}${{PYTHONPATH:+:$PYTHONPATH}}"
    if spec is None or spec.origin is None:
        raise VerifyError("host-not-on-path", f"Python does not find oneformer3d of {root}: {fix}")
    if Path(spec.origin).resolve().parents[1] != root:
        raise VerifyError(
            "host-not-on-path",
            f"Python finds oneformer3d in {Path(spec.origin).parents[1]}, but {load_pin().root_env} is {root}: {fix}",
        )
    return root


def load_config(path: Path, needed: Sequence[str] = ("oneformer3d", "influencer_mmdet3d")) -> Any:
    """Load a config without importing what it names, and check that it names what is `needed`."""
    try:
        with _no_info_lines():
            cfg = Config.fromfile(path, import_custom_modules=False)
    except (OSError, KeyError, SyntaxError, ValueError, TypeError, ImportError) as error:
        colon = _missing_colon(path)
        if colon:
            raise VerifyError("host-root", f"{path}: {colon}") from error
        raise VerifyError("config-unreadable", f"{path}: {type(error).__name__}: {error}") from error
    names = (cfg.get("custom_imports") or {}).get("imports") or []
    names = [names] if isinstance(names, str) else list(names)
    missing = [name for name in needed if name not in names]
    if missing:
        raise VerifyError(
            "custom-imports",
            f"{path}: custom_imports names {names}, {' and '.join(missing)} missing. It replaces the base config's, so "
            "write custom_imports = dict(imports=['oneformer3d', 'influencer_mmdet3d'], allow_failed_imports=False)",
        )
    return cfg


def _missing_colon(path: Path) -> str | None:
    """Say it if a config asks for an environment variable without mmengine's colon, which makes it another syntax."""
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    found = re.search(r"\{\{\s*\$(\w+)\s*\}\}", text)
    return None if found is None else f"{found[0]} lacks its colon: write {{{{${found[1]}:}}}}"


def check_imports(cfg: Any) -> None:
    """Import what the config names, one by one, so that a failure names its module."""
    for name in cfg.custom_imports.imports:
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise VerifyError(
                "import-failed", f"custom_imports: {name}: {error}; {import_advice(str(error))}"
            ) from error
        except KeyError as error:
            if "is already registered" not in str(error):
                raise
            raise VerifyError("name-taken", f"custom_imports: {name}: {error.args[0]}") from error


def check_name() -> None:
    """Check that the name leads to our class from mmdet3d's registry, whose own entries win over mmengine's."""
    child = importlib.import_module("mmdet3d.registry").MODELS
    try:
        found = child.get("InfluencerCriterion")  # imports mmdet3d.models
    except ImportError as error:
        raise VerifyError("import-failed", f"mmdet3d: {error}; {import_advice(str(error))}") from error
    for registry in (child, MMENGINE_MODELS):
        holder = registry.module_dict.get("InfluencerCriterion")
        if holder is not None and holder is not InfluencerCriterion:
            raise VerifyError(
                "name-taken",
                f"InfluencerCriterion in {registry.scope}.{registry.name} is a class of {holder.__module__}, "
                "which wins over influencer_mmdet3d's: take it out of custom_imports, or rename it",
            )
    if found is not InfluencerCriterion:
        raise VerifyError("name-taken", "mmdet3d's MODELS does not find InfluencerCriterion; its parent was replaced")


def check_criterion(cfg: Any, path: Path) -> InfluencerCriterion:
    """Build the criterion as the host does, compare its classes with the decoder's, and call it once."""
    outer = cfg.get("model", {}).get("criterion", {})
    inner = outer.get("inst_criterion", outer)
    if inner.get("type") != "InfluencerCriterion":
        raise VerifyError(
            "not-in-config",
            f"{path}: model.criterion.inst_criterion has type {inner.get('type')!r}, not 'InfluencerCriterion'",
        )
    try:
        criterion = importlib.import_module("mmdet3d.registry").MODELS.build(dict(inner))
    except (TypeError, ValueError, KeyError) as error:
        raise VerifyError("does-not-build", f"{path}: {error}") from error
    classes = criterion.options.num_classes
    decoder = cfg.model.get("decoder", {}).get("num_instance_classes", classes)
    if classes != decoder:
        raise VerifyError(
            "class-count", f"{path}: criterion has num_classes={classes}, the decoder num_instance_classes={decoder}"
        )
    _call_once(criterion)
    return criterion


def verify(path: Path) -> list[str]:
    """Run every check on a config.

    Returns
    -------
    list of str
        What was found, one line each.

    Raises
    ------
    VerifyError
        With the first reason for which training would not start.
    """
    check_mmdet3d()
    root = check_host()
    cfg = load_config(path)
    check_imports(cfg)
    check_name()
    criterion = check_criterion(cfg, path)
    try:
        check_voxels(cfg)
    except ValueError as error:
        raise VerifyError("voxel-size", f"{path}: {error}") from None
    try:
        tried = try_scene(cfg)
    except TrialError as error:
        raise VerifyError("does-not-run", f"{path}: {error}") from error
    lines = [_versions(), f"host {root}", f"config {path}", f"criterion {criterion.options}", *_sets(cfg), *tried]
    if cfg.custom_imports.get("allow_failed_imports"):
        lines.append("note: allow_failed_imports=True turns a failed import into a later KeyError; set it to False")
    return lines


def _sets(cfg: Any) -> list[str]:
    """Name the groups, starts and pilots of our decoders."""
    decoder = cfg.model.get("decoder", {})
    said = [f"{name}={decoder[name]!r}" for name in ("groups", "start", "pilots") if name in decoder]
    return [f"decoder {decoder.get('type')}: {', '.join(said)}"] if said else []


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `verify`."""
    parser.add_argument(
        "config", nargs="?", type=Path, help="config to check, default: the shipped s3dis_area5_influencer.py"
    )
    parser.add_argument("--json", action="store_true", help="print the outcome as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print PASS, or FAIL with the reason; 0 or 1."""
    try:
        reason, lines = "PASS", verify(args.config or default_config())
    except VerifyError as error:
        reason, lines = error.reason, [str(error)]
    passed = reason == "PASS"
    if args.json:
        print(json.dumps({"passed": passed, "reason": None if passed else reason, "lines": lines}, indent=2))
    elif passed:
        print("PASS", *lines, sep="\n  ")
    else:
        print(f"FAIL [{reason}] {lines[0]}")
    return DONE if passed else FAILED


def _call_once(criterion: InfluencerCriterion) -> None:
    """One scene with an instance of 6 of 8 points, as the host passes it: 5 queries, the last layer alone."""
    classes = criterion.options.num_classes
    pred = {
        "cls_preds": [torch.zeros(5, classes + 1)],
        "masks": [torch.zeros(5, 8)],
        "scores": [torch.zeros(5, 1)],
        "aux_outputs": [],
    }
    masks = torch.arange(8).unsqueeze(0) < 6
    loss = criterion(pred, [SimpleNamespace(sp_masks=masks, labels_3d=torch.zeros(1, dtype=torch.long))])
    assert bool(loss["inst_loss"].isfinite()), loss


@contextmanager
def _no_info_lines() -> Iterator[None]:
    """Keep mmengine from saying that it has read an environment variable, in front of every output."""
    logger = MMLogger.get_current_instance()
    before = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(before)


def _versions() -> str:
    found = []
    for name in ("mmengine", "mmcv", "mmcv-lite", "mmdet", "mmdet3d"):
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return ", ".join(found)
