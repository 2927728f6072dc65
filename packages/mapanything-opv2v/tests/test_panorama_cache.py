import dataclasses
import json
import os

import numpy as np
import pytest
from mapanything_opv2v import panorama, rawdata
from mapanything_opv2v.arrays import load_npz
from mapanything_opv2v.geometry import Cylinder

CYLINDER = Cylinder(96, 24)


def equal(a, b):
    return all(np.array_equal(getattr(a, f.name), getattr(b, f.name)) for f in dataclasses.fields(a))


@pytest.fixture
def town(own_town):
    root, depth_root = own_town
    return rawdata.index_tree(root, depth_root=depth_root, splits=["train"])


@pytest.fixture
def cache(tmp_path):
    return panorama.PanoramaCache(tmp_path / "cache", CYLINDER)


def first(index):
    frame = index.splits["train"][0]
    return frame.split, frame.sequence, frame.agents[1], frame.frame


def test_what_is_kept_is_what_was_built(town, cache):
    where = first(town)
    assert cache.load(*where) is None
    built = cache.build(where[2])
    assert built.has_range.any() and built.sky.any()
    cache.save(*where, built)
    kept = cache.load(*where)
    assert equal(kept, built)
    assert kept.range_m.dtype == np.float32 and kept.sky.dtype == bool


def test_filled_and_colour_only_panoramas_round_trip(town, tmp_path):
    options = panorama.PanoramaOptions(fill_radius_px=3)
    for cache in (
        panorama.PanoramaCache(tmp_path / "a", CYLINDER, options),
        panorama.PanoramaCache(tmp_path / "b", CYLINDER, with_depth=False, camera_ids=(0, 3)),
    ):
        where = first(town)
        built = cache.build(where[2])
        cache.save(*where, built)
        assert equal(cache.load(*where), built)


def test_prebuild_goes_on_where_it_stopped(town, cache):
    number = sum(len(frame.agents) for frame in town.splits["train"])
    where = first(town)
    cache.save(*where, cache.build(where[2]))
    done = panorama.prebuild(town, cache, progress=False)
    assert (done.built, done.skipped, done.failed) == (number - 1, 1, {})
    again = panorama.prebuild(town, cache, progress=False)
    assert (again.built, again.skipped) == (0, number)
    assert json.loads((done.home / "parameters.json").read_text()) == cache.parameters()
    for frame in town.splits["train"]:
        for agent in frame.agents:
            assert equal(cache.load(frame.split, frame.sequence, agent, frame.frame), cache.build(agent))


def test_two_processes_build_the_same(town, cache, tmp_path):
    alone = dataclasses.replace(cache, folder=tmp_path / "alone")
    assert panorama.prebuild(town, cache, workers=2, progress=False).failed == {}
    panorama.prebuild(town, alone, progress=False)
    where = first(town)
    assert equal(cache.load(*where), alone.load(*where))


@pytest.mark.parametrize("touched", ["yaml", "image", "depth"])
def test_a_changed_source_file_makes_it_stale(town, cache, touched):
    where = first(town)
    agent = where[2]
    cache.save(*where, cache.build(agent))
    path = {"yaml": agent.yaml_path, "image": agent.camera_paths[2], "depth": agent.depth_paths[1]}[touched]
    os.utime(path, ns=(1, 1))
    assert cache.load(*where) is None
    assert equal(cache.load_or_build(*where), cache.build(agent))
    assert panorama.prebuild(town, cache, progress=False).skipped == 0
    assert cache.load(*where) is not None


def test_depth_that_is_not_used_does_not_make_it_stale(town, tmp_path):
    cache = panorama.PanoramaCache(tmp_path, CYLINDER, with_depth=False)
    where = first(town)
    cache.save(*where, cache.build(where[2]))
    os.utime(where[2].depth_paths[0], ns=(1, 1))
    assert cache.load(*where) is not None


