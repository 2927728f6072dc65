"""Which of RoboRefer's known defects a checkout has: read from its source, without importing it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from roborefer_spatial import torchvision_cpu
from roborefer_spatial.host.locate import Host

MIXTURE = "llava/data/datasets_mixture.py"
DATASET = "llava/data/dataset.py"
TRAINER = "llava/train/llava_trainer.py"
TRAIN_UTILS = "llava/train/utils.py"
MODEL = "llava/model/language_model/llava_llama.py"
ARCHITECTURE = "llava/model/llava_arch.py"
DEEPSPEED_LOADER = "runtime/checkpoint_engine/torch_checkpoint_engine.py"
VISION_ENCODER = "llava/model/multimodal_encoder/vision_encoder.py"


def installed(package: str) -> bool:
    """Say whether a package can be imported, without importing it."""
    return find_spec(package) is not None


def torchvision_lacks_operators() -> bool:
    """torchvision beside a torch that its compiled part does not fit; says so by importing both."""
    return torchvision_cpu.lacks_operators()


def deepspeed_checkpoint_is_refused() -> bool:
    """DeepSpeed calls `torch.load` without `weights_only`, which is True by default since torch 2.6."""
    spec = find_spec("deepspeed")
    if spec is None or spec.origin is None:
        return False
    source = (Path(spec.origin).parent / DEEPSPEED_LOADER).read_text(encoding="utf-8")
    return "weights_only" not in source and torch_release() >= (2, 6)


def torch_release() -> tuple[int, int]:
    """Return major and minor version of the installed torch, without importing it; (0, 0) without one."""
    try:
        found = re.match(r"(\d+)\.(\d+)", version("torch"))
    except PackageNotFoundError:
        return (0, 0)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def mixture_is_invalid(host: Host) -> bool:
    """`2D_choice_qa = ...` is no Python."""
    try:
        ast.parse(host.source(MIXTURE))
    except SyntaxError:
        return True
    return False


def log_lacks_start_time(host: Host) -> bool:
    """`LLaVATrainer.log(self, logs)`; the host's pinned transformers passes `start_time` too."""
    methods = [_method(host, TRAINER, "LLaVATrainer", "log")]
    return any(m is not None and len(m.args.args) < 3 and m.args.vararg is None for m in methods)


def data_path_is_unread(host: Host) -> bool:
    """`make_supervised_data_module` never looks at `data_args.data_path`."""
    function = _function(host, DATASET, "make_supervised_data_module")
    return function is not None and "data_path" not in _attributes(function)


def spatial_dataset_needs_tiles(host: Host) -> bool:
    """The host's `LazySupervisedSpatialDataset` asserts `dynamic` or `dynamic_s2`."""
    method = _method(host, DATASET, "LazySupervisedSpatialDataset", "__getitem__")
    return method is not None and any(
        isinstance(node, ast.Assert) and "dynamic" in ast.unparse(node.test) for node in ast.walk(method)
    )


def finished_means_any_config(host: Host) -> bool:
    """`get_checkpoint_path` takes any folder with a `config.json` for a finished run."""
    function = _function(host, TRAIN_UTILS, "get_checkpoint_path")
    return function is not None and "config.json" in _strings(function) and "max_steps" not in ast.unparse(function)


def resume_wants_flat_weights(host: Host) -> bool:
    """`Trainer._load_from_checkpoint` seeks one weight file; the host saves `llm/`, `vision_tower/`, ..."""
    return _method(host, TRAINER, "LLaVATrainer", "_load_from_checkpoint") is None


def model_dtype_is_ignored(host: Host) -> bool:
    """`--model_dtype` is parsed, and `prepare_config_for_training` writes bfloat16 or float16 over it."""
    function = _function(host, TRAIN_UTILS, "prepare_config_for_training")
    if function is None:
        return False
    return not any(
        isinstance(node, ast.Attribute) and node.attr == "model_dtype" and ast.unparse(node.value) == "training_args"
        for node in ast.walk(function)
    )


def packs_by_default(host: Host) -> bool:
    """`LlavaLlamaModel.forward(..., packing=True)`, which leaks between samples unless flash-attn runs."""
    method = _method(host, MODEL, "LlavaLlamaModel", "forward")
    if method is None:
        return False
    defaults = dict(zip([a.arg for a in method.args.args][-len(method.args.defaults) :], method.args.defaults))
    default = defaults.get("packing")
    return isinstance(default, ast.Constant) and default.value is True


def generation_lacks_processor(host: Host) -> bool:
    """`generate_content` sets `config.image_processor` in the dynamic modes only."""
    method = _method(host, ARCHITECTURE, "LlavaMetaForCausalLM", "generate_content")
    return method is not None and not any(_processor_assignments(method.body, tiled=False))


def imports_s2wrapper(host: Host) -> bool:
    """`vision_encoder.py` imports s2wrapper, which is not on PyPI, on top."""
    return any(
        isinstance(node, ast.ImportFrom) and node.module == "s2wrapper" for node in _tree(host, VISION_ENCODER).body
    )


def _processor_assignments(body: list[ast.stmt], *, tiled: bool) -> Iterator[bool]:
    """Yield True for each assignment to an `image_processor` that every image mode reaches."""
    for node in body:
        if isinstance(node, ast.If):
            test = ast.unparse(node.test)
            yield from _processor_assignments(node.body, tiled=tiled or "dynamic" in test)
            yield from _processor_assignments(node.orelse, tiled=tiled)
        elif isinstance(node, (ast.For, ast.With)):
            yield from _processor_assignments(node.body, tiled=tiled)
        elif isinstance(node, ast.Assign) and not tiled:
            yield any(isinstance(t, ast.Attribute) and t.attr == "image_processor" for t in node.targets)


@cache
def _parsed(source: str) -> ast.Module:
    return ast.parse(source)


def _tree(host: Host, relative: str) -> ast.Module:
    return _parsed(host.source(relative))


def _function(host: Host, relative: str, name: str) -> ast.FunctionDef | None:
    return next((n for n in _tree(host, relative).body if isinstance(n, ast.FunctionDef) and n.name == name), None)


def _method(host: Host, relative: str, owner: str, name: str) -> ast.FunctionDef | None:
    classes = (n for n in _tree(host, relative).body if isinstance(n, ast.ClassDef) and n.name == owner)
    return next((n for c in classes for n in c.body if isinstance(n, ast.FunctionDef) and n.name == name), None)


def _attributes(node: ast.AST) -> set[str]:
    return {child.attr for child in ast.walk(node) if isinstance(child, ast.Attribute)}


def _strings(node: ast.AST) -> set[str]:
    return {c.value for c in ast.walk(node) if isinstance(c, ast.Constant) and isinstance(c.value, str)}
