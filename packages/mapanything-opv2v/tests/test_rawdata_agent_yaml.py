import numpy as np
import pytest
import yaml
from mapanything_opv2v import rawdata
from mapanything_opv2v.rawdata import agent_yaml

CAMERA = {
    "cords": [1, 2, 3, 0.0, 90.0, 0.0],
    "extrinsic": np.eye(4).tolist(),
    "intrinsic": [[335.6, 0, 400], [0, 335.6, 300], [0, 0, 1]],
}
CAR = {"angle": [0, 90, 0], "center": [0, 0, 0.7], "extent": [2, 1, 0.7], "location": [5, 6, 0], "speed": 7}

# as PyYAML dumps numpy values: the spelling of numpy 1 and of numpy 2
TAGGED = """
lidar_pose: [1.0, 2.0, 3.0, 0.0, 0.0, 0.0]
ego_speed: !!python/object/apply:numpy.{module}.multiarray.scalar
- &id001 !!python/object/apply:numpy.dtype
  args: [f8, false, true]
  state: !!python/tuple [3, <, null, null, null, -1, -1, 0]
- !!binary |
  AAAAAAAA8D8=
true_ego_pos: !!python/tuple [1, 2, 3, 4, 5, 6]
vehicles:
  7:
    angle: [0, 0, 0]
    center: [0, 0, 0]
    extent: [1, 1, 1]
    location: [0, 0, 0]
    speed: !!python/object/apply:numpy.{module}.multiarray.scalar
    - *id001
    - !!binary |
      AAAAAAAAAEA=
"""


def write(path, value):
    path.write_text(value if isinstance(value, str) else yaml.safe_dump(value))
    return path


def agent(**changes):
    return {"lidar_pose": [0.0] * 6, "camera0": CAMERA, "vehicles": {12: CAR}, "ego_speed": 3.5} | changes


def test_values_and_types(tmp_path):
    meta = rawdata.load_agent_yaml(write(tmp_path / "a.yaml", agent(camera10=CAMERA, camera2=CAMERA)))
    assert list(meta.cameras) == [0, 2, 10]
    assert meta.cameras[0].cords.tolist() == [1, 2, 3, 0, 90, 0]
    assert meta.cameras[0].extrinsic.dtype == np.float64
    assert meta.vehicles[12].speed == 7 and meta.vehicles[12].extent.tolist() == [2, 1, 0.7]
    assert meta.ego_speed == 3.5 and meta.true_ego_pos is None


def test_principal_point_moves_from_the_image_corner_to_pixel_centres(tmp_path):
    K = rawdata.load_agent_yaml(write(tmp_path / "a.yaml", agent())).cameras[0].intrinsic
    assert K.tolist() == [[335.6, 0, 399.5], [0, 335.6, 299.5], [0, 0, 1]]


def test_infrastructure_may_lack_speed_vehicles_and_extrinsic(tmp_path):
    camera = {key: CAMERA[key] for key in ("cords", "intrinsic")}
    data = {"lidar_pose": [0] * 6, "camera0": camera, "vehicles": None}
    meta = rawdata.load_agent_yaml(write(tmp_path / "a.yaml", data))
    assert np.isnan(meta.ego_speed) and meta.vehicles == {} and meta.cameras[0].extrinsic is None


@pytest.mark.parametrize("module", ["core", "_core"])
def test_numpy_scalars_and_tuples_of_real_dumps(tmp_path, module):
    meta = rawdata.load_agent_yaml(write(tmp_path / "a.yaml", TAGGED.format(module=module)))
    assert meta.ego_speed == 1.0 and meta.vehicles[7].speed == 2.0
    assert meta.true_ego_pos.tolist() == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("value", [np.float64(1.5), np.float32(-2.25), np.int64(-3), np.uint8(200), np.bool_(True)])
def test_what_pyyaml_dumps_of_numpy_is_read_back(tmp_path, value):
    path = write(tmp_path / "a.yaml", yaml.dump({"a": value, "b": (1, 2)}))
    assert agent_yaml.load_yaml(path) == {"a": value.item(), "b": (1, 2)}


@pytest.mark.parametrize(
    "text",
    [
        "!!python/object/apply:os.system ['touch {marker}']",
        "!!python/object/apply:subprocess.run [['touch', '{marker}']]",
        "!!python/object/new:os.system ['touch {marker}']",
        "!!python/name:os.system ''",
        "!!python/module:os ''",
        "!!python/object:__main__.X {{}}",
        "!!python/object/apply:numpy.core.multiarray._reconstruct [1, 2, 3]",
        "!!python/object/apply:numpy.dtype {{args: [O8, false, true], state: !!python/tuple [3, '|']}}",
        "!!python/object/apply:numpy.dtype [f8]",
        "!!python/object/apply:numpy.core.multiarray.scalar [f8, !!binary AAAAAAAA8D8=]",
        "!!python/object/apply:numpy.core.multiarray.scalar {{a: 1}}",
    ],
)
def test_hostile_files_execute_nothing_and_name_themselves(tmp_path, text):
    marker = tmp_path / "executed"
    path = write(tmp_path / "hostile.yaml", "lidar_pose: " + text.format(marker=marker))
    with pytest.raises(ValueError, match=r"hostile\.yaml"):
        rawdata.load_agent_yaml(path)
    assert not marker.exists()


