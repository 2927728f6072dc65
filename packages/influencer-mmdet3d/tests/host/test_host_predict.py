"""`predict` with the real host: S3DIS- and ScanNet-like models, no labels, tiles, and a job that was killed."""

import copy
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import plyfile
import pytest
import tiny
import torch
from influencer_mmdet3d import read_cloud, read_predictions, superpoints
from influencer_mmdet3d.data.synthetic import write_scannet
from influencer_mmdet3d.host.segment import Segmentor
from launcher import launch
from mmengine.runner import Runner

UTM = np.array([500_000.0, 5_400_000.0, 300.0])


def trained(cfg, folder, steps):
    """Train a small model; return its config file and checkpoint."""
    cfg.dump(folder / "config.py")
    tiny.run(cfg)
    return folder / "config.py", folder / f"iter_{steps}.pth"


@pytest.fixture(scope="module")
def s3dis(s3dis_root, tmp_path_factory):
    folder = tmp_path_factory.mktemp("s3dis_model")
    return trained(tiny.s3dis(s3dis_root, folder, {}, steps=120), folder, 120)


@pytest.fixture(scope="module")
def scannet(tmp_path_factory):
    """Trained on superpoints of the graph: predict makes the same ones, and the model has learnt on them."""
    root, folder = tmp_path_factory.mktemp("scannet"), tmp_path_factory.mktemp("scannet_model")
    write_scannet(root, scenes={"train": 2, "val": 1}, seed=0, points_per_scene=6_000, objects=(6, 9))
    for path in (root / "points").iterdir():
        labels = superpoints(np.fromfile(path, "<f4").reshape(-1, 6)[:, :3])
        labels.astype("<i8").tofile(root / "super_points" / path.name)
    return (*trained(tiny.scannet(root, folder, {}, steps=60), folder, 60), root)


def ply_of(path, points, target, offset=0.0, colour=True):
    names = ["x", "y", "z", *(("red", "green", "blue") if colour else ())]
    table = np.empty(len(points), [(name, "f8" if name in "xyz" else "u1") for name in names])
    for axis, name in enumerate(names):
        table[name] = points[:, axis] + (offset[axis] if axis < 3 and np.ndim(offset) else 0)
    plyfile.PlyData([plyfile.PlyElement.describe(table, "vertex")]).write(str(target))
    return target


def points_of(root, number=0):
    path = sorted((root / "points").iterdir())[number]
    return np.fromfile(path, "<f4").reshape(-1, 6)


def hosts_own(config, checkpoint):
    """What the host's `test` predicts for its first scene."""
    cfg = tiny.Config.fromfile(config)
    cfg.load_from, cfg.experiment_name = str(checkpoint), "own"
    runner = Runner.from_cfg(cfg)
    runner.load_or_resume()
    runner.model.eval()
    with torch.no_grad():
        batch = next(iter(runner.build_dataloader(copy.deepcopy(cfg.test_dataloader))))
        return runner.model.test_step(batch)[0].pred_pts_seg


@pytest.mark.parametrize("kind", ["s3dis", "scannet"])
def test_the_same_as_the_hosts_own_test(kind, request, tmp_path):
    """A scene that is one tile: masks, labels and scores are those of the host's pipeline, loader and model."""
    config, checkpoint, *_ = request.getfixturevalue(kind)
    own = hosts_own(config, checkpoint)
    root = request.getfixturevalue("s3dis_root") if kind == "s3dis" else request.getfixturevalue("scannet")[2]
    words = ("predict", str(config), str(checkpoint), str(sorted((root / "points").iterdir())[0]), "--out", "out")
    code, output = launch(tmp_path, *words, "--device", "cpu", *(("--overlap", "1")))
    assert code == 0, output
    (folder,) = (tmp_path / "out").iterdir()
    found = read_predictions(folder / "instances.npz")
    order = np.argsort(-own.instance_scores, kind="stable")
    assert len(found) == len(order) > 2
    np.testing.assert_allclose(found.scores, own.instance_scores[order], rtol=1e-4)
    masks = own.pts_instance_mask[0]
    same = [
        max((m & n).sum() / (m | n).sum() for n, label in zip(masks, own.instance_labels) if label == own_label)
        for m, own_label in zip(found.masks, found.labels)
    ]
    assert min(same) > 0.999
    assert (found.semantic == own.pts_semantic_mask[0]).mean() > 0.999


