"""Every shipped config, composed on a double of the host's own configs and built against its class."""

from __future__ import annotations

import re
import sys
from dataclasses import fields, replace
from pathlib import Path

import mapanything_opv2v
import pytest
import torch
from hydra import compose
from mapanything_opv2v.geometry import Cylinder
from mapanything_opv2v.host.config_text import dataset_call
from mapanything_opv2v.panorama import PanoramaOptions
from omegaconf import OmegaConf

CONFIGS = Path(mapanything_opv2v.__file__).parent / "configs"
NOTES_NAME = "opv2v_cyl_coop"  # of opv2v_cyl_coop_ft, see test_notes_overrides
NAMES = ("opv2v_ft", "opv2v_coop_ft", "opv2v_cyl_coop_ft", "opv2v_cyl_coop_ft_5gpu", "opv2v_ft_smoke")

# The keys of the host's own configs that ours refer to.
HOST = {
    "train.yaml": """
        defaults:
            [{machine: default}, {model: default}, {dataset: default}, {loss: default}, {train_params: default}, _self_]
        root_experiments_dir: ${machine.root_experiments_dir}
    """,
    "machine/default.yaml": """
        root_data_dir: ???
        mapanything_dataset_metadata_dir: ???
        root_pretrained_checkpoints_dir: ???
        root_experiments_dir: ???
        root_uniception_pretrained_checkpoints_dir: ???
        external_benchmark_data_root_data_dir: ???
    """,
    "model/default.yaml": """
        model_str: ???
        model_config: {pretrained_checkpoint_path: null}
        data_norm_type: identity
    """,
    "model/mapanything.yaml": """
        defaults: [default]
        model_str: mapanything
        model_config: {name: mapanything, uses: "a+b", reach: [.inf, null]}
    """,
    "loss/default.yaml": """
        train_criterion: ""
        test_criterion: ""
    """,
    "dataset/default.yaml": """
        train_dataset: ???
        test_dataset: "[null]"
        num_workers: 12
        resolution_train: ???
        resolution_val: ???
        num_views: 2
        principal_point_centered: false
        train: {variable_num_views: true}
        val: {variable_num_views: false}
        resolution_options: {518_1_33_ar: "(518, 392)"}
    """,
    "train_params/default.yaml": """
        max_num_of_imgs_per_gpu: 48
        epochs: 100
        warmup_epochs: 10
        lr: 0.0001
        print_freq: 20
    """,
    "train_params/finetune_with_lower_encoder_lr.yaml": """
        defaults: [default]
        lr: 5e-06
        min_lr: 5e-08
        submodule_configs: {encoder: {lr: 2.5e-07, min_lr: 2.5e-09, warmup_epochs: "${train_params.warmup_epochs}"}}
    """,
}


@pytest.fixture
def composed(host_configs):
    """Return a function that composes train.yaml of the double with overrides, our plugin being active."""
    with host_configs(HOST):
        yield lambda *overrides: compose("train", overrides=list(overrides))


def build(text, module="mapanything.datasets"):
    """Evaluate a config string where the host does."""
    return eval(text, vars(sys.modules[module]))


def criterion(text):
    return build(text, "mapanything.train.training")


def test_every_config_is_listed():
    assert sorted(path.stem for path in (CONFIGS / "dataset").glob("*.yaml")) == sorted([*NAMES, NOTES_NAME])
    assert sorted(path.stem for path in (CONFIGS / "train_params").glob("*.yaml")) == sorted([*NAMES, NOTES_NAME])


@pytest.mark.parametrize("name", NAMES)
def test_a_config_builds_its_datasets(composed, name):
    few = "dataset.opv2v.train.samples_per_epoch=5"
    config = composed(f"dataset={name}", f"train_params={name}", "machine=opv2v", few)
    train, validation = build(config.dataset.train_dataset), build(config.dataset.test_dataset)
    train.set_epoch(0)
    counts = train.num_views if isinstance(train.num_views, list) else [train.num_views]
    assert counts == list(range(2, config.dataset.num_views + 1))
    tail = (0, len(counts) - 1) if len(counts) > 1 else (0,)
    views = train[(0, *tail)]
    assert len(views) == counts[-1] and views[0]["label"].startswith("train/")
    assert type(validation).__name__ == f"{type(train.dataset).__name__}_validate"
    assert validation[0][0]["label"].startswith("validate/")
    assert train.dataset.seed is None and validation.seed == 777
    assert train.dataset.strict and validation.strict
    width, height = train._resolutions[0]
    assert views[0]["img"].shape == (3, height, width) and width % 14 == height % 14 == 0


