"""`evaluate` and `predict` with models of other projects that the host builds; small, from random weights."""

from __future__ import annotations

import functools
import importlib.util
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from mapanything_opv2v import cli
from mapanything_opv2v.predictions import list_predictions, load_predictions

SMALL = ("--num-views", "3", "--resolution", "56", "42", "--quiet")


@pytest.fixture
def small_models(monkeypatch):
    """Return overrides by model; what their wrappers cannot make small is made small behind them."""
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: (8, 0))  # the wrappers ask without a GPU
    from mapanything.models.external.dinov2.hub.backbones import dinov2_vits14_reg
    from mapanything.models.external.pi3.models import pi3
    from mapanything.models.external.vggt.models import aggregator, vggt

    class Patches(aggregator.PatchEmbed):
        """The aggregator calls its patches as if they were a transformer."""

        forward_features = aggregator.PatchEmbed.forward

    monkeypatch.setattr(aggregator, "PatchEmbed", Patches)
    monkeypatch.setattr(vggt, "Aggregator", functools.partial(vggt.Aggregator, patch_embed="conv"))
    monkeypatch.setattr(pi3, "dinov2_vitl14_reg", dinov2_vits14_reg)
    narrow = functools.partial(pi3.TransformerDecoder, depth=1)
    monkeypatch.setattr(pi3, "TransformerDecoder", narrow)
    return {
        "vggt": (
            "vggt_non_pretrained",
            "+model.model_config.depth=4",
            "+model.model_config.num_heads=4",
            "+model.model_config.intermediate_layer_idx=[0,1,2,3]",
        ),
        "pi3": (
            "pi3",
            "model.model_config.load_pretrained_weights=false",
            "+model.model_config.decoder_size=small",
        ),
    }


def call(command, model, town, out, *more):
    data = ("--root", town.root, "--depth-root", town.depth_root, "--out", out)
    return cli.main([str(w) for w in (command, "--model", *model, *data, *SMALL, *more)])


DA3 = pytest.mark.skipif(
    importlib.util.find_spec("depth_anything_3") is None, reason="the package depth-anything-3 is not installed"
)


@pytest.fixture
def small_da3(small_models, monkeypatch):
    """Return the overrides of a DA3 with random weights in place of its published ones."""
    from depth_anything_3.api import DepthAnything3

    monkeypatch.setattr(
        DepthAnything3, "from_pretrained", classmethod(lambda cls, *_, **__: cls(model_name="da3-small"))
    )
    return ("da3",)


@DA3
def test_da3_takes_poses_under_its_own_names(small_da3, small_town, tmp_path):
    torch.manual_seed(0)
    frame = ("--frames", f"test/{small_town.sequences[0]}/{small_town.frames[0]}")
    given = ("--inputs", "calibration", "pose")
    found = []
    for name, more in (("images", ()), ("posed", given)):
        torch.manual_seed(0)
        assert call("predict", small_da3, small_town, tmp_path / name, *frame, *more) == 0
        (path,) = list_predictions(tmp_path / name)
        found.append(load_predictions(path))
    images, posed = found
    assert images.metric_scale is None and images.meta.inputs == () and posed.meta.inputs == ("calibration", "pose")
    assert np.array_equal(images.image, posed.image)
    assert not np.array_equal(images.pose_world_cam_pred, posed.pose_world_cam_pred)


@pytest.mark.parametrize("name", ["vggt", "pi3"])
def test_models_without_a_scale_have_scale_free_figures(name, small_models, small_town, tmp_path, capsys):
    out = tmp_path / "eval"
    torch.manual_seed(0)
    frames = ("--frames", *(f"test/{small_town.sequences[0]}/{frame}" for frame in small_town.frames))
    more = ("--keep-predictions", "--baseline-samples", "2", *frames)
    assert call("evaluate", small_models[name], small_town, out, *more) == 0
    text = capsys.readouterr().out
    summary = json.loads((out / "summary.json").read_text())
    assert summary["frames"] == 2 and not summary["failed"]
    assert summary["figures"]["depth_rmse_m"] == {"frames": 0} and "depth_rmse_m" not in text
    assert summary["figures"]["depth_relative_scaled"]["frames"] == 2 and "depth_relative_scaled" in text
    assert summary["figures"]["vehicle_direction_deg"]["frames"] == 2
    assert summary["provenance"]["model"] == name and len(summary["provenance"]["checkpoint_sha256"]) == 64
    assert "depth_relative_scaled" in summary["baselines"]["constant"]["figures"]
    frame = load_predictions(list_predictions(out / "predictions")[0])
    assert frame.metric_scale is None and frame.confidence is not None
    assert np.allclose(frame.points_cam(0)[..., 2], frame.depth_z_m[0], atol=1e-5)


