"""Neighbouring cameras become equally bright where they overlap; on a town and on real images."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from mapanything_opv2v import cli, panorama, rawdata
from mapanything_opv2v.geometry import Cylinder
from mapanything_opv2v.panorama import exposure

# real data lies beside the repository, if at all
SHARED = Path(__file__).parents[4] / "shared/data"
FRAME = Path(os.environ.get("OPV2V_FRAME", SHARED / "opv2v_frame/000759.yaml"))
RIG = Path(os.environ.get("NUSCENES_RIG", SHARED / "nuscenes_rig/rig.json"))
WIDE = Cylinder(504, 126)


def test_gains_by_hand():
    """0 is 1.21 times as bright as 1, 1 as bright as 2, 3 overlaps nobody: the least change that meets them."""
    pairs = {(0, 1): (math.log(1.21), 500), (1, 2): (0.0, 500)}
    gains = exposure.camera_gains(pairs, 4)
    # with a = log 1.21 and p the prior: (1 + p) x0 - x1 = -a, (2 + 2 p) x1 - x0 - x2 = a, (1 + p) x2 = x1
    a, p = math.log(1.21), 1 / 16
    x1 = a * p / (1 + p) / (2 + 2 * p - 2 / (1 + p))
    assert np.log(gains).tolist() == pytest.approx([(x1 - a) / (1 + p), x1, x1 / (1 + p), 0], abs=1e-6)
    before, after = exposure.steps(pairs), exposure.steps(pairs, gains)
    assert before == {(0, 1): pytest.approx(0.21), (1, 2): 0} and max(after.values()) < 0.03
    assert exposure.camera_gains({(0, 1): (math.log(100.0), 500)}, 2).tolist() == [0.5, 2]  # at most twofold
    assert exposure.camera_gains({}, 2).tolist() == [1, 1]


def test_ratios_by_hand():
    seen = np.zeros((20, 40), bool)
    seen[:, 10:30] = True
    first, second = np.full((20, 40, 3), 120, np.uint8), np.full((20, 40, 3), 80, np.uint8)
    ((pair, (ratio, count)),) = exposure.overlap_ratios([first, second], [seen, np.ones_like(seen)]).items()
    assert pair == (0, 1) and ratio == pytest.approx(math.log(1.5)) and count == 400
    few = np.zeros_like(seen)
    few[:5, :5] = True
    assert exposure.overlap_ratios([first, second], [seen, few]) == {}
    white = np.full_like(first, 255)  # saturated: its true brightness is not known
    assert exposure.overlap_ratios([white, second], [seen, seen]) == {}
    assert exposure.apply_gain(first[:1, :1], 2.5).tolist() == [[[255] * 3]]


def darkened(images, number, factor):
    changed = list(images)
    changed[number] = np.rint(images[number] * factor).astype(np.uint8)
    return changed


@pytest.fixture
def car(town_yaml):
    agent = rawdata.agent_beside(town_yaml)
    images = [rawdata.load_image(path) for path in agent.camera_paths.values()]
    sizes = [image.shape[1::-1] for image in images]
    return panorama.Rig.from_agent(rawdata.load_agent_yaml(town_yaml), sizes), images


def test_a_dark_camera_is_found_and_matched(car):
    rig, images = car
    builder = panorama.PanoramaBuilder(rig, WIDE, match_exposure=True)
    right = builder.brightness_ratios(images)
    wrong = builder.brightness_ratios(darkened(images, 3, 0.7))
    assert right.keys() == wrong.keys() and any(3 in pair for pair in right)
    for pair, (ratio, _) in right.items():
        change = math.log(0.7) * ((pair[0] == 3) - (pair[1] == 3))
        assert wrong[pair][0] - ratio == pytest.approx(change, abs=0.03)
    gains = exposure.camera_gains(wrong, 4)
    assert gains[3] > 1.1 and max(exposure.steps(wrong, gains).values()) < 0.1
    plain = panorama.PanoramaBuilder(rig, WIDE).build(darkened(images, 3, 0.7))
    matched = builder.build(darkened(images, 3, 0.7))
    assert not np.array_equal(matched.color, plain.color) and np.array_equal(matched.covered, plain.covered)


def test_off_unless_told_and_old_caches_stay(car, tmp_path):
    rig, images = car
    plain = panorama.PanoramaBuilder(rig, WIDE).build(images)
    told = panorama.PanoramaBuilder(rig, WIDE, match_exposure=False).build(images)
    assert np.array_equal(plain.color, told.color)
    homes = {
        panorama.PanoramaCache(tmp_path, WIDE, panorama.PanoramaOptions(**more)).home
        for more in ({}, {"match_exposure": False}, {"match_exposure": True})
    }
    assert len(homes) == 2
    assert "match_exposure" not in panorama.PanoramaCache(tmp_path, WIDE).parameters()["options"]


def test_the_command_says_the_step(town_yaml, tmp_path, capsys):
    words = ["panorama", str(town_yaml), "--no-depth", "--panorama-resolution", "504", "126", "--out"]
    assert cli.main([*words, str(tmp_path / "plain")]) == 0
    assert "--match-exposure would leave" in capsys.readouterr().out
    assert cli.main([*words, str(tmp_path / "matched"), "--match-exposure"]) == 0
    assert "(matched to" in capsys.readouterr().out
    figures = json.loads((tmp_path / "matched" / "panorama.json").read_text())
    assert figures["brightness_step"].keys() == figures["brightness_step_matched"].keys()


def seam_step(rig, images, matched):
    """Independent of the gains: brightness left and right of every seam of a panorama cut hard, percent."""
    hard = {"feather_deg": 0.0, "match_exposure": matched}
    builder = panorama.PanoramaBuilder(rig, Cylinder(1008, 252), **hard)
    made = builder.build(images)
    # which camera leads: paint each in a colour of its own
    paint = [np.full_like(image, 20 * (number + 1)) for number, image in enumerate(images)]
    lead = panorama.PanoramaBuilder(rig, Cylinder(1008, 252), feather_deg=0.0).build(paint).color[..., 0]
    gray = cv2.GaussianBlur(cv2.cvtColor(made.color, cv2.COLOR_RGB2GRAY).astype(np.float32), (0, 0), 1)
    left, right = np.roll(gray, 4, 1), np.roll(gray, -4, 1)
    a, b = np.roll(lead, 4, 1), np.roll(lead, -4, 1)
    at = (a != b) & (a > 0) & (b > 0) & (left > 8) & (right > 8) & (left < 247) & (right < 247)
    steps = [abs(np.median(np.log(left[m] / right[m]))) for m in (at & (a == p) & (b == q) for p, q in pairs(a, b, at))]
    return 100 * float(np.mean(steps)), len(steps)


def pairs(a, b, at):
    found, counts = np.unique(np.stack([a[at], b[at]]), axis=1, return_counts=True)
    return [tuple(pair) for pair, count in zip(found.T, counts) if count > 100]


def real_frame():
    agent = rawdata.agent_beside(FRAME)
    images = [rawdata.load_image(path) for path in agent.camera_paths.values()]
    return panorama.Rig.from_agent(rawdata.load_agent_yaml(FRAME), [i.shape[1::-1] for i in images]), images


def real_rig():
    from mapanything_opv2v import photographs
    from mapanything_opv2v.rawdata.nuscenes import R_CV_UP

    turn = np.eye(4)
    turn[:3, :3] = R_CV_UP
    cameras, images = [], []
    for camera in json.loads(RIG.read_text())["cameras"].values():
        images.append(np.asarray(photographs.read(RIG.parent / camera["file"])))
        pose = turn @ np.linalg.inv(np.array(camera["T_cam_lidar"]))
        cameras.append(panorama.RigCamera(np.array(camera["K"]), pose, images[-1].shape[1::-1]))
    return panorama.Rig(tuple(cameras)), images


@pytest.mark.skipif(not (FRAME.is_file() and RIG.is_file()), reason=f"no real images at {FRAME} and {RIG}")
@pytest.mark.parametrize("load", [real_frame, real_rig])
def test_real_images_are_closer_after_than_before(load):
    rig, images = load()
    ratios = panorama.PanoramaBuilder(rig, Cylinder(1008, 252)).brightness_ratios(images)
    gains = exposure.camera_gains(ratios, len(images))
    before, after = exposure.steps(ratios), exposure.steps(ratios, gains)
    assert np.mean(list(after.values())) < 0.5 * np.mean(list(before.values()))
    seams = [seam_step(rig, images, matched)[0] for matched in (False, True)]
    assert seams[1] < seams[0]
    print(load.__name__, gains.round(3), {k: round(v, 3) for k, v in before.items()}, after, seams)