@pytest.mark.parametrize("name", NAMES)
def test_validation_can_read_no_other_split(composed, name):
    config = composed(f"dataset={name}", "machine=opv2v")
    text = config.dataset.test_dataset
    assert " split=" not in text and text.count("ROOT=") == text.count("_validate(") == 1
    keys = [part.split("(")[0] for part in text.split("+") if "(" in part]  # as the host cuts it
    assert len(keys) == len(set(keys)) == 1


@pytest.mark.parametrize("name", NAMES)
def test_a_stage_starts_and_leaves_its_warm_up(composed, name):
    config = composed(f"dataset={name}", f"train_params={name}", "machine=opv2v")
    assert 2 * (config.train_params.max_num_of_imgs_per_gpu // config.dataset.num_views) >= 1
    assert 0 < config.train_params.warmup_epochs < config.train_params.epochs


def test_five_gpus_make_as_many_steps_as_four(composed):
    def steps(name, gpus):
        config = composed(f"dataset={name}", f"train_params={name}", "machine=opv2v")
        largest_batch = config.train_params.max_num_of_imgs_per_gpu // 2
        return config.dataset.opv2v.train.samples_per_epoch // largest_batch // gpus

    assert steps("opv2v_cyl_coop_ft", 4) == steps("opv2v_cyl_coop_ft_5gpu", 5) == 5000


def test_roots_are_links_below_the_start_folder_unless_told(composed, monkeypatch):
    monkeypatch.delenv("OPV2V_ROOT")
    monkeypatch.delenv("OPV2V_DEPTH_ROOT")
    machine = composed("dataset=opv2v_ft", "machine=opv2v").machine
    assert (machine.opv2v_root, machine.opv2v_depth_root) == ("data/opv2v", "data/opv2v_depth")
    assert "???" not in str(machine)


def test_options_reach_the_class(composed, small_town):
    config = composed(
        "dataset=opv2v_coop_ft",
        "machine=opv2v",
        "dataset.opv2v.camera_ids=[2,0]",
        f"dataset.opv2v.include_agents={list(small_town.agents[1:3])}",
        "dataset.opv2v.main_agent_policy=closest",
        f"dataset.opv2v.main_agent={small_town.agents[2]}",
        "dataset.opv2v.train.max_scenes=2",
        "dataset.opv2v.strict=false",
        "dataset.num_views=4",
        "dataset.opv2v.train.min_num_views=3",
        "dataset.opv2v.train.transform=imgnorm",
        "dataset.opv2v.train.samples_per_epoch=4",
    )
    dataset = build(config.dataset.train_dataset).dataset
    assert dataset.options.camera_ids == (2, 0) and dataset.options.include_agents == small_town.agents[1:3]
    assert dataset.options.main_agent == small_town.agents[2] and dataset.options.main_agent_policy == "closest"
    assert len(dataset) == 2 and not dataset.strict and dataset.num_views == [3, 4]


def test_panorama_options_reach_the_class(composed):
    config = composed(
        "dataset=opv2v_cyl_coop_ft",
        "machine=opv2v",
        'dataset.resolution_train="(120,30)"',
        "dataset.opv2v.panorama_ground_height_m=1.9",
        "dataset.opv2v.panorama_projection_radius_m=35",
        "dataset.opv2v.panorama_vertical_fov_deg=60",
        "dataset.opv2v.panorama_elevation_center_deg=-5",
    )
    for dataset in (build(config.dataset.train_dataset).dataset, build(config.dataset.test_dataset)):
        assert dataset.panorama_options.ground_height_m == 1.9
        assert dataset.panorama_options.projection_radius_m == 35
        assert dataset._cylinder((120, 30)) == Cylinder(120, 30, 60, -5)
        assert dataset.panorama_options.feather_deg == PanoramaOptions().feather_deg
    config.dataset.opv2v.panorama_cache = "nowhere"
    with pytest.raises(ValueError, match="panorama_cache=nowhere holds no panoramas"):
        build(config.dataset.test_dataset)


def test_every_panorama_option_has_its_key(composed):
    keys = composed("dataset=opv2v_cyl_coop_ft", "machine=opv2v").dataset.opv2v
    names = [*(field.name for field in fields(PanoramaOptions)), "vertical_fov_deg", "elevation_center_deg", "cache"]
    assert {key for key in keys if key.startswith("panorama_")} == {f"panorama_{name}" for name in names}
    assert all(keys[f"panorama_{name}"] is None for name in names)  # their defaults stand in the classes only


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("feather_deg", 0.5),
        ("antialias", False),
        ("refine_range", False),
        ("fill_radius_px", 2),
        ("match_exposure", True),
    ],
)
def test_each_panorama_option_acts(composed, name, value):
    size = 'dataset.resolution_train="(120,30)"'
    config = composed("dataset=opv2v_cyl_coop_ft", "machine=opv2v", size, f"dataset.opv2v.panorama_{name}={value}")
    for text in (config.dataset.train_dataset, config.dataset.test_dataset):
        dataset = build(text)
        options = getattr(dataset, "dataset", dataset).panorama_options
        assert options == replace(PanoramaOptions(), **{name: value})