def test_moge_has_one_view_and_no_poses(small_models, small_town, tmp_path, monkeypatch, capsys):
    from mapanything.models.external import moge

    small = classmethod(lambda cls, *_, **__: cls(encoder="dinov2_vits14", intermediate_layers=2))
    monkeypatch.setattr(moge.MoGeModelV1, "from_pretrained", small)
    torch.manual_seed(0)
    words = ["predict", "--model", "moge_1", "--root", small_town.root, "--quiet", "--resolution", "56", "42"]
    single = [*words, "--dataset", "OPV2VDataset", "--num-views", "1", "--out", tmp_path / "one"]
    assert cli.main([str(word) for word in single]) == 0
    frames = [load_predictions(path) for path in list_predictions(tmp_path / "one")]
    assert frames and all(np.array_equal(frame.pose_world_cam_pred, np.eye(4)[None]) for frame in frames)
    assert all(frame.metric_scale is None for frame in frames)
    capsys.readouterr()
    assert cli.main([str(word) for word in (*words, "--num-views", "2", "--out", tmp_path / "two")]) == 2
    assert "MoGeWrapper does not take these 2 views" in capsys.readouterr().err


def test_a_metric_model_without_a_scale_says_so(small_models, small_town, tmp_path):
    torch.manual_seed(0)
    frame = ("--frames", f"test/{small_town.sequences[0]}/{small_town.frames[0]}")
    assert call("predict", small_models["vggt"], small_town, tmp_path / "out", "--unit-is-metre", *frame) == 0
    (path,) = list_predictions(tmp_path / "out")
    assert load_predictions(path).metric_scale == 1.0


def test_what_a_model_cannot_take_is_one_line(small_models, small_town, tmp_path, capsys):
    def refused(message, model, *more):
        assert call("predict", model, small_town, tmp_path / "no", *more) == 2
        assert message in capsys.readouterr().err

    refused("VGGTWrapper takes images only; leave --inputs out", small_models["vggt"], "--inputs", "pose")
    refused("--model nothing: the host has no such config; it has anycalib, da3,", ("nothing",))


NEEDED = {
    "anycalib": ("anycalib", "anycalib"),
    "da3": ("depth_anything_3", "depth-anything-3"),
    "da3_nested": ("depth_anything_3", "depth-anything-3"),
    "dust3r": ("dust3r", "dust3r"),
    "mast3r": ("dust3r", "mast3r"),
    "metric_dust3r": ("dust3r", "dust3r"),
    "must3r": ("dust3r", "must3r"),
    "pi3x": ("pi3", "pi3"),
    "pow3r": ("pow3r", "pow3r"),
    "pow3r_ba": ("pow3r", "pow3r"),
}
"""The module that is missed first, and the host's extra that brings it, by model."""


@pytest.mark.parametrize("model", NEEDED)
def test_a_missing_package_is_named_with_the_way_to_it(model, small_town, tmp_path, capsys):
    module, extra = NEEDED[model]
    if importlib.util.find_spec(module) is not None:
        pytest.skip(f"{module} is installed")
    assert call("predict", (model,), small_town, tmp_path / "no") == 2
    said = capsys.readouterr().err
    assert f"--model {model}: the package {module} is missing" in said
    assert f'pip install -e "$MAPANYTHING_ROOT[{extra}]"' in said


def test_the_docs_table_has_every_model_of_the_host(host_root):
    text = (Path(__file__).parents[4] / "docs/mapanything-opv2v/models.md").read_text()
    rows = [line.split("|")[1] for line in text.partition("### Each model")[2].splitlines() if line.startswith("| `")]
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert named == {path.stem for path in (host_root / "configs/model").glob("*.yaml")} - {"default"}
    for model, (_, extra) in NEEDED.items():
        assert any(f"`{model}`" in line and f"[{extra}]" in line for line in text.splitlines()), model
