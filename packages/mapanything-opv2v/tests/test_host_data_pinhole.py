"""The pinhole datasets against the double of the host's base class."""

from __future__ import annotations

import logging
import pickle

import numpy as np
import pytest
import torch
from mapanything_opv2v import geometry
from mapanything_opv2v.rawdata import load_agent_yaml, load_depth, load_image
from mapanything_opv2v.samples.loading import SampleError

COMMON = {"resolution": (80, 60), "transform": "imgnorm", "data_norm_type": "identity"}


@pytest.fixture
def make(double_host, small_town):
    def build(name, **options):
        roots = {"ROOT": small_town.root, "depth_root": small_town.depth_root}
        return getattr(double_host, name)(**{**roots, "split": "train", "num_views": 4, **COMMON, **options})

    return build


def ids(views):
    return [view["instance"] for view in views]


def test_one_vehicle_one_world(make, small_town):
    dataset = make("OPV2VDataset")
    # two sequences of two frames, four agents, one of them missing once
    assert len(dataset) == 15 and dataset.get_stats() == "15 scenes"
    views = dataset[0]
    assert [view["label"] for view in views] == [f"train/{small_town.sequences[0]}/{small_town.frames[0]}"] * 4
    assert sorted(ids(views)) == [f"agent-1/camera{k}" for k in range(4)]
    assert ids(views)[0] == "agent-1/camera0"
    assert dataset[1][0]["instance"] == f"agent{small_town.agents[1]}/camera0"
    assert [view["agent_index"] for view in views] == [0, 0, 0, 0]
    assert all(view["is_metric_scale"] and view["is_synthetic"] for view in views)


def test_a_view_holds_what_the_files_say(make, small_town):
    view = make("OPV2VDataset", main_agent=small_town.agents[2])[0][0]
    here = small_town.root / "train" / small_town.sequences[0] / str(small_town.agents[2])
    image = load_image(here / f"{small_town.frames[0]}_camera0.png")
    pixels = (view["img"].permute(1, 2, 0) * 255).round().byte().numpy()
    assert np.array_equal(pixels, image)
    meta = load_agent_yaml(here / f"{small_town.frames[0]}.yaml").cameras[0]
    assert np.allclose(view["camera_intrinsics"], meta.intrinsic)
    assert np.allclose(view["camera_pose"], geometry.T_world_cam_opencv(meta.cords), atol=1e-4)
    depth_dir = small_town.depth_root / "train" / small_town.sequences[0] / str(small_town.agents[2])
    depth = load_depth(depth_dir / f"{small_town.frames[0]}_camera0_depth.npy")
    assert np.array_equal(view["depthmap"][..., 0], np.maximum(depth, 0))
    assert np.array_equal(view["non_ambiguous_mask"], depth >= 0)
    assert not view["non_ambiguous_mask"].all() and view["valid_mask"].any()


def agreement(views, turn_deg=0.0):
    """Share of points that another vehicle, where nothing hides them from it, measures at the same depth."""
    turn = geometry.T_world_cam_opencv([0, 0, 0, 0, turn_deg, 0])
    same = through = 0
    for a in views:
        points = a["pts3d"][a["valid_mask"]].astype(np.float64)
        for b in views:
            if a["agent_index"] == b["agent_index"]:
                continue
            local = geometry.transform_points(turn @ geometry.invert(b["camera_pose"]), points)
            u, v, z = geometry.project_pinhole(b["camera_intrinsics"], local)
            inside = (z > 1) & (u > 0) & (u < 79) & (v > 0) & (v < 59)
            seen = b["depthmap"][np.rint(v[inside]).astype(int), np.rint(u[inside]).astype(int), 0]
            same += (np.abs(seen - z[inside]) < 0.1 * z[inside]).sum()
            through += ((seen > 1.1 * z[inside]) | (seen == 0)).sum()
    return same / (same + through)


def test_views_of_all_vehicles_agree_on_the_world(make):
    views = make("OPV2VCoopDataset", num_views=16, seed=1, min_agents=4)[0]
    right, wrong = agreement(views), agreement(views, turn_deg=5.0)
    assert right > 0.8 > 0.6 > wrong, (right, wrong)


