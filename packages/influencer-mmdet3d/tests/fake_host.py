"""A double of the host's checkout, written from the contract: recording tools, configs, checkpoints."""

from __future__ import annotations

import json
from collections import OrderedDict
from pathlib import Path

import torch
from mmengine.logging import HistoryBuffer

TOOL = """
import json, os, sys
names = ("PYTHONPATH", "ONEFORMER3D_ROOT", "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "WORLD_SIZE")
with open(os.environ["FAKE_RECORD"], "w") as file:
    json.dump({"argv": sys.argv, "cwd": os.getcwd(), **{name: os.environ.get(name) for name in names}}, file)
print("the host speaks")
print("and complains", file=sys.stderr)
sys.exit(int(os.environ.get("FAKE_EXIT", "0")))
"""

S3DIS = """
custom_imports = dict(imports=['oneformer3d'])
model = dict(
    type='S3DISOneFormer3D',
    decoder=dict(type='QueryDecoder', num_instance_classes=13),
    criterion=dict(
        type='S3DISUnifiedCriterion',
        inst_criterion=dict(type='InstanceCriterion', matcher=dict(type='HungarianMatcher'), num_classes=13)))
train_dataloader = dict(
    batch_size=2,
    dataset=dict(
        type='ConcatDataset',
        datasets=[
            dict(type='S3DISSegDataset_', data_root='data/s3dis/', ann_file=f's3dis_infos_Area_{i}.pkl')
            for i in (1, 2)]))
val_dataloader = dict(
    batch_size=1,
    dataset=dict(type='S3DISSegDataset_', data_root='data/s3dis/', ann_file='s3dis_infos_Area_5.pkl'))
test_dataloader = val_dataloader
optim_wrapper = dict(optimizer=dict(type='AdamW', lr=0.0001))
load_from = 'work_dirs/tmp/start.pth'
default_hooks = dict(checkpoint=dict(type='CheckpointHook'))
"""

PARTS = """
import torch
from mmengine.registry import DATASETS, MODELS


class S3DISOneFormer3D(torch.nn.Module):
    def __init__(self, decoder, criterion):
        super().__init__()
        options = criterion["inst_criterion"]
        self.criterion = None if "matcher" in options else MODELS.build(options)
        self.decoder = torch.nn.Linear(4, 4, bias=False)
        self.input_conv = torch.nn.ModuleList([torch.nn.Module()])
        self.input_conv[0].weight = torch.nn.Parameter(torch.zeros(16, 3, 3, 3, 6))


class Data:
    metainfo = {}

    def __init__(self, **options):
        pass

    def full_init(self):
        pass

    def __len__(self):
        return 1


MODELS.register_module(module=S3DISOneFormer3D, force=True)
DATASETS.register_module(name="S3DISSegDataset_", module=Data, force=True)
"""
AREAS = (1, 2, 5)


def write_host(root: Path) -> Path:
    """Write the double and return its root."""
    for folder in ("tools", "configs", "oneformer3d"):
        (root / folder).mkdir(parents=True)
    for tool in ("train", "test"):
        (root / "tools" / f"{tool}.py").write_text(TOOL)
    (root / "oneformer3d" / "__init__.py").write_text(PARTS)
    (root / "configs" / "oneformer3d_1xb2_s3dis-area-5.py").write_text(S3DIS)
    (root / "configs" / "oneformer3d_1xb4_scannet.py").write_text(S3DIS)
    return root


def write_infos(folder: Path) -> Path:
    """Write the files that the double's datasets name, empty."""
    folder.mkdir(parents=True)
    for area in AREAS:
        (folder / f"s3dis_infos_Area_{area}.pkl").write_bytes(b"")
    return folder


def called(record: Path) -> dict:
    """Return what the double's tool recorded."""
    return json.loads(record.read_text())


KEYS = ("input_conv.0.weight", "unet.blocks.block0.conv_branch.2.weight", "unet.u.blocks_tail.block0.i_branch.0.weight")
SHAPES = ((16, 3, 3, 3, 6), (16, 3, 3, 3, 16), (32, 1, 1, 1, 64))  # (O, k, k, k, I)


def checkpoint(*, permuted: bool = False, version: int | None = 2, prefix: str = "") -> dict:
    """A checkpoint as mmengine writes it, kernels perhaps permuted as the host's tool does."""
    state = OrderedDict((prefix + key, torch.randn(shape)) for key, shape in zip(KEYS, SHAPES))
    if permuted:
        state = OrderedDict((key, kernel.permute(1, 2, 3, 4, 0)) for key, kernel in state.items())
    state["decoder.weight"] = torch.randn(4, 4)
    state._metadata = OrderedDict({"": {"version": 1}})
    if version is not None:
        state._metadata.update({key.rsplit(".", 1)[0]: {"version": version} for key in state})
    buffer = HistoryBuffer([1.0, 2.0], [1, 1])
    return {"state_dict": state, "message_hub": {"log_scalars": {"train/loss": buffer}}, "meta": {"epoch": 2}}
