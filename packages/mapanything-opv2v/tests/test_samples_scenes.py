from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mapanything_opv2v.rawdata import AgentRecord, FrameRecord
from mapanything_opv2v.samples import scenes
from mapanything_opv2v.samples.choose import SampleOptions


def agent(agent_id, cameras=(0, 1, 2, 3), depth=None, has_yaml=True):
    images = {c: Path(f"{agent_id}_{c}.png") for c in cameras}
    depths = {c: Path(f"{agent_id}_{c}.npy") for c in (cameras if depth is None else depth)}
    return AgentRecord(agent_id, Path(f"{agent_id}.yaml"), images, None, depths, has_yaml)


def frame(*agents, number=0):
    return FrameRecord(
        "train", "seq", f"{number:06d}", tuple(a if isinstance(a, AgentRecord) else agent(a) for a in agents)
    )


def resolve(frames, *, cooperative=True, layout="panorama", counts=2, on_missing=pytest.fail, **options):
    return scenes.resolve_scenes(
        frames,
        SampleOptions(**options),
        cooperative=cooperative,
        layout=layout,
        counts=counts,
        on_missing=on_missing,
    )


def test_usable_cameras_names_what_is_missing():
    agents = [
        agent(1, depth=(0, 1, 2)),
        agent(2, cameras=(0, 1)),
        agent(3, has_yaml=False),
        agent(4, cameras=()),
        agent(5),
        agent(6, depth=()),
    ]
    options = SampleOptions(include_agents=(1, 2, 3, 4, 5))
    cameras, missing = scenes.usable_cameras(frame(*agents), options, "pinhole")
    assert cameras == {1: (0, 1, 2), 2: (0, 1), 5: (0, 1, 2, 3)}
    assert missing == [
        "train/seq/000000 agent 1 camera3_depth",
        "train/seq/000000 agent 2 camera2",
        "train/seq/000000 agent 2 camera3",
        "train/seq/000000 agent 2 camera2_depth",
        "train/seq/000000 agent 2 camera3_depth",
        "train/seq/000000 agent 3 yaml",
    ]
    assert scenes.usable_cameras(frame(*agents), options, "panorama") == ({5: (0, 1, 2, 3)}, missing)
    narrow = SampleOptions(camera_ids=(1, 0), include_agents=(2, 4))
    assert scenes.usable_cameras(frame(*agents), narrow, "panorama") == ({2: (1, 0)}, [])


def test_frames_offer_only_counts_they_have():
    frames = [frame(*range(1, 1 + number), number=number) for number in (2, 4, 3, 2, 4, 1)]
    index = resolve(frames, counts=[2, 3, 4], min_agents=2)
    assert [len(scene.cameras) for scene in index.scenes] == [2, 4, 3, 2, 4]
    assert index.left_out == {"has fewer than min_agents=2 usable agents": 1}
    assert index.lookup[2].tolist() == [0, 1, 2, 3, 4]
    assert index.lookup[3].tolist() == [1, 1, 2, 2, 4]  # 0 and 3 are spread over the scenes 1, 2, 4
    assert index.lookup[4].tolist() == [1, 1, 1, 4, 4]  # 0, 2 and 3 over 1 and 4
    assert index.scene(0, 4).frame_number == 1


@given(st.lists(st.integers(1, 6), min_size=1, max_size=60), st.integers(1, 6))
def test_every_index_is_answered_with_enough_views(sizes, count):
    frames = [frame(*range(1, 1 + size), number=number) for number, size in enumerate(sizes)]
    if max(sizes) < count:
        with pytest.raises(ValueError, match="no scene"):
            resolve(frames, counts=[1, count] if count > 1 else 1)
        return
    index = resolve(frames, counts=[1, count] if count > 1 else 1)
    served = Counter(index.scene(i, count).frame_number for i in range(len(frames)))
    able = [number for number, size in enumerate(sizes) if size >= count]
    assert sorted(served) == able
    assert max(served.values()) - min(served.values()) <= 1  # even: no frame is favoured


def test_a_fixed_count_keeps_only_scenes_that_have_it():
    frames = [frame(1, 2, number=0), frame(1, 2, 3, number=1)]
    index = resolve(frames, counts=3)
    assert [scene.frame_number for scene in index.scenes] == [1]
    assert index.left_out == {"offers fewer than 3 views": 1}


def test_no_scene_left_says_why():
    with pytest.raises(ValueError, match="no scene is left of 1 frames: 1 x has no usable agent main_agent=9"):
        resolve([frame(1, 2)], main_agent=9)
    with pytest.raises(ValueError, match="no scene is left of 0 frames: the split is empty"):
        resolve([])
    with pytest.raises(ValueError, match=r"no scene offers 3 views \(1 offer 2\); lower num_views"):
        resolve([frame(1, 2)], counts=[2, 3])


def test_missing_files_are_reported_once_with_the_first_names():
    reports = []
    frames = [frame(agent(1, depth=(0, 1)), 2, number=n) for n in range(5)]
    index = resolve(frames, counts=1, on_missing=lambda *report: reports.append(report))
    named = [f"train/seq/{n:06d} agent 1 camera{k}_depth" for n, k in ((0, 2), (0, 3), (1, 2))]
    assert reports == [(10, named)]
    assert all(scene.cameras == {2: (0, 1, 2, 3)} for scene in index.scenes)


def test_single_vehicle_scenes():
    frames = [frame(5, 3, -1, number=0), frame(3, number=1)]

    def mains(**options):
        index = resolve(frames, cooperative=False, layout="pinhole", counts=2, **options)
        return [(scene.frame_number, scene.main) for scene in index.scenes]

    assert mains() == [(0, 5), (0, 3), (0, -1), (1, 3)]
    assert mains(main_agent=5) == [(0, 5)]
    assert mains(main_agent=5, main_agent_policy="first") == [(0, 5), (1, 3)]
    assert mains(main_agent_policy="first") == [(0, 3), (1, 3)]
    assert mains(main_agent_policy="random") == [(0, None), (1, None)]
    assert mains(min_agents=2) == [(0, 5), (0, 3), (0, -1)]
    assert mains(max_scenes=2) == [(0, 5), (0, 3)]


def test_scenes_share_their_cameras():
    index = resolve([frame(1, 2, number=n) for n in range(100)])
    assert len({id(scene.cameras) for scene in index.scenes}) == 1
