"""The benchmark in the real host, without the host: what it trains, resumes, refuses and sums up."""

import json
import math
import pickle
import re
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
from benchmark_files import FOLDER, load
from fake_host import write_host
from influencer_mmdet3d.host.pin import load_pin
from mmengine.config import Config

host_criteria = load("host_criteria")
host_summary = load("host_summary")
host_learning = load("host_learning")
SMALL = ("--models", "s3dis", "--seeds", "0", "--rooms", "2", "1", "--steps", "3")


def content(model, criterion, seed, ap, settings=None, temperature=0.03):
    return {
        **{"model": model, "criterion": criterion, "seed": seed, "settings": settings or {"steps": 9}},
        "held_out": {"ap": ap, "ap50": ap + 0.1, "ap25": ap + 0.2},
        "without_nms": {"ap": ap / 2},
        "training": {"ap": 2 * ap, "ap50": 2 * ap + 0.1},
        **{"options": {"temperature": temperature}, "device": "abacus", "seconds": 60.0 + seed},
    }


def write(out, *cells):
    for cell in cells:
        path = host_learning.Cell(cell["model"], cell["criterion"], cell["seed"]).path(out)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(cell))


@pytest.fixture
def host(tmp_path, monkeypatch):
    root = tmp_path / "checkout"
    write_host(root)
    monkeypatch.setenv("ONEFORMER3D_ROOT", str(root))
    return root


@pytest.fixture
def trained(monkeypatch):
    """Stand in for the process of a cell: writes its file; returns the calls."""
    calls = []

    def run(command, env, stdout, stderr):
        task = json.loads(command[-1])
        calls.append(SimpleNamespace(script=Path(command[1]), task=task, env=env))
        stdout.write(b"nine lines\n" * 9 + b"the last words\n")
        if task["criterion"] == "host" and not repaired:
            return SimpleNamespace(returncode=3)
        cell = content(*(task[name] for name in ("model", "criterion", "seed")), 0.25, task["settings"])
        Path(task["result"]).parent.mkdir(exist_ok=True)
        Path(task["result"]).write_text(json.dumps(cell))
        return SimpleNamespace(returncode=0)

    repaired = []
    monkeypatch.setattr(host_learning.subprocess, "run", run)
    return SimpleNamespace(calls=calls, repair=lambda: repaired.append(True))


def test_table_by_hand(tmp_path, capsys):
    """Differences 0.1, 0.2 and 0.3: mean 0.2, deviation 0.1, t = 0.2 / (0.1 / sqrt 3), p = 1 - t / sqrt(t^2 + 2)."""
    host_aps, own_aps = (0.1, 0.2, 0.3), (0.2, 0.4, 0.6)
    write(tmp_path, *(content("s3dis", "host", seed, ap) for seed, ap in enumerate(host_aps)))
    write(tmp_path, *(content("s3dis", "influence", seed, ap) for seed, ap in enumerate(own_aps)))
    write(tmp_path, content("s3dis", "influence", 7, 0.8), content("scannet", "influence", 0, 0.5))
    results = host_summary.load(tmp_path)
    own, other = (host_summary.values(results["s3dis"][name], "held_out", "ap") for name in ("influence", "host"))
    found = host_summary.paired(own, other)
    t = 2 * math.sqrt(3)
    assert found == pytest.approx((3, 0.2, 0.1, 1 - t / math.sqrt(t * t + 2)))
    assert host_learning.main(["--out", str(tmp_path), "--summarise"]) == 0
    table = capsys.readouterr().out
    assert (tmp_path / "table.md").read_text() == table
    rows = [line.strip("| ").split(" | ") for line in table.splitlines() if line.startswith("| s")]
    assert rows == [
        ["s3dis", "host", "3", "0.200 (0.100)", "0.300", "0.400", "0.100", "0.400 (0.200)", "0.500",
         "-", "-", "-", "-", "61"],
        ["s3dis", "influence", "4", "0.500 (0.258)", "0.600", "0.700", "0.250", "1.000 (0.516)", "1.100",
         "+0.200 (0.100)", "0.074", "+0.000 (0.000)", "-", "62"],
        ["scannet", "influence", "1", "0.500 (-)", "0.600", "0.700", "0.250", "1.000 (-)", "1.100",
         "-", "-", "-", "-", "60"],
    ]  # fmt: skip
    assert table.endswith("s3dis 9 steps, scannet 9 steps; abacus\n")


@pytest.mark.parametrize("own", [{0: 0.5}, {0: 0.5, 1: 0.25}, {}])
def test_nothing_to_compare(own):
    found = host_summary.paired(own, {0: 0.25, 1: 0.0, 2: 0.5})
    assert found.seeds == len(own)
    assert math.isnan(found.p) and math.isnan(found.mean) == (not own)