def test_a_call_says_what_its_mappings_say():
    own = {"seed": 0, "samples_per_epoch": 9, "dataset_str": "x", "resolution": "[(2, 3), (4, 5)]", "text": "(a+b"}
    shared = {"class_name": "C", "seed": None, "strict": True, "train": {"deep": 1}, "radius": float("inf"), "n": None}
    call = dataset_call("C", OmegaConf.create(shared), OmegaConf.create(own))
    assert call == r"C(strict=True, radius=float('inf'), seed=0, resolution=[(2, 3), (4, 5)], text='(a\x2bb')"
    said = {"strict": True, "radius": float("inf"), "seed": 0, "resolution": [(2, 3), (4, 5)], "text": "(a+b"}
    assert eval(call, {"C": dict}) == said


def test_paths_with_quotes_survive(composed, monkeypatch):
    monkeypatch.setenv("OPV2V_ROOT", "/data/it's here")
    config = composed("dataset=opv2v_ft", "machine=opv2v")
    with pytest.raises(FileNotFoundError, match="root=/data/it's here is not a folder"):
        build(config.dataset.train_dataset)


def test_a_plus_in_a_path_does_not_cut_the_string(composed, monkeypatch):
    root = r"/data/a+b\+c"
    monkeypatch.setenv("OPV2V_ROOT", root)
    (part,) = composed("dataset=opv2v_ft", "machine=opv2v").dataset.test_dataset.split("+")  # the host's way
    with pytest.raises(FileNotFoundError, match=re.escape(f"root={root} is not a folder")):
        build(part)


LOSSES = {
    "opv2v_loss": "",
    "opv2v_rel_pose_loss": "",
    "opv2v_depth_loss": "OPV2VMaskedDepthLoss",
    "opv2v_agreement_loss": "OPV2VAgentAgreementLoss",
    "opv2v_scale_distillation_loss": "OPV2VScaleDistillationLoss",
}
BARE = ["dataset=opv2v_ft", "machine=opv2v", "model=mapanything"]


@pytest.fixture
def teacher(tmp_path, double_host):
    """A checkpoint of the double's model."""
    from mapanything.models import model_factory

    torch.save({"model": model_factory("mapanything", name="t").state_dict()}, tmp_path / "teacher+1.pth")
    return tmp_path / "teacher+1.pth"


def test_every_loss_config_is_listed():
    assert sorted(path.stem for path in (CONFIGS / "loss").glob("*.yaml")) == sorted([*LOSSES, "opv2v_start_loss"])


