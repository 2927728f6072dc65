"""Turned cameras are told in degrees, right ones stay within two; on a town and on real rigs."""

import json
import math
import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from mapanything_opv2v import checks, panorama, rawdata
from mapanything_opv2v.panorama import overlap_yaw
from mapanything_opv2v.synthetic import write_town

# real data lies beside the repository, if at all
SHARED = Path(__file__).parents[4] / "shared/data"
FRAME = Path(os.environ.get("OPV2V_FRAME", SHARED / "opv2v_frame/000759.yaml"))
RIG = Path(os.environ.get("NUSCENES_RIG", SHARED / "nuscenes_rig/rig.json"))


def turned(rig, number, degrees):
    """Return the rig with one camera's stated pose turned to the right about the vertical axis."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    T = rig.cameras[number].T_pano_cam.copy()
    T[:3, :3] = np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]]) @ T[:3, :3]
    camera = rig.cameras[number]
    cameras = list(rig.cameras)
    cameras[number] = panorama.RigCamera(camera.intrinsic, T, camera.size_wh)
    return panorama.Rig(tuple(cameras))


def opv2v(yaml_path):
    agent = rawdata.agent_beside(yaml_path)
    images = [rawdata.load_image(path) for path in agent.camera_paths.values()]
    return panorama.Rig.from_agent(rawdata.load_agent_yaml(yaml_path), [i.shape[1::-1] for i in images]), images


def nuscenes():
    rig = json.loads(RIG.read_text())
    T_opencv_lidar = np.array([[1, 0, 0, 0], [0, 0, -1, 0], [0, 1, 0, 0], [0, 0, 0, 1.0]])
    cameras, images = [], []
    for name, camera in rig["cameras"].items():
        (path,) = RIG.parent.glob(f"*__{name}__*.jpg")
        images.append(cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB))
        T = T_opencv_lidar @ np.linalg.inv(np.array(camera["T_cam_lidar"], dtype=float).reshape(4, 4))
        cameras.append(panorama.RigCamera(np.array(camera["K"], dtype=float), T, images[-1].shape[1::-1]))
    return panorama.Rig(tuple(cameras)), images


def judge(rig, images, ground, number, degrees):
    """The right rig is clean; a turned camera changes its pairs by its turn, and is the one that stands out."""
    right, wrong = (overlap_yaw.pair_turns(r, images, ground) for r in (rig, turned(rig, number, degrees)))
    for pair in right.keys() & wrong.keys():
        change = degrees * ((pair[0] == number) - (pair[1] == number))
        assert wrong[pair] - right[pair] == pytest.approx(change, abs=1.0)
    assert any(number in pair for pair in wrong)
    clean, turns = overlap_yaw.camera_turns(right), overlap_yaw.camera_turns(wrong)
    assert max(map(abs, clean.values())) < checks.CheckOptions().max_turn_deg
    assert max(turns, key=lambda camera: abs(turns[camera])) == number
    assert turns[number] == pytest.approx(degrees, abs=4.0)  # parallax in one frame


@pytest.mark.parametrize(("number", "degrees"), [(1, 10), (3, -6), (2, 6)])
def test_a_town(number, degrees, tmp_path):
    truth = write_town(tmp_path, seed=3, agents=1, frames=1, image_size=(200, 150))
    judge(*opv2v(rawdata.index_tree(truth.root).splits["train"][0].agents[0].yaml_path), 1.9, number, degrees)


@pytest.mark.skipif(not FRAME.is_file(), reason=f"no real frame at {FRAME.name}: set OPV2V_FRAME to its YAML")
@pytest.mark.parametrize(("number", "degrees"), [(1, 10), (3, -6), (2, 6)])
def test_the_real_frame(number, degrees):
    judge(*opv2v(FRAME), 1.9, number, degrees)


@pytest.mark.skipif(not RIG.is_file(), reason=f"no real rig at {RIG.name}: set NUSCENES_RIG to it")
@pytest.mark.parametrize(("number", "degrees"), [(3, -8), (4, 9)])
def test_the_real_six_camera_rig(number, degrees):
    judge(*nuscenes(), 1.84, number, degrees)


def jpeg(images, quality):
    return [
        cv2.imdecode(cv2.imencode(".jpg", i, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR) for i in images
    ]


def exposed(images, factor):
    """Return images of which every second one is brighter, the others darker."""
    gains = (factor if k % 2 else 1 / factor for k in range(len(images)))
    return [np.clip(image * gain, 0, 255).astype(np.uint8) for image, gain in zip(images, gains)]


def cropped(rig, images, share):
    """Return a rig whose cameras see less, by a share of the height above and below."""
    cameras, cut = [], []
    for camera, image in zip(rig.cameras, images):
        rows = round(share * image.shape[0])
        cut.append(np.ascontiguousarray(image[rows:-rows]))
        K = camera.intrinsic.copy()
        K[1, 2] -= rows
        cameras.append(panorama.RigCamera(K, camera.T_pano_cam, cut[-1].shape[1::-1]))
    return panorama.Rig(tuple(cameras)), cut


CHANGES = {
    "as they are": lambda rig, images: (rig, images),
    "JPEG of quality 10": lambda rig, images: (rig, jpeg(images, 10)),
    "every second one 1.3 times as bright, the others 1 / 1.3": lambda rig, images: (rig, exposed(images, 1.3)),
    "gamma 0.6": lambda rig, images: (rig, [(255 * (i / 255) ** 0.6).astype(np.uint8) for i in images]),
    "a tenth of the rows cut above and below": lambda rig, images: cropped(rig, images, 0.1),
}


@pytest.mark.skipif(not (FRAME.is_file() and RIG.is_file()), reason="no real images: set OPV2V_FRAME and NUSCENES_RIG")
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize(("load", "ground", "number"), [(lambda: opv2v(FRAME), 1.9, 1), (nuscenes, 1.84, 1)])
def test_the_threshold_stands_well_apart_from_both_sides(load, ground, number, change):
    rig, images = CHANGES[change](*load())
    found = []
    for degrees in (0, 10, -10):
        pairs = overlap_yaw.pair_turns(turned(rig, number, degrees), images, ground)
        turns = overlap_yaw.camera_turns(pairs)
        found.append(turns.get(number, 0.0) if degrees else max(turns.values(), key=abs))
    threshold = checks.CheckOptions().max_turn_deg
    print(f"{change}: right {found[0]:+.2f}, turned by 10 {found[1]:+.2f}, by -10 {found[2]:+.2f} degrees")
    assert abs(found[0]) < threshold - 1.5
    assert found[1] > threshold + 1.5 and found[2] < -threshold - 1.5


@pytest.mark.skipif(not (FRAME.is_file() and RIG.is_file()), reason="no real images: set OPV2V_FRAME and NUSCENES_RIG")
@pytest.mark.parametrize(
    ("load", "ground", "numbers"), [(lambda: opv2v(FRAME), 1.9, (1, 2, 3)), (nuscenes, 1.84, range(6))]
)
def test_every_camera_that_is_turned_by_ten_degrees_is_told(load, ground, numbers):
    """OPV2V's camera 0 overlaps with none. Where only one overlap is left, it may be its neighbour that is named."""
    rig, images = load()
    threshold = checks.CheckOptions().max_turn_deg
    for number in numbers:
        for degrees in (10, -10):
            pairs = overlap_yaw.pair_turns(turned(rig, number, degrees), images, ground)
            turns = overlap_yaw.camera_turns(pairs)
            worst = max(turns, key=lambda camera: abs(turns[camera]))
            print(f"camera {number} turned by {degrees:+d}: camera {worst} by {turns[worst]:+.1f}")
            assert abs(turns[worst]) > threshold
            assert worst == number or tuple(sorted((worst, number))) in pairs