def test_cells_that_do_not_compare(tmp_path):
    with pytest.raises(ValueError, match="cells holds no cells: run the benchmark with the same --out first"):
        host_summary.load(tmp_path)
    write(tmp_path / "a", content("s3dis", "host", 0, 0.1), content("s3dis", "influence", 0, 0.1, {"steps": 8}))
    with pytest.raises(ValueError, match=r"s3dis.influence.0.json has other settings than cells beside it"):
        host_summary.load(tmp_path / "a")
    write(tmp_path / "b", content("s3dis", "host", 0, 0.1), content("s3dis", "host", 1, 0.1, temperature=1.0))
    with pytest.raises(ValueError, match=r"s3dis.host.1.json has other options of the criterion than its other seeds"):
        host_summary.load(tmp_path / "b")


def test_cells_are_trained_side_by_side_and_resumed(host, trained, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "already/there")
    out = tmp_path / "out"
    command = ["--out", str(out), *SMALL]
    assert host_learning.main(command) == 1, "the host's cell fails"
    first = capsys.readouterr().out
    assert "2 cells, 0 there already; 1 at a time" in first and "1 cells failed: the same command goes on" in first
    assert re.search(r"\[1/2, \d+ s\] s3dis host seed 0: RuntimeError: exit code 3, .*s3dis.host.0.log:\nnine", first)
    assert "the last words" in first
    assert re.search(
        r"s3dis influence seed 0: held-out AP 0.250 AP50 0.350, without NMS AP 0.125, training scenes AP 0.500, 60 s",
        first,
    )
    trained.repair()
    assert host_learning.main(command) == 0
    assert "2 cells, 1 there already" in capsys.readouterr().out
    calls = trained.calls
    assert [call.task["criterion"] for call in calls] == ["host", "influence", "host"]
    assert len({call.task["data"] for call in calls}) == 1, "both criteria and both attempts see the same scenes"
    assert len({call.task["work_dir"] for call in calls}) == 2
    for call in calls:
        assert call.script.name == "host_cell.py" and call.task["settings"]["steps"] == 3
        paths = call.env["PYTHONPATH"].split(":")
        assert [Path(path).name for path in paths] == ["standins", "host", "checkout", "there"]
        assert all(Path(path).is_dir() for path in paths[:3])
        assert call.env["ONEFORMER3D_ROOT"] == str(host) and call.env["OMP_NUM_THREADS"] == "1"


