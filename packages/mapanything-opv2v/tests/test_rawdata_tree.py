import json
import os
import time
from pathlib import Path

import pytest
from mapanything_opv2v import rawdata
from mapanything_opv2v.rawdata import scan


def make(root, names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")


@pytest.fixture
def tree(tmp_path):
    make(
        tmp_path / "data",
        [
            *(
                f"train/b/641/{frame:06d}{s}"
                for frame in (10, 2)
                for s in (".yaml", ".pcd", "_camera0.png", "_camera3.png")
            ),
            "train/b/-1/000002.yaml",
            "train/b/1000/000010.yaml",
            "train/b/1000/000010_camera1.png",
            "train/b/data_protocol.yaml",
            "train/b/notes/000002.yaml",
            "train/b/641/000010_camera0_depth.npy",
            "train/b/641/000010_camera0_depth.png",
            "train/b/641/additional.txt",
            "train/a/7/000001.yaml",
            "test/c/7/000001.yaml",
        ],
    )
    make(tmp_path / "depth", ["train/b/641/000002_camera3_depth.npy", "train/b/641/000099_camera3_depth.npy"])
    return tmp_path


def names(frames):
    return [(frame.sequence, frame.frame, [agent.agent_id for agent in frame.agents]) for frame in frames]


def test_frames_are_sorted_and_agents_are_integers(tree):
    index = rawdata.index_tree(tree / "data")
    assert list(index.splits) == ["train", "test"]
    expected = [("a", "000001", [7]), ("b", "000002", [-1, 641]), ("b", "000010", [641, 1000])]
    train = index.splits["train"]
    assert names(train) == expected
    assert names(train[i] for i in range(3)) == expected
    assert names(train[-2:]) == expected[-2:]
    assert train[-1] == train[2] and len(train) == 3
    assert [train.agent_ids(i) for i in range(3)] == [(7,), (-1, 641), (641, 1000)]
    with pytest.raises(IndexError, match="frame 3 of 3 in split 'train'"):
        train[3]


def test_only_files_that_exist_are_listed(tree):
    frame = rawdata.index_tree(tree / "data").splits["train"][2]
    agent = frame.agent(641)
    here = tree / "data" / "train" / "b" / "641"
    assert agent.yaml_path == here / "000010.yaml" and agent.has_yaml
    assert agent.camera_paths == {0: here / "000010_camera0.png", 3: here / "000010_camera3.png"}
    assert agent.pcd_path == here / "000010.pcd"
    assert agent.depth_paths == {0: here / "000010_camera0_depth.npy"}  # .npy before .png
    assert frame.agent(1000).pcd_path is None
    with pytest.raises(ValueError, match="train/b/000010: no agent 5; agents there: 641, 1000"):
        frame.agent(5)


def test_a_depth_tree_beside_replaces_the_maps_in_the_tree(tree):
    index = rawdata.index_tree(tree / "data", depth_root=tree / "depth")
    frames = index.splits["train"]
    assert len(frames) == 3  # a frame with depth only is none
    assert frames[1].agent(641).depth_paths == {3: tree / "depth/train/b/641/000002_camera3_depth.npy"}


def test_depth_in_the_tree_is_not_used_when_another_place_is_named(tree):
    index = rawdata.index_tree(tree / "data", depth_root=tree / "depth")
    assert index.splits["train"][2].agent(641).depth_paths == {}


def test_the_tool_writes_where_the_index_looks(tree):
    path = rawdata.depth_path(tree / "depth", "train", "b", 641, "000010", 0)
    make(tree, [path.relative_to(tree)])
    index = rawdata.index_tree(tree / "data", depth_root=tree / "depth")
    assert index.splits["train"][2].agent(641).depth_paths == {0: path}


def test_an_agent_with_images_only_shows_that_its_yaml_is_missing(tree):
    make(tree, ["data/train/b/55/000002_camera0.png"])
    frames = rawdata.index_tree(tree / "data").splits["train"]
    assert not frames[1].agent(55).has_yaml
    assert frames.agent_ids(1) == (-1, 641)


def test_wrong_places_say_what_is_there(tree):
    with pytest.raises(FileNotFoundError, match=r"root=.*nowhere is not a folder; it must hold train"):
        rawdata.index_tree(tree / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"depth_root=.*nowhere is not a folder"):
        rawdata.index_tree(tree / "data", depth_root=tree / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"no split 'val' in .*; folders there: test, train"):
        rawdata.index_tree(tree / "data", splits=["val"])
    with pytest.raises(ValueError, match="holds none of train, validate"):
        rawdata.index_tree(tree / "depth" / "train")


def test_two_folders_of_one_agent_are_refused(tree):
    make(tree, ["data/train/b/0641/000002.yaml"])
    with pytest.raises(ValueError, match="folders '0641' and '641' are both agent 641"):
        rawdata.index_tree(tree / "data")


def settle(root):
    """Make every folder old enough to be cached."""
    for folder, _, _ in os.walk(root):
        os.utime(folder, (time.time() - 10, time.time() - 10))


@pytest.fixture
def scans(monkeypatch):
    """Count how often folders are read."""
    calls, real = [], scan._scan
    monkeypatch.setattr(scan, "_scan", lambda *a: calls.append(a) or real(*a))
    return calls


@pytest.mark.parametrize(
    "change",
    [
        lambda t: make(t, ["data/train/b/641/000011.yaml"]),
        lambda t: (t / "data/train/b/641/000010.pcd").unlink(),
        lambda t: (t / "data/train/b/1000").rename(t / "data/train/b/1001"),
        lambda t: make(t, ["data/train/d/1/000001.yaml"]),
        lambda t: make(t, ["depth/train/b/641/000010_camera0_depth.npy"]),
        lambda t: make(t, ["depth/train/a/7/000001_camera0_depth.npy"]),  # a depth folder that was not there
    ],
)
def test_the_cache_is_used_until_something_changes(tree, scans, change):
    settle(tree)
    arguments = {"depth_root": tree / "depth", "cache_dir": tree / "cache", "splits": ["train"]}
    first = rawdata.index_tree(tree / "data", **arguments)
    again = rawdata.index_tree(tree / "data", **arguments)
    assert len(scans) == 1
    assert list(again.splits["train"]) == list(first.splits["train"])
    change(tree)
    changed = rawdata.index_tree(tree / "data", **arguments)
    assert len(scans) == 2
    fresh = rawdata.index_tree(tree / "data", depth_root=tree / "depth", splits=["train"])
    assert list(changed.splits["train"]) == list(fresh.splits["train"])


def test_folders_that_have_just_changed_are_not_cached(tree, scans):
    for _ in range(2):
        rawdata.index_tree(tree / "data", cache_dir=tree / "cache", splits=["test"])
    assert len(scans) == 2


WRONG_CACHES = [
    json.dumps({"format": scan._FORMAT, **parts})
    for parts in (
        {},
        {"folders": [], "sequences": 1},
        {"folders": [[["a"], 1]], "sequences": []},
        {"folders": [["x" * 5000, 1]], "sequences": []},
        {"folders": [], "sequences": [["a", [[1, "1", [10**400], [0]]]]]},
    )
]


@pytest.mark.parametrize("damage", ["", "{", "[1]", "[" * 100_000, '{"format": 0}', *WRONG_CACHES])
def test_a_damaged_cache_is_made_anew(tree, scans, damage):
    settle(tree)
    rawdata.index_tree(tree / "data", cache_dir=tree / "cache", splits=["test"])
    (path,) = (tree / "cache").iterdir()
    path.write_text(damage)
    index = rawdata.index_tree(tree / "data", cache_dir=tree / "cache", splits=["test"])
    assert len(scans) == 2 and len(index.splits["test"]) == 1


def test_summary_counts_names(tree):
    from mapanything_opv2v.rawdata.tree import summarise

    train, test = summarise(rawdata.index_tree(tree / "data"))
    assert train == {
        "split": "train",
        "sequences": 2,
        "scenes": 3,
        "agents": {1: 1, 2: 2},
        "images": 5,
        "sweeps": 2,
        "depth_maps": 1,
    }
    assert test["scenes"] == 1
    limited = summarise(rawdata.index_tree(tree / "data"), max_scenes=1)
    assert [row["scenes"] for row in limited] == [1, 0]


def test_an_agent_anywhere(tree):
    agent = rawdata.agent_beside(tree / "data/train/b/641/000010.yaml")
    assert agent == rawdata.index_tree(tree / "data").splits["train"][2].agent(641)
    apart = rawdata.agent_beside(tree / "data/train/b/641/000002.yaml", tree / "depth/train/b/641")
    assert list(apart.depth_paths) == [3]
    assert rawdata.agent_beside(tree / "data/train/b/notes/000002.yaml").agent_id == 0
    with pytest.raises(FileNotFoundError, match="no file"):
        rawdata.agent_beside(tree / "data/train/b/641/000003.yaml")
    with pytest.raises(ValueError, match="expected an agent's YAML named by its frame"):
        rawdata.agent_beside(tree / "data/train/b/data_protocol.yaml")


def test_paths_are_made_lazily_and_nothing_is_opened(tree, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("opened a file")

    monkeypatch.setattr(Path, "open", refuse)
    monkeypatch.setattr("builtins.open", refuse)
    assert len(names(rawdata.index_tree(tree / "data").splits["train"])) == 3