def test_main_agent_is_view_0(make, small_town):
    last = small_town.agents[-1]
    for index in range(3):
        views = make("OPV2VCoopDataset", main_agent=last)[index]
        assert views[0]["instance"] == f"agent{last}/camera0" and views[0]["agent_index"] == 0
    assert len(make("OPV2VCoopDataset", main_agent=last)) == 3  # the fourth frame has lost it
    both = make("OPV2VCoopDataset", main_agent=str(last), main_agent_policy="first")
    assert len(both) == 4
    mains = {both[i][0]["instance"] for i in range(4)}
    assert mains == {f"agent{last}/camera0", f"agent{small_town.agents[1]}/camera0"}
    with pytest.raises(ValueError, match="has no usable agent main_agent=12"):
        make("OPV2VCoopDataset", main_agent=12)


@pytest.mark.parametrize("policy", ["first", "random", "closest", "most_visible"])
def test_main_agent_is_the_same_for_every_view_count(make, policy):
    dataset = make("OPV2VCoopDataset", num_views=6, variable_num_views=True, main_agent_policy=policy, seed=3)
    assert dataset.num_views == [2, 3, 4, 5, 6]
    for index in range(len(dataset)):
        assert len({dataset[(index, 0, number)][0]["instance"] for number in range(5)}) == 1


def test_random_main_agent_varies_by_frame_and_epoch(make):
    dataset = make("OPV2VCoopDataset", main_agent_policy="random")
    drawn = []
    for epoch in range(12):
        dataset.set_epoch(epoch)
        drawn.append(tuple(dataset[index][0]["instance"] for index in range(4)))
    assert len(set(drawn)) > 5 and len(set(drawn[0])) > 1


def test_agent_index_does_not_depend_on_the_draw(make, small_town):
    dataset = make("OPV2VCoopDataset", main_agent=small_town.agents[2])
    others = [a for a in small_town.agents if a != small_town.agents[2]]
    expected = {small_town.agents[2]: 0, **{a: 1 + n for n, a in enumerate(others)}}
    for epoch in range(5):
        dataset.set_epoch(epoch)
        for view in dataset[0]:
            assert view["agent_index"] == expected[int(view["instance"].split("/")[0][5:])]
            assert isinstance(view["agent_index"], int)


def test_cooperative_samples_show_several_vehicles(make):
    dataset = make("OPV2VCoopDataset", num_views=3, min_agents=3)
    for epoch in range(10):
        dataset.set_epoch(epoch)
        assert len({view["agent_index"] for view in dataset[0]}) == 3


def test_the_count_asked_for_comes_back(make):
    dataset = make("OPV2VCoopDataset", num_views=16, variable_num_views=True, min_num_views=11)
    assert dataset.num_views == [11, 12, 13, 14, 15, 16]
    for index in range(len(dataset)):  # the frame with three agents offers 12 views only
        for number, count in enumerate(dataset.num_views):
            views = dataset[(index, 0, number)]
            assert len(views) == count and len(set(ids(views))) == count
    assert len(make("OPV2VCoopDataset", num_views=13)) == 3
    with pytest.raises(ValueError, match="no scene offers 17 views"):
        make("OPV2VCoopDataset", num_views=17, variable_num_views=True)
    with pytest.raises(ValueError, match=r"no scene is left .* offers fewer than 5 views"):
        make("OPV2VDataset", num_views=5)


def test_only_the_agents_that_are_shown_are_read(make, own_town, small_town):
    root, depth_root = own_town
    for path in (*root.rglob("*.yaml"), *root.rglob("*.png")):
        if f"/{small_town.agents[1]}/" not in path.as_posix():
            path.write_bytes(b"broken")
    dataset = make("OPV2VDataset", ROOT=root, depth_root=depth_root, main_agent=small_town.agents[1])
    assert len(dataset[0]) == 4
    coop = make("OPV2VCoopDataset", ROOT=root, depth_root=depth_root, min_agents=1, num_views=1)
    assert coop[0][0]["instance"] == f"agent{small_town.agents[1]}/camera0"


