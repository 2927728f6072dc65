"""benchmarks/learn_towns_pack.py hands over what the package's cooperative datasets do, on the real host."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mapanything_opv2v import synthetic
from mapanything_opv2v.host.datasets import DATASETS
from torch.utils.data import default_collate

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import learn_towns_pack

SIZES = {"panorama": (112, 28), "pinhole": (56, 42)}
NOT_TOLD = {"idx", "true_shape", "rng", "agent_index", "depthmap"}
"""Nothing of the model, the losses or the judging reads these; the number of an agent depends on the others' ids."""


@pytest.fixture(scope="module")
def town(tmp_path_factory):
    root = tmp_path_factory.mktemp("towns")
    synthetic.write_town(root, seed=3, frames=2, agents=3, image_size=(80, 60), lidar_size=(2, 16), layout="streets")
    return root


def opened(town, layout, cooperative, **options):
    kind = {"panorama": "Cylindrical", "pinhole": ""}[layout]
    cls = DATASETS[f"OPV2V{'Coop' if cooperative else ''}{kind}Dataset"]
    views = (2 if cooperative else 1) * (1 if layout == "panorama" else 4)
    return cls(ROOT=town, split="train", num_views=views, resolution=SIZES[layout], transform="imgnorm",
               data_norm_type="patch_embedder", **options)  # fmt: skip


@pytest.mark.parametrize("layout", SIZES)
@pytest.mark.parametrize("rolled", [False, True])
def test_a_batch_is_the_datasets_samples(town, tmp_path, layout, rolled):
    if rolled and layout == "pinhole":
        pytest.skip("only panoramas roll")
    learn_towns_pack.pack(opened(town, layout, False, seed=0), tmp_path / "packed", 1)
    pack = learn_towns_pack.Pack(tmp_path / "packed", "cpu")
    pairs = pack.pairs()
    assert len(pairs) == 2 * 6  # two moments, ordered pairs of three vehicles
    ids = [int(names[0].split("/")[0].removeprefix("agent")) for names in pack.instances]
    for a, b in pairs[::5]:
        options = {"panorama_roll": True} if rolled else {}
        there = opened(town, layout, True, include_agents=[ids[a], ids[b]], main_agent=ids[a], seed=0, **options)
        (index,) = [n for n in range(len(there)) if there.frames[there.index.scenes[n].frame_number].name
                    == pack.labels[a]]  # fmt: skip
        sample = there.sample(index)
        columns = None
        if rolled:
            still = opened(town, layout, True, include_agents=[ids[a], ids[b]], main_agent=ids[a], seed=0)
            columns = torch.tensor([[turned_by(x, y) for x, y in zip(still.sample(index), sample)]])
        made = pack.views(np.array([[a, b]]), columns)
        by_name = {view["instance"][0]: view for view in made}
        assert {view["instance"] for view in sample} == set(by_name)
        assert made[0]["instance"][0].startswith(f"agent{ids[a]}/")
        for view in default_collate([sample]):
            mine = by_name[view["instance"][0]]
            assert set(view) - NOT_TOLD == set(mine) - NOT_TOLD
            for key, value in view.items():
                if key in NOT_TOLD:
                    continue
                if torch.is_tensor(value):
                    same = mine[key].shape == value.shape and mine[key].dtype == value.dtype
                    assert same, (key, mine[key].shape, value.shape, mine[key].dtype, value.dtype)
                    if key == "camera_pose_quats":
                        value = value * torch.sign((value * mine[key]).sum())  # q and -q are the same turn
                    torch.testing.assert_close(mine[key], value, rtol=2e-5, atol=2e-4)
                else:
                    assert mine[key] == value, key


def turned_by(still, sample):
    """Return the columns by which a sample's panorama was rolled."""
    width = still["img"].shape[-1]
    off = [float((still["img"].roll(n, dims=-1) - sample["img"]).abs().sum()) for n in range(width)]
    return int(np.argmin(off))


def test_towns_and_distances_are_chosen(town, tmp_path):
    learn_towns_pack.pack(opened(town, "panorama", False, seed=0), tmp_path / "packed", 1)
    pack = learn_towns_pack.Pack(tmp_path / "packed", "cpu", towns=1)
    away = [np.linalg.norm(pack.positions[a] - pack.positions[b]) for a, b in pack.pairs()]
    limit = float(np.median(away))
    assert len(pack.pairs(limit)) == sum(d <= limit for d in away)
    assert len(pack.pairs(moments=slice(0, 1))) == 6


def test_quaternions_and_matrices_turn_alike():
    generator = torch.Generator().manual_seed(1)
    quats = torch.nn.functional.normalize(torch.randn(5, 4, generator=generator, dtype=torch.float64), dim=-1)
    R, turned = learn_towns_pack.turned(learn_towns_pack.matrices(quats), quats, torch.linspace(-3, 3, 5).double())
    torch.testing.assert_close(learn_towns_pack.matrices(turned), R)