def test_georeferenced_ply_with_tiles(s3dis, s3dis_root, tmp_path):
    """Outputs are in the file's own coordinates; a second call does nothing. What tiles find is tested without a host,
    on a stand-in that knows the truth: this model remembers whole rooms."""
    config, checkpoint = s3dis
    points = points_of(s3dis_root)
    ply_of(None, points, tmp_path / "room.ply", UTM)
    ply_of(None, points, tmp_path / "grey.ply", colour=False)
    side = float(np.ptp(points[:, :2], axis=0).max())
    words = ("predict", str(config), str(checkpoint), "room.ply", "--device", "cpu")
    tiled = (*words, "--out", "two", "--tile", f"{0.8 * side:.2f}", "--overlap", f"{0.3 * side:.2f}")
    code, output = launch(tmp_path, *tiled)
    assert code == 0 and "georeferenced" in output, output
    summary = json.loads((tmp_path / "two" / "room" / "summary.json").read_text())
    assert summary["tiles"] > 1 and summary["points"] == len(points)
    assert summary["checkpoint"]["iter"] == 120 and len(summary["checkpoint"]["sha256"]) == 64
    assert summary["versions"]["torch"]
    written = plyfile.PlyData.read(str(tmp_path / "two" / "room" / "instances.ply"))["vertex"]
    np.testing.assert_array_equal(written["y"], read_cloud(tmp_path / "room.ply").xyz[:, 1])
    assert sorted(path.name for path in (tmp_path / "two" / "room").iterdir()) == [
        "instances.npz", "instances.ply", "page.html", "summary.json",
    ]  # fmt: skip
    code, output = launch(tmp_path, *tiled)
    assert code == 0 and "room: done before" in output, output
    code, output = launch(tmp_path, *tiled, "--score", "0.7")
    assert code == 2 and "holds predictions of another cloud, checkpoint or other options" in output
    code, output = launch(tmp_path, *words[:3], "grey.ply", "--out", "grey", "--device", "cpu")
    assert code == 0 and "grey: no colours: grey is taken" in output