def test_few_cameras_are_to_blame():
    assert overlap_yaw.camera_turns({}) == {}
    assert overlap_yaw.camera_turns({(0, 1): 7.0}) == {0: 0.0, 1: -7.0}  # two cameras: the first is believed
    assert overlap_yaw.camera_turns({(0, 1): 0.0, (1, 2): 8.0, (2, 3): -8.0}) == {0: 0, 1: 0, 2: -8, 3: 0}
    assert overlap_yaw.camera_turns({(0, 1): 1.0, (4, 5): 2.0}) == {0: 0, 1: -1, 4: 0, 5: -2}


def test_what_shows_something_else_tells_nothing():
    K = np.array([[50.0, 0, 49.5], [0, 50, 49.5], [0, 0, 1]])
    rig = panorama.Rig(tuple(panorama.RigCamera(K, np.eye(4), (100, 100)) for _ in range(2)))
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 256, (2, 100, 100, 3), dtype=np.uint8)
    assert overlap_yaw.pair_turns(rig, [a, b]) == {}
    assert abs(overlap_yaw.pair_turns(rig, [a, a])[0, 1]) < 0.2


@pytest.fixture(scope="module")
def sequence(tmp_path_factory):
    return write_town(tmp_path_factory.mktemp("sequence"), seed=3, frames=3, agents=3, image_size=(200, 150))


def check(root):
    index = rawdata.index_tree(root)
    return checks.check_tree(index, checks.CheckOptions(), progress=False)


def test_check_reports_degrees_and_flags_a_turned_camera(sequence, tmp_path):
    root = shutil.copytree(sequence.root, tmp_path / "tree")
    clean = check(root)
    assert clean.problems == [] and set(clean.camera_turn_deg["train"]) == {"1", "2", "3"}
    assert max(map(abs, clean.camera_turn_deg["train"].values())) < 2.5
    agent = sequence.agents[1]
    for path in root.glob(f"train/*/{agent}/*.yaml"):
        data = yaml.safe_load(path.read_text())
        data["camera1"]["cords"][4] += 10.0  # yaw, to the right
        data["camera1"].pop("extrinsic", None)
        path.write_text(yaml.safe_dump(data))
    problems = [p for p in check(root).problems if p.frame == "all"]
    (problem,) = problems
    assert (problem.agent, problem.key) == (agent, "camera1")
    degrees = float(problem.message.split("turned by ")[1].split(" degrees")[0])
    assert degrees == pytest.approx(10, abs=2) and "median of 3 views, expected within 4" in problem.message


def test_check_finds_one_swapped_agent_of_three(sequence, tmp_path):
    root = shutil.copytree(sequence.root, tmp_path / "tree")
    agent = sequence.agents[0]
    for path in root.glob(f"train/*/{agent}/*_camera1.png"):
        other = path.with_name(path.name.replace("camera1", "camera2"))
        kept = path.read_bytes()
        path.write_bytes(other.read_bytes())
        other.write_bytes(kept)
    (problem,) = [p for p in check(root).problems if p.frame == "all"]
    assert (problem.agent, problem.key) == (agent, "cameras") and "are files or poses swapped?" in problem.message