def test_a_scalar_of_too_few_bytes_is_refused(tmp_path):
    text = TAGGED.format(module="core").replace("AAAAAAAA8D8=", "AAAA")
    with pytest.raises(ValueError, match="malformed numpy scalar"):
        rawdata.load_agent_yaml(write(tmp_path / "a.yaml", text))


def bomb(levels, tag=""):
    """Aliases that multiply by nine at each level."""
    lines = ["a0: &a0 [1, 2]"]
    for k in range(levels):
        lines.append(f"a{k + 1}: &a{k + 1} {tag}[{', '.join([f'*a{k}'] * 9)}]")
    return "\n".join([*lines, f"lidar_pose: *a{levels}"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 60, "more than 50 levels"),
        ("[" * 30_000, ""),  # PyYAML may refuse it before we do, in its own words
        ("- " * 30_000, "more than 50 levels"),
        (bomb(12), "or 1000000 values"),
        (bomb(12, "!!python/tuple "), "or 1000000 values"),
        (bomb(12).replace("lidar_pose: ", "? "), "or 1000000 values"),
        ("lidar_pose: &a [*a, *a, *a]", r"alias \*a stands in or before its anchor"),
        ("lidar_pose: *b", r"alias \*b stands in or before its anchor"),
    ],
    ids=["flow", "deep flow", "block", "aliases", "tuples", "keys", "recursive", "undefined"],
)
def test_files_that_would_crash_or_never_end_are_errors(tmp_path, text, message):
    with pytest.raises(ValueError, match=rf"a\.yaml: not readable as YAML: .*{message}"):
        rawdata.load_agent_yaml(write(tmp_path / "a.yaml", text))


def test_aliases_of_real_dumps_are_read(tmp_path):
    pose = [1.0, 2, 3, 4, 5, 6]
    text = yaml.safe_dump(agent(true_ego_pos=pose, predicted_ego_pos=pose, lidar_pose=pose))
    assert "*id" in text
    meta = rawdata.load_agent_yaml(write(tmp_path / "a.yaml", text))
    assert meta.true_ego_pos.tolist() == meta.lidar_pose.tolist() == pose


def test_large_files_are_refused_unread(tmp_path, monkeypatch):
    monkeypatch.setattr(agent_yaml, "MAX_YAML_BYTES", 10)
    with pytest.raises(ValueError, match="expected at most 10"):
        rawdata.load_agent_yaml(write(tmp_path / "big.yaml", agent()))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lidar_pose": [1, 2]}, r"lidar_pose: expected shape \(6,\), got \(2,\)"),
        ({"lidar_pose": [1, 2, 3, 4, 5, "x"]}, r"lidar_pose: expected numbers of shape \(6,\)"),
        ({"lidar_pose": [1, 2, 3, 4, 5, float("nan")]}, "lidar_pose: expected finite numbers"),
        ({"camera0": [1]}, "camera0: expected a mapping, got list"),
        (
            {"camera0": CAMERA | {"intrinsic": np.zeros((3, 3)).tolist()}},
            "camera0: intrinsic: expected .*fx, fy > 0",
        ),
        ({"camera0": {"cords": [0] * 6}}, "camera0: no key 'intrinsic'; keys there: cords"),
        ({"vehicles": [1]}, "vehicles: expected a mapping by id, got list"),
        ({"vehicles": {"a": CAR}}, "vehicles: a: expected an integer actor id, got 'a'"),
        ({"vehicles": {3: {}}}, "vehicles: 3: no key 'location'; keys there: none"),
        ({"vehicles": {3: 1}}, "vehicles: 3: expected a mapping, got int"),
        ({"ego_speed": "fast"}, "ego_speed: expected a number, got 'fast'"),
        ({"ego_speed": 10**400}, "ego_speed: expected a number that fits 64 bits, got 1000"),
        ({"lidar_pose": [1, 2, 3, 4, 5, 10**400]}, r"lidar_pose: expected numbers of shape \(6,\)"),
    ],
)
def test_bad_values_name_file_and_key(tmp_path, change, message):
    path = write(tmp_path / "000069.yaml", agent(**change))
    with pytest.raises(ValueError, match=f"{path.name}: {message}"):
        rawdata.load_agent_yaml(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected a mapping at the top, got NoneType"),
        ("a: [1, 2", "not readable as YAML"),
        ("vehicles: {}", "no key 'lidar_pose'; keys there: vehicles"),
        ("\x00", "not readable as YAML"),
        ("a: " + "9" * 5000, "not readable as YAML"),
        ("a: 2001-99-99", "not readable as YAML"),
    ],
)
def test_files_that_are_no_agent(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        rawdata.load_agent_yaml(write(tmp_path / "a.yaml", text))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"000069\.yaml"):
        rawdata.load_agent_yaml(tmp_path / "000069.yaml")