def test_a_killed_job_goes_on(s3dis, s3dis_root, tmp_path):
    """Killed between tiles: the next call takes over the tiles that are done, and the result is the same."""
    config, checkpoint = s3dis
    ply_of(None, points_of(s3dis_root), tmp_path / "room.ply")
    words = ["predict", str(config), str(checkpoint), "room.ply", "--tile", "2.5", "--overlap", "1", "--device", "cpu"]
    assert launch(tmp_path, *words, "--out", "whole")[0] == 0
    path = os.pathsep.join(map(str, [Path(__file__).parent / "standins", os.environ["ONEFORMER3D_ROOT"], *sys.path]))
    env = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    job = subprocess.Popen(
        [sys.executable, "-m", "influencer_mmdet3d.cli", *words, "--out", "killed"], cwd=tmp_path, env=env,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    tiles = tmp_path / "killed" / "room" / "tiles"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and job.poll() is None and len(list(tiles.glob("*.npz"))) < 2:
        time.sleep(0.01)
    job.send_signal(signal.SIGKILL)
    job.wait()
    before = {path.name: path.stat().st_mtime_ns for path in tiles.glob("*.npz")}
    assert before and not (tmp_path / "killed" / "room" / "summary.json").exists()
    code, output = launch(tmp_path, *words, "--out", "killed", "--score", "0.9")
    assert code == 2 and "a run with other arguments was ended before it was done" in output, output
    assert {path.name: path.stat().st_mtime_ns for path in tiles.glob("*.npz")} == before
    code, output = launch(tmp_path, *words, "--out", "killed")
    assert code == 0, output
    one, other = (read_predictions(tmp_path / name / "room" / "instances.npz") for name in ("whole", "killed"))
    np.testing.assert_array_equal(one.scores, other.scores)
    np.testing.assert_array_equal(one.indices, other.indices)
    assert not tiles.exists()


def test_superpoints_from_mesh_graph_and_files(scannet, tmp_path):
    config, checkpoint, root = scannet
    points = points_of(root)
    ply_of(None, points, tmp_path / "room.ply")
    words = ("predict", str(config), str(checkpoint), "room.ply", "--device", "cpu", "--quiet")
    assert launch(tmp_path, "superpoints", "room.ply", "--out", "sp")[0] == 0
    for name, how in (("graph", "graph"), ("files", "sp")):
        code, output = launch(tmp_path, *words, "--out", name, "--superpoints", how)
        assert code == 0, output
    graph, files = (read_predictions(tmp_path / name / "room" / "instances.npz") for name in ("graph", "files"))
    np.testing.assert_array_equal(graph.indices, files.indices)
    labels = np.fromfile(tmp_path / "sp" / "room.bin", "<i8")
    for mask in graph.masks[:5]:
        shares = np.bincount(labels, mask) / np.bincount(labels)
        assert set(shares.tolist()) <= {0.0, 1.0}, "a superpoint is in a mask or not"
    code, output = launch(tmp_path, *words, "--out", "mesh", "--superpoints", "mesh")
    assert code == 2 and "has no faces; take --superpoints graph" in output


def test_what_does_not_fit_is_refused(s3dis, scannet, s3dis_root, tmp_path):
    ply_of(None, points_of(s3dis_root), tmp_path / "room.ply")
    cases = [
        ((str(s3dis[0]), str(scannet[1]), "room.ply"), "this checkpoint belongs to another config"),
        ((str(s3dis[0]), "absent.pth", "room.ply"), "checkpoint absent.pth does not exist"),
        ((str(s3dis[0]), str(s3dis[1]), "absent.ply"), "absent.ply does not exist"),
        ((str(s3dis[0]), str(s3dis[1]), "room.ply", "--superpoints", "graph"), "takes voxels; leave it out"),
        ((str(s3dis[0]), str(s3dis[1]), "room.ply", "--head", "scannet"), "this model has one head only"),
    ]
    for words, message in cases:
        code, output = launch(tmp_path, "predict", *words, "--out", "out", "--device", "cpu")
        assert code == 2 and message in output, output


def test_one_bad_cloud_does_not_stop_the_others(s3dis, s3dis_root, tmp_path):
    (tmp_path / "scans").mkdir()
    ply_of(None, points_of(s3dis_root), tmp_path / "scans" / "good.ply")
    (tmp_path / "scans" / "bad.ply").write_text("ply\n")
    words = ("predict", str(s3dis[0]), str(s3dis[1]), "scans", "--out", "out", "--device", "cpu")
    code, output = launch(tmp_path, *words)
    assert code == 1 and "bad.ply is no readable .ply" in output and "good: " in output, output
    assert (tmp_path / "out" / "good" / "page.html").is_file()


def test_hosts_own_configs_need_no_import_of_ours(s3dis_root):
    """A config of the host's own, which does not name this package, segments too (with random weights here)."""
    host = Path(os.environ["ONEFORMER3D_ROOT"])
    cfg = tiny.Config.fromfile(host / "configs" / "oneformer3d_1xb2_s3dis-area-5.py")
    cfg.model.update(num_channels=16, voxel_size=0.1, min_spatial_shape=64)
    cfg.model.backbone.num_planes = [16, 32, 48]
    cfg.model.decoder.update(num_instance_queries=6, in_channels=16, d_model=64, num_heads=4, hidden_dim=128)
    folder = s3dis_root / "plain"
    folder.mkdir(exist_ok=True)
    cfg.dump(folder / "plain.py")
    from mmengine.registry import MODELS, init_default_scope

    init_default_scope("mmdet3d")
    torch.save({"state_dict": MODELS.build(cfg.model).state_dict()}, folder / "model.pth")
    segmentor = Segmentor(folder / "plain.py", folder / "model.pth", "cpu")
    assert segmentor.classes[0] == "ceiling" and len(segmentor.classes) == 13
    found = segmentor(points_of(s3dis_root))
    assert len(found.labels) <= 6 * 13, "fewer pairs than topk_insts asks for"