def test_options_choose_cameras_agents_and_scenes(make, small_town):
    views = make("OPV2VDataset", camera_ids=[3, 1], num_views=2, main_agent=small_town.agents[1])[0]
    assert ids(views) == [f"agent{small_town.agents[1]}/camera{k}" for k in (3, 1)]
    pair = small_town.agents[1:3]
    dataset = make("OPV2VCoopDataset", include_agents=list(pair), num_views=8)
    assert {view["instance"].split("/")[0] for view in dataset[0]} == {f"agent{a}" for a in pair}
    assert make("OPV2VDataset", max_scenes=1).get_stats() == "1 scenes"
    assert len(make("OPV2VDataset", max_scenes=3)) == 3


def test_splits_stay_apart(make, double_host, small_town):
    locked = make("OPV2VDataset_validate", split=None)
    assert {locked[i][0]["label"].split("/")[0] for i in range(len(locked))} == {"validate"}
    with pytest.raises(ValueError, match="reads the split 'validate' only, got split='train'"):
        make("OPV2VDataset_validate", split="train")
    with pytest.raises(ValueError, match="split='val': expected one of train, validate, test, test_culvercity"):
        make("OPV2VDataset", split="val")
    with pytest.raises(FileNotFoundError, match="test_culvercity"):
        make("OPV2VDataset_test_culvercity", split=None)
    assert len(double_host.DATASETS) == 5 * 5  # five classes, each unlocked and for four splits


def test_training_varies_by_epoch_and_validation_is_fixed(make):
    def draw(dataset, epoch):
        dataset.set_epoch(epoch)
        return [(ids(views), views[0]["rng"]) for views in (dataset[i] for i in range(4))]

    train = make("OPV2VCoopDataset")
    assert draw(train, 0) == draw(train, 0) != draw(train, 1)
    assert draw(make("OPV2VCoopDataset"), 1) == draw(train, 1)  # another process would draw the same
    for seed in (0, 777):
        fixed = make("OPV2VCoopDataset", seed=seed)
        assert draw(fixed, 0) == draw(fixed, 1)
    assert draw(make("OPV2VCoopDataset", seed=0), 0) != draw(make("OPV2VCoopDataset", seed=777), 0)


def test_resized_and_multiplied_datasets_know_their_epoch(make):
    def draw(dataset, epoch):
        dataset.set_epoch(epoch)
        return [tuple(ids(dataset[i])) for i in range(len(dataset))]

    resized = 9 @ make("OPV2VCoopDataset")
    assert len(resized) == 9
    assert draw(resized, 0) == draw(resized, 0) != draw(resized, 1)
    frames = [(views[0]["label"], tuple(ids(views))) for views in (resized[i] for i in range(8))]
    assert len({label for label, _ in frames}) == 4 and len(set(frames)) == 8  # each frame twice, drawn anew
    doubled = 2 * make("OPV2VCoopDataset")
    first = draw(doubled, 0)
    assert first[0] != first[1] and first != draw(doubled, 1)
    both = 16 @ doubled
    both.set_epoch(0)
    seen = [(both[i][0]["label"], tuple(ids(both[i]))) for i in range(16)]
    assert len(set(seen)) == 16
    summed = make("OPV2VCoopDataset") + make("OPV2VCoopDataset")
    summed.set_epoch(4)
    assert [part._epoch for part in summed.datasets] == [4, 4]


def test_an_epoch_without_a_step_is_refused(make):
    dataset = make("OPV2VCoopDataset", num_views=2)
    for samples in (dataset, 4 @ dataset, 1 * dataset):
        assert len(samples.make_sampler(max_num_of_images_per_gpu=4)) == 2
        with pytest.raises(ValueError, match=r"an epoch of 4 samples has no full batch .*samples_per_epoch"):
            samples.make_sampler(max_num_of_images_per_gpu=16)
        with pytest.raises(ValueError, match="no full batch"):
            samples.make_sampler(world_size=3, max_num_of_images_per_gpu=4)


