"""Every repair that the launcher makes to a running RoboRefer: named, explained, switchable, never on disk.

A repair is made only if the checkout (or the environment) has the defect; with a repaired host nothing is
done.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from roborefer_spatial.host.locate import Host
from roborefer_spatial.host.options import LaunchOptions
from roborefer_spatial.host.repairs import inspection, model, on_import, training

logger = logging.getLogger(__name__)

Stage = Literal["import", "model", "train"]


@dataclass(frozen=True)
class Repair:
    """One defect and what is done about it.

    Attributes
    ----------
    name : str
        What `--x3-without` takes.
    stage : {"import", "model", "train"}
        When it is made: before `llava` is imported, after the model code is, after the training code is.
    where : str
        The host file concerned.
    defect, remedy : str
        One sentence each.
    present : callable
        Tells from the source and the environment whether the defect is there.
    apply : callable
        Makes the repair in this process.
    """

    name: str
    stage: Stage
    where: str
    defect: str
    remedy: str
    present: Callable[[Host], bool]
    apply: Callable[[Host, LaunchOptions], None]


REPAIRS: tuple[Repair, ...] = (
    Repair(
        "torchvision", "import", "torchvision, which transformers imports",
        "its compiled part does not fit this torch, so that importing it fails",
        "its two missing operators are declared; the transforms work, calling nms raises",
        lambda host: inspection.torchvision_lacks_operators(), on_import.repair_torchvision,
    ),
    Repair(
        "mixture-syntax", "import", inspection.MIXTURE,
        "variables named like 2D_choice_qa are a SyntaxError: llava.data cannot be imported",
        "the names get an underscore in memory while the file is compiled",
        inspection.mixture_is_invalid, on_import.repair_mixture,
    ),
    Repair(
        "intern-flash-attn", "import", "llava/model/multimodal_encoder/intern/flash_attention.py",
        "imports flash-attn, which is not installed, although RoboRefer uses the SigLIP tower",
        "the InternViT attention module is replaced by one that raises when it is built",
        lambda host: not inspection.installed("flash_attn"), on_import.repair_intern_attention,
    ),
    Repair(
        "s2wrapper", "import", inspection.VISION_ENCODER,
        "imports s2wrapper, which is not on PyPI and not installed",
        "a stand-in whose forward raises; only --s2 towers call it",
        lambda host: inspection.imports_s2wrapper(host) and not inspection.installed("s2wrapper"),
        on_import.repair_s2wrapper,
    ),
    Repair(
        "attention", "model", "llava/model/multimodal_encoder/siglip_encoder.py, llava/train/train.py",
        "flash_attention_2 is hard-coded and flash-attn is not installed",
        "PyTorch's scaled dot-product attention (sdpa) is asked for instead",
        lambda host: not inspection.installed("flash_attn"), model.repair_attention,
    ),
    Repair(
        "packing", "model", inspection.MODEL,
        "forward packs a batch into one sequence, whose samples see each other unless flash-attn runs",
        "packing is off by default where flash-attn is not installed",
        lambda host: inspection.packs_by_default(host) and not inspection.installed("flash_attn"),
        model.repair_packing,
    ),
    Repair(
        "generate-content", "model", inspection.ARCHITECTURE,
        "generate_content has no image processor unless image_aspect_ratio is dynamic or dynamic_s2",
        "the vision tower's processor is set before every call",
        inspection.generation_lacks_processor, model.repair_generate_content,
    ),
    Repair(
        "trainer-log", "train", inspection.TRAINER,
        "LLaVATrainer.log takes one argument, transformers passes two: training dies at the first logged "
        "step",
        "log accepts start_time and drops it",
        inspection.log_lacks_start_time, training.repair_log,
    ),
    Repair(
        "resume", "train", inspection.TRAINER,
        "without DeepSpeed a resumed run fails: transformers seeks one weight file in checkpoint-N",
        "that load is left out, because the model was built from checkpoint-N already (checked)",
        inspection.resume_wants_flat_weights, training.repair_resume,
    ),
    Repair(
        "deepspeed-checkpoint", "train", "deepspeed/runtime/checkpoint_engine/torch_checkpoint_engine.py",
        "torch 2.6 and later refuse to load DeepSpeed's checkpoints: a run with DeepSpeed cannot be resumed",
        "DeepSpeed's own four bookkeeping classes are declared safe to load, and no others",
        lambda host: inspection.deepspeed_checkpoint_is_refused(),
        training.repair_deepspeed_checkpoint,
    ),
    Repair(
        "finished-directory", "train", inspection.TRAIN_UTILS,
        "an output folder with a config.json ends the run with status 0, whatever was asked",
        "it is said; a run asked for more steps goes on from its last checkpoint, or fails if there is none",
        inspection.finished_means_any_config, training.repair_finished_directory,
    ),
    Repair(
        "model-dtype", "train", inspection.TRAIN_UTILS,
        "--model_dtype is accepted and ignored",
        "a given --model_dtype decides the weights' type",
        inspection.model_dtype_is_ignored, training.repair_model_dtype,
    ),
    Repair(
        "data-path", "train", inspection.DATASET,
        "--data_path is accepted and read by nothing; an empty --data_mixture is an error",
        '--data_mixture "" --data_path FILE[,FILE...] trains on x3 files',
        inspection.data_path_is_unread, training.repair_data_path,
    ),
    Repair(
        "spatial-dataset", "train", inspection.DATASET,
        "the RefSpatial sets work with image_aspect_ratio dynamic and dynamic_s2 only",
        "in other modes this package's data module takes the class's place",
        inspection.spatial_dataset_needs_tiles, training.repair_spatial_dataset,
    ),
)  # fmt: skip
"""In the order in which they are made."""

_MADE: set[tuple[Path, str]] = set()

NAMES = tuple(repair.name for repair in REPAIRS)


def check_names(names: Iterable[str]) -> frozenset[str]:
    """Return repair names as a set; ValueError names an unknown one and the known ones."""
    given = frozenset(names)
    if unknown := given - set(NAMES):
        raise ValueError(f"--x3-without: no repair {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    return given


def apply_repairs(host: Host, options: LaunchOptions, stages: Collection[Stage]) -> list[str]:
    """Make the repairs of some stages that this host needs and the user did not switch off.

    A repair is made once in a process, however often this is called.

    Returns
    -------
    list of str
        Names of the repairs made by this call.
    """
    made = []
    for repair in REPAIRS:
        if repair.stage not in stages or (host.root, repair.name) in _MADE or not repair.present(host):
            continue
        if repair.name in options.without:
            logger.warning("repair %s is switched off: %s", repair.name, repair.defect)
            continue
        repair.apply(host, options)
        _MADE.add((host.root, repair.name))
        logger.info("repair %s: %s", repair.name, repair.remedy)
        made.append(repair.name)
    return made