def test_the_loss_of_a_start_builds_its_class(composed):
    config = composed(*BARE, "loss=opv2v_start_loss", "loss.opv2v.start.points_weight=0.5").loss
    for text in (config.train_criterion, config.test_criterion):
        loss = criterion(text)
        assert type(loss).__name__ == "OPV2VStartLoss" and loss.points_weight == 0.5 and loss._loss2 is None


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_config_builds_its_classes(composed, teacher, name):
    config = composed(*BARE, f"loss={name}", f"loss.opv2v.teacher.checkpoint='{teacher}'").loss
    train, test = criterion(config.train_criterion), criterion(config.test_criterion)
    chain = []
    for loss in (train, test):
        names = []
        while loss is not None:
            names.append((type(loss).__name__, loss._alpha))
            loss = loss._loss2
        chain.append(names)
    extra = [(LOSSES[name], 0.5)] if LOSSES[name] else []
    mask = ("OPV2VNonAmbiguousMaskLoss", 0.3)
    assert chain[0] == [("ConfAndExcludeTopNPercentPixelLoss", 1), mask, *extra]
    assert chain[1] == [("ExcludeTopNPercentPixelLoss", 1), mask]
    assert train._loss2.pos_weight == test._loss2.pos_weight == "balanced"
    pairwise = name in ("opv2v_rel_pose_loss", "opv2v_agreement_loss")
    for pixels in (train.pixel_loss, test.pixel_loss):
        assert type(pixels).__name__ == "OPV2VFactoredGeometryScaleRegr3DPlusNormalGMLoss"
        assert pixels.compute_absolute_pose_loss and pixels.compute_pairwise_relative_pose_loss == pairwise
        weights = (pixels.pose_quats_loss_weight, pixels.pose_trans_loss_weight)
        assert weights == ((3, 3) if pairwise else (1, 1))
        assert pixels.gm_loss_weight == pixels.normal_loss_weight == 3


def test_terms_of_the_loss_can_be_combined_and_set(composed):
    extra = "loss.opv2v.extra='${loss.opv2v.depth.term} ${loss.opv2v.agreement.term}'"
    options = ("loss.opv2v.pos_weight=2.5", "loss.opv2v.depth.highest_m=25", "loss.opv2v.agreement.weight=0.125")
    loss = criterion(composed(*BARE, "loss=opv2v_loss", extra, *options).loss.train_criterion)
    mask, depth, agreement = loss._loss2, loss._loss2._loss2, loss._loss2._loss2._loss2
    assert mask.pos_weight == 2.5 and depth.highest_m == 25 and agreement._alpha == 0.125


def test_the_teacher_is_a_model_like_the_student_unless_told(composed, teacher):
    config = composed(*BARE, "loss=opv2v_scale_distillation_loss", f"loss.opv2v.teacher.checkpoint='{teacher}'")
    assert config.loss.opv2v.teacher.model_config == config.model.model_config
    loss = criterion(config.loss.train_criterion)._loss2._loss2
    assert type(loss.teacher.model).__name__ == "MapAnything" and loss.teacher.checkpoint == str(teacher)
    missing = composed(*BARE, "loss=opv2v_scale_distillation_loss")
    with pytest.raises(ValueError, match=r"no checkpoint; set loss\.opv2v\.teacher\.checkpoint=PATH"):
        criterion(missing.loss.train_criterion)
    OmegaConf.to_container(missing.loss, resolve=True)  # what is not used does not stand in the way


def test_the_model_config_builds_its_class(composed):
    from mapanything.models import model_factory

    options = ("model.model_config.max_agents=3", "model.model_config.freeze=everything_else")
    config = composed("dataset=opv2v_ft", "machine=opv2v", "model=opv2v_mapanything", *options).model
    model = model_factory(config.model_str, **OmegaConf.to_container(config.model_config, resolve=True))
    assert type(model).__name__ == "OPV2VMapAnything" and len(model.agent_embedding) == 2
    assert [name for name, p in model.named_parameters() if p.requires_grad] == ["agent_embedding"]