def test_resolutions_and_augmentation_are_the_hosts(make):
    dataset = make("OPV2VDataset", resolution=[(40, 30), (56, 28)], transform="colorjitter", aug_crop=4)
    for number, (width, height) in enumerate([(40, 30), (56, 28)]):
        view = dataset[(0, number)][0]
        assert view["img"].shape == (3, height, width) and view["depthmap"].shape == (height, width, 1)
    assert not torch.equal(dataset[(0, 0)][0]["img"], dataset[(0, 0)][0]["img"])
    assert make("OPV2VDataset", data_norm_type="dinov2")[0][0]["data_norm_type"] == "dinov2"
    with pytest.raises(ValueError, match="is asked with"):
        dataset[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"camera_id": [0]},
            r"OPV2VDataset: unknown option 'camera_id' \(did you mean 'camera_ids'\?\); known: ROOT",
        ),
        ({"panorama_resolution": (80, 20)}, "unknown option 'panorama_resolution'"),
        ({"covisibility_thres": 0.2}, "covisibility_thres: OPV2V has no covisibility"),
        ({"max_num_retries": 3}, "max_num_retries=3 needs strict=False"),
        ({"data_norm_type": "nope"}, "Unknown data_norm_type"),
        ({"main_agent_policy": "biggest"}, "main_agent_policy='biggest'"),
    ],
)
def test_options_that_cannot_act_raise(make, options, message):
    with pytest.raises(ValueError, match=message):
        make("OPV2VDataset", **options)


def test_missing_num_views_is_named(double_host, small_town):
    with pytest.raises(ValueError, match="num_views is missing"):
        double_host.OPV2VDataset(ROOT=small_town.root, split="train", **COMMON)


def damage(root, depth_root, truth, kind):
    folder = f"train/{truth.sequences[0]}/{truth.agents[1]}"
    frame = truth.frames[0]
    files = {
        "yaml": root / folder / f"{frame}.yaml",
        "camera2": root / folder / f"{frame}_camera2.png",
        "camera2_depth": depth_root / folder / f"{frame}_camera2_depth.npy",
    }
    files[kind].write_bytes(files[kind].read_bytes()[:100])
    return f"{folder.rsplit('/', 1)[0]}/{frame} agent {truth.agents[1]} {kind}"


@pytest.mark.parametrize("kind", ["yaml", "camera2", "camera2_depth"])
def test_a_bad_file_stops_the_run_by_name(make, own_town, small_town, kind):
    root, depth_root = own_town
    name = damage(root, depth_root, small_town, kind)
    dataset = make("OPV2VDataset", ROOT=root, depth_root=depth_root)
    with pytest.raises(SampleError, match=name):
        dataset[1]
    assert len(dataset[0]) == 4


def test_a_bad_file_is_counted_when_told(make, own_town, small_town, caplog):
    root, depth_root = own_town
    name = damage(root, depth_root, small_town, "camera2")
    dataset = make("OPV2VDataset", ROOT=root, depth_root=depth_root, strict=False, num_views=4, variable_num_views=True)
    with caplog.at_level(logging.WARNING):
        views = dataset[(1, 0, 2)]
    assert len(views) == 4 and views[0]["label"] and dataset.substituted == 1
    assert name in caplog.text and "is used instead of 1" in caplog.text
    again = dataset[(1, 0, 2)]
    assert ids(again) == ids(views) and dataset.substituted == 2  # the same one takes its place


def test_retries_end(make, own_town):
    root, depth_root = own_town
    for path in root.rglob("*.png"):
        path.write_bytes(b"")
    dataset = make("OPV2VDataset", ROOT=root, depth_root=depth_root, strict=False, max_num_retries=2)
    with pytest.raises(SampleError, match="not a PNG file"):
        dataset[0]
    assert dataset.substituted == 2


def test_substitutions_in_workers_are_counted(make, own_town, small_town):
    root, depth_root = own_town
    damage(root, depth_root, small_town, "yaml")
    dataset = make("OPV2VDataset", ROOT=root, depth_root=depth_root, strict=False)
    loader = torch.utils.data.DataLoader(dataset, batch_size=1, num_workers=2, collate_fn=lambda batch: batch)
    assert len(list(loader)) == 15
    assert dataset.substituted == 1