def test_an_interrupt_starts_no_further_cell(host, tmp_path, monkeypatch):
    cancelled, begun = threading.Event(), []

    class Pool(ThreadPoolExecutor):
        def shutdown(self, wait=True, *, cancel_futures=False):
            super().shutdown(wait=False, cancel_futures=cancel_futures)
            cancelled.set()
            super().shutdown(wait)

    def run(cell, *_):
        begun.append(cell)
        assert len(begun) == 1 or cancelled.wait(60)
        return content(*cell, 0.5)

    def interrupt(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(host_learning, "ThreadPoolExecutor", Pool)
    monkeypatch.setattr(host_learning, "progress", interrupt)
    args = host_learning.parse(["--out", str(tmp_path), *SMALL, "--seeds", "0", "1"])
    with pytest.raises(KeyboardInterrupt):
        host_learning.train(args, run)
    assert len(begun) <= 2, "the one that had begun, of three"


@pytest.mark.parametrize(("gpus", "seen"), [((), ["5", "5", "5", "5"]), (("--gpus", "0", "2"), ["0", "2", "0", "2"])])
def test_cells_take_the_gpus_in_turn(gpus, seen, host, trained, tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5")
    trained.repair()
    assert host_learning.main(["--out", str(tmp_path / "out"), *SMALL, "--seeds", "0", "1", *gpus]) == 0
    assert [call.env["CUDA_VISIBLE_DEVICES"] for call in trained.calls] == seen


def test_a_folder_keeps_its_settings(host, trained, tmp_path, capsys):
    trained.repair()
    command = ["--out", str(tmp_path / "out"), *SMALL]
    assert host_learning.main(command) == 0
    assert host_learning.main([*command[:-1], "4"]) == 2
    assert "s3dis.host.0.json was made with steps=3 (now 4); give the same settings" in capsys.readouterr().err
    assert len(trained.calls) == 2


@pytest.mark.parametrize(
    ("model", "infos"),
    [
        ("s3dis", ("s3dis_infos_Area_1.pkl", "s3dis_infos_Area_5.pkl")),
        ("scannet", ("scannet_oneformer3d_infos_train.pkl", "scannet_oneformer3d_infos_val.pkl")),
    ],
)
def test_scenes(model, infos, tmp_path):
    settings = {**host_learning.SETTINGS[model], "rooms": [2, 1]}
    (tmp_path / "scenes").mkdir()
    root = host_learning.write_scenes(model, 3, settings, tmp_path)
    counts = [len(pickle.loads((root / name).read_bytes())["data_list"]) for name in infos]
    assert counts == [2, 1]
    assert all(path.stat().st_size == 24 * settings["points"] for path in (root / "points").iterdir())
    made = root.stat().st_mtime_ns
    assert host_learning.write_scenes(model, 3, {**settings, "steps": 1}, tmp_path) == root
    assert root.stat().st_mtime_ns == made, "written once"
    others = [(4, settings), (3, {**settings, "rooms": [1, 1]})]
    assert len({root, *(host_learning.write_scenes(model, *other, tmp_path) for other in others)}) == 3
    assert not list((tmp_path / "scenes").glob(".*"))


def test_without_a_host(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("ONEFORMER3D_ROOT", raising=False)
    assert host_learning.main(["--out", str(tmp_path), *SMALL]) == 2
    error = capsys.readouterr().err
    assert error.startswith("host_learning.py: ONEFORMER3D_ROOT is not set: it must name your checkout")
    assert load_pin().how_to_get in error
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--jobs", "0"), "--jobs must be at least 1, got 0"),
        (("--rooms", "2", "0"), "--rooms must be at least 1, got 2 0"),
        (("--models", "kitti"), "invalid choice: 'kitti'"),
        (("--criteria", "auction"), "--criteria: no criterion 'auction'; known: host, influence"),
        (("--criteria", "influence:temprature=1"), "unknown option 'temprature'. Did you mean 'temperature'"),
        (("--criteria", "influence:temperature=warm"), "temperature must be a finite number >= 0, got 'warm'"),
        (("--criteria", "host:non_object_weight=low"), "host:non_object_weight=low: non_object_weight='low' is no"),
        (("--criteria", "host:groups=3"), "host:groups=3: the host's criterion knows neither groups nor pilots"),
        (("--criteria", "influence:groups=0"), "groups must be a positive integer, got '0'"),
        (("--criteria", "influence:start=here"), "start must be 'learned' or 'voxels', got 'here'"),
        (("--criteria", "influence:pilots=1"), "pilots must be True or False, got '1'"),
        (("--evaluations", "0"), "--evaluations must be at least 1, got 0"),
        (("--criteria", "host:temperature=1"), "of the host's criterion only non_object_weight can be changed here"),
    ],
)
def test_misuse(options, message, capsys):
    with pytest.raises(SystemExit) as stop:
        host_learning.parse(["--out", "x", *options])
    assert stop.value.code == 2 and message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("host", {"type": "theirs"}),
        ("host:non_object_weight=0.2", {"type": "theirs", "non_object_weight": 0.2}),
        ("influence:score_others=1,impl=plain", {"type": "theirs", "score_others": 1, "impl": "plain"}),
    ],
)
def test_options_reach_the_config(name, options):
    cfg = Config(dict(model=dict(criterion=dict(inst_criterion=dict(type="theirs")))))
    host_criteria.configure(cfg, name)
    assert cfg.model.criterion.inst_criterion == options
    assert ":" not in host_learning.Cell("s3dis", name, 0).path(Path()).name


def shipped(model):
    criterion = dict(type="theirs", non_object_weight=0.05)
    return Config(dict(model=dict(type=model, decoder=dict(type="D", d=1), criterion=dict(inst_criterion=criterion))))


def test_decoders_by_name():
    """The recipe's weight of "no object" wins over the shipped config's; the model changes where that is needed."""
    cfg = shipped("S3DISOneFormer3D")
    host_criteria.configure(cfg, "influence:groups=3,start=voxels,recipe=nms_free")
    assert cfg.model.decoder == dict(type="InfluencerQueryDecoder", d=1, groups=3, start="voxels")
    assert cfg.model.type == "InfluencerS3DISOneFormer3D"
    assert cfg.model.criterion.inst_criterion == dict(type="theirs", recipe="nms_free")
    cfg = shipped("ScanNetOneFormer3D")
    host_criteria.configure(cfg, "influence:groups=6")
    assert cfg.model.decoder == dict(type="InfluencerScanNetQueryDecoder", d=1, groups=6)
    assert cfg.model.type == "ScanNetOneFormer3D" and cfg.model.criterion.inst_criterion.non_object_weight == 0.05
    with pytest.raises(ValueError, match="queries of ScanNet's decoder are superpoints, it takes no start"):
        host_criteria.configure(cfg, "influence:start=voxels")


def test_help_examples_parse():
    done = subprocess.run([sys.executable, FOLDER / "host_learning.py", "--help"], capture_output=True, text=True)
    examples = re.findall(r"^    python benchmarks/host_learning\.py (.*)$", done.stdout, re.M)
    assert done.returncode == 0 and len(examples) == 7
    for example in examples:
        assert host_learning.parse(example.split()).out.parts[0] == "bench_out"
