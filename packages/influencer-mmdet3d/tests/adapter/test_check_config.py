"""`check --config`: classes and voxel size of a config."""

import pytest
from influencer_mmdet3d.data.formats import FORMATS
from influencer_mmdet3d.host.check import format_of_config

IMPORTS = "custom_imports = dict(imports=['oneformer3d', 'influencer_mmdet3d'])\n"


def config(tmp_path, text):
    path = tmp_path / "config.py"
    path.write_text(IMPORTS + text)
    return path


def test_own_classes(tmp_path):
    text = (
        "model = dict(voxel_size=0.1)\nval_evaluator = dict(metric_meta=dict(classes=['pipe', 'valve', 'unlabeled']))\n"
    )
    kind = format_of_config(FORMATS["s3dis"], config(tmp_path, text))
    assert kind.classes == {0: "pipe", 1: "valve"} and kind.labels == range(2) and kind.voxel == 0.1 and kind.own


def test_the_hosts_classes_stay_what_they_are(tmp_path):
    names = [*FORMATS["s3dis"].classes.values(), "unlabeled"]
    kind = format_of_config(
        FORMATS["s3dis"], config(tmp_path, f"val_evaluator = dict(metric_meta=dict(classes={names}))")
    )
    assert kind == FORMATS["s3dis"] and not kind.own


def test_scannet_maps_ids(tmp_path):
    text = "val_evaluator = dict(sem_mapping=[1, 40], metric_meta=dict(classes=['wall', 'pipe', 'unlabeled']))\n"
    kind = format_of_config(FORMATS["scannet"], config(tmp_path, text))
    assert kind.classes == {1: "wall", 40: "pipe"} and kind.labels == range(-1, 41)
    with pytest.raises(ValueError, match="sem_mapping has 1 ids for 2 classes"):
        format_of_config(FORMATS["scannet"], config(tmp_path, text.replace("[1, 40]", "[1]")))


def test_a_config_without_classes(tmp_path):
    with pytest.raises(ValueError, match=r"val_evaluator\.metric_meta\.classes names no classes"):
        format_of_config(FORMATS["s3dis"], config(tmp_path, ""))