def test_a_workers_error_keeps_its_name(make, own_town, small_town):
    root, depth_root = own_town
    name = damage(root, depth_root, small_town, "camera2_depth")
    dataset = make("OPV2VDataset", ROOT=root, depth_root=depth_root)
    loader = torch.utils.data.DataLoader(dataset, batch_size=2, num_workers=1, collate_fn=lambda batch: batch)
    with pytest.raises(SampleError, match=name):
        list(loader)


def test_missing_files_stop_the_construction_or_are_left_out(make, own_town, small_town, caplog):
    root, depth_root = own_town
    folder = f"train/{small_town.sequences[0]}/{small_town.agents[1]}"
    (depth_root / folder / f"{small_town.frames[0]}_camera1_depth.npy").unlink()
    name = f"{small_town.frames[0]} agent {small_town.agents[1]} camera1_depth"
    with pytest.raises(SampleError, match=f"1 files are missing in .*{name}.*mapanything-opv2v depth"):
        make("OPV2VDataset", ROOT=root, depth_root=depth_root)
    with caplog.at_level(logging.WARNING):
        dataset = make("OPV2VDataset", ROOT=root, depth_root=depth_root, strict=False, num_views=4)
    assert len(dataset) == 14 and name in caplog.text
    with pytest.raises(SampleError, match="files are missing"):
        make("OPV2VDataset", ROOT=root, depth_root=None)  # the images' tree holds no depth


def test_other_errors_name_the_frame(make, monkeypatch):
    dataset = make("OPV2VDataset")
    monkeypatch.setattr(dataset, "transform", lambda image: 1 / 0)
    with pytest.raises(SampleError, match=r"train/.*/000068 \(index 0, 4 views\): ZeroDivisionError"):
        dataset[0]


def test_depth_of_another_size_is_refused(make, own_town, small_town):
    root, depth_root = own_town
    folder = f"train/{small_town.sequences[0]}/-1"
    np.save(depth_root / folder / f"{small_town.frames[0]}_camera0_depth.npy", np.ones((30, 40), np.float32))
    with pytest.raises(
        SampleError, match=r"agent -1 camera0_depth: .*shape \(30, 40\), expected the image's \(60, 80\)"
    ):
        make("OPV2VDataset", ROOT=root, depth_root=depth_root)[0]


def test_vehicles_are_united_over_agents(make, small_town):
    single = make("OPV2VDataset", main_agent=small_town.agents[1]).vehicles(0)
    coop = make("OPV2VCoopDataset", main_agent=small_town.agents[1]).vehicles(0)
    assert small_town.agents[1] not in single and small_town.agents[1] in coop
    assert set(single) < set(coop)
    assert coop[small_town.agents[2]].extent.shape == (3,)


def test_a_dataset_can_be_pickled(make):
    dataset = make("OPV2VCoopDataset_train", split=None, seed=1)
    copy = pickle.loads(pickle.dumps(dataset))
    assert ids(copy[2]) == ids(dataset[2])


def test_index_out_of_range(make):
    with pytest.raises(IndexError):
        make("OPV2VDataset")[15]


def test_a_sample_by_index_is_that_sample_or_an_error(double_host, own_town):
    root, depth_root = own_town
    options = {"num_views": 2, "resolution": (40, 30), "split": "test", "seed": 0, "strict": False}
    options |= {"transform": "imgnorm", "data_norm_type": "dinov2"}
    dataset = double_host.OPV2VDataset(ROOT=root, depth_root=depth_root, **options)
    names = [dataset.sample_name(index) for index in range(len(dataset))]
    assert len(set(names)) == len(names)
    for index, name in enumerate(names):
        views = dataset.sample(index)
        assert name == f"{views[0]['label']}_{views[0]['instance'].partition('/')[0]}"
        for view, same in zip(views, dataset[index]):
            assert view["instance"] == same["instance"]
    for path in root.rglob("*.png"):
        path.write_bytes(b"")
    with pytest.raises(SampleError, match="test/.* camera"):  # strict=False would draw another one
        dataset.sample(0)