@pytest.mark.parametrize(
    "change",
    [
        {"cylinder": Cylinder(96, 25)},
        {"cylinder": Cylinder(96, 24, 80)},
        {"cylinder": Cylinder(96, 24, 90, -10)},
        {"camera_ids": (0, 1)},
        {"with_depth": False},
        *(
            {"options": panorama.PanoramaOptions(**option)}
            for option in (
                {"projection_radius_m": 30.0},
                {"ground_height_m": 1.9},
                {"feather_deg": 1.0},
                {"antialias": False},
                {"refine_range": False},
                {"fill_radius_px": 1},
                {"match_exposure": True},
            )
        ),
    ],
)
def test_every_parameter_has_its_own_place(cache, change):
    assert dataclasses.replace(cache, **change).home != cache.home
    assert len(panorama.PanoramaOptions.__dataclass_fields__) == 7  # a new option must be added above


def test_arrays_of_another_kind_are_named(town, cache):
    """numpy and OpenCV answer them with a TypeError and an error of their own."""
    where = first(town)
    cache.save(*where, cache.build(where[2]))
    path = cache.path(where[0], where[1], where[2].agent_id, where[3])
    good = load_npz(path)
    png = good["color_png"].copy()
    png[16:20] = (0, 1, 0, 0)
    for change in ({"masks": good["masks"].astype(float)}, {"color_png": png}, {"range_m": good["range_m"][:-1]}):
        np.savez(path, **{**good, **change})
        with pytest.raises(ValueError, match=f"{path.name}: damaged cached panorama"):
            cache.load(*where)


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "text"])
def test_a_damaged_file_is_named_and_made_anew(town, cache, damage):
    where = first(town)
    cache.save(*where, cache.build(where[2]))
    path = cache.path(where[0], where[1], where[2].agent_id, where[3])
    data = bytearray(path.read_bytes())
    if damage == "flip":
        data[len(data) // 2] ^= 255
    path.write_bytes({"cut": data[:-200], "flip": data, "empty": b"", "text": b"hello"}[damage])
    with pytest.raises(ValueError, match=f"{path.name}: damaged cached panorama .*; delete it and prebuild again"):
        cache.load(*where)
    done = panorama.prebuild(town, cache, progress=False)
    assert done.failed == {} and done.skipped == 0
    assert cache.load(*where) is not None


def test_what_cannot_be_built_is_reported_and_the_rest_is_built(town, cache):
    _, _, agent, _ = first(town)
    agent.camera_paths[2].write_bytes(b"no image")
    frame = town.splits["train"][0]
    done = panorama.prebuild(town, cache, progress=False)
    (failure,) = done.failed.items()
    assert failure[0] == f"{frame.name} agent {agent.agent_id}"
    assert "camera2.png: not a PNG file" in failure[1]
    assert done.built == sum(len(f.agents) for f in town.splits["train"]) - 1
    assert not cache.path(frame.split, frame.sequence, agent.agent_id, frame.frame).exists()


def test_only_the_agents_files_are_opened(town, cache, monkeypatch):
    frame = town.splits["train"][0]
    used, others = frame.agents[0], frame.agents[1:]
    for other in others:
        for path in (other.yaml_path, *other.camera_paths.values(), *other.depth_paths.values()):
            path.unlink()
    assert panorama.load_panorama(used, CYLINDER).has_range.any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"camera_ids": [0, 9]}, "has no image of camera9; it has those of cameras"),
        ({"camera_ids": [0]}, "has no depth map of camera0; it has those of cameras"),
    ],
)
def test_missing_files_are_named(town, arguments, message):
    agent = dataclasses.replace(first(town)[2], depth_paths={})
    with pytest.raises(ValueError, match=message):
        panorama.load_panorama(agent, CYLINDER, **arguments)


def test_a_camera_that_the_yaml_lacks(town):
    agent = first(town)[2]
    agent = dataclasses.replace(agent, camera_paths=agent.camera_paths | {7: agent.camera_paths[0]}, depth_paths={})
    with pytest.raises(ValueError, match=r"no camera7 in the YAML; cameras there: \[0, 1, 2, 3\]"):
        panorama.load_panorama(agent, CYLINDER, with_depth=False)
