"""benchmarks/learn_towns.py apart from the training itself: cells, overrides, intervals, tables."""

from __future__ import annotations

import importlib.util
import json
import sys
import time
from pathlib import Path
from signal import SIGTERM

import numpy as np
import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"


def load(name):
    if str(FOLDER) not in sys.path:
        sys.path.append(str(FOLDER))  # the files of the benchmark import each other
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def learn():
    return load("learn_towns")


@pytest.fixture(scope="module")
def table():
    return load("learn_towns_table")


def test_every_arm_sets_each_key_once(learn, tmp_path):
    args = learn.parse(["--out", str(tmp_path)])
    for arm in learn.ARMS:
        words = learn.overrides(learn.Cell(arm, 100, 2), args, tmp_path)
        keys = [word.partition("=")[0] for word in words]
        assert len(keys) == len(set(keys)), arm
        assert "train_params.seed=2" in words
        said = dict(word.split("=", 1) for word in words)
        views = learn.ARMS[arm].vehicles * (1 if learn.ARMS[arm].panorama else 4)
        assert said["dataset.num_views"] == said["dataset.opv2v.val.num_views"] == str(views)
        assert said["train_params.max_num_of_imgs_per_gpu"] == str(32 * views)
        assert said["train_params.submodule_configs.encoder.lr"] == said["train_params.lr"]


def test_an_arm_has_the_last_word(learn, tmp_path):
    args = learn.parse(["--out", str(tmp_path)])
    words = learn.overrides(learn.Cell("lr1e-3", 100, 0), args, tmp_path)
    assert "train_params.lr=1e-3" in words and "train_params.submodule_configs.encoder.lr=1e-3" in words
    assert f"train_params.lr={args.lr}" not in words


def test_pinhole_views_and_panoramas_have_about_the_same_pixels(learn, tmp_path):
    (w, h), (width, height) = learn.sizes(learn.parse(["--out", str(tmp_path)]))
    assert 4 * w * h == pytest.approx(width * height, rel=0.05)


def test_cells_are_checked(learn, tmp_path, capsys):
    for cells in ("coop:500:0", "village:25:0"):
        with pytest.raises(SystemExit):
            learn.parse(["--out", str(tmp_path), "--cells", cells])
        assert "400 towns are rendered, 2000 are cast for starts" in capsys.readouterr().err
    assert [cell.name for cell in learn.parse(["--out", "x", "--cells", "started:all:1"]).cells] == ["started-all-1"]
    assert learn.parse(["--out", "x", "--cells", "start:500:0"]).cells[0].towns == 500
    assert [cell.name for cell in learn.parse(["--out", "x", "--cells", "coop:25:1"]).cells] == ["coop-25-1"]


def test_a_judged_cell_is_not_done_again(learn, tmp_path):
    args = learn.parse(["--out", str(tmp_path), "--cells", "coop:25:1"])
    folder = tmp_path / "cells" / "coop-25-1"
    folder.mkdir(parents=True)
    (folder / "judged.json").write_text("{}")
    assert learn.run_cell(args.cells[0], args, "", 0.0) is True
    assert [path.name for path in folder.iterdir()] == ["judged.json"]


def test_the_interval_covers_the_mean(table):
    rng = np.random.default_rng(1)
    hits = 0
    for _ in range(60):
        mean, low, high = table.interval(list(rng.normal(3, 1, 40)))
        assert low <= mean <= high
        hits += low <= 3 <= high
    assert hits >= 50  # of 60, at 95 %


def test_towns_count_once_and_pairs_by_distance(table):
    rows = [
        {"town": "a", "distance_m": 10, "translation_m": 1.0},
        {"town": "a", "distance_m": 60, "translation_m": 5.0},
        {"town": "b", "distance_m": 20, "translation_m": 4.0},
    ]
    assert table.by_town(rows, "translation_m") == {"a": 3.0, "b": 4.0}
    assert table.by_town(rows, "translation_m", near=True) == {"a": 1.0, "b": 4.0}


def test_the_table_says_what_a_constant_says(table, tmp_path, capsys):
    cell = {"arm": "coop", "towns": 25, "parameters": 2e6, "seconds": 9.0, "log": [{"train_loss": 1.0}]}
    for seed in (0, 1):
        rows = [
            {"variant": variant, "town": town, "distance_m": 10.0, "translation_m": error + seed}
            for variant, error in (("trained", 2.0), ("constant", 8.0))
            for town in "abc"
        ]
        folder = tmp_path / "cells" / f"coop-25-{seed}"
        folder.mkdir(parents=True)
        (folder / "judged.json").write_text(json.dumps({**cell, "seed": seed, "rows": rows}))
    assert table.main(tmp_path) == 0
    text = capsys.readouterr().out
    assert "coop, 25 towns, 2 seed(s)" in text
    assert "trained 2.500 [2.500, 2.500]  constant 8.500 [8.500, 8.500]" in text
    assert "trained - constant = -6.000 [-6.000, -6.000], 3 towns" in text
    assert (tmp_path / "table.txt").read_text() == text


def test_a_start_is_told_by_itself(table, tmp_path, capsys):
    rows = [
        {"variant": variant, "town": town, "distance_m": away, "translation_m": error * away, "rotation_deg": error}
        for variant, error in (("trained", 0.25), ("constant", 1.0), ("shuffled", 2.0))
        for town in "ab"
        for away in (20.0, 60.0)
    ]
    folder = tmp_path / "cells" / "started-24-0"
    folder.mkdir(parents=True)
    (folder / "start.judged.json").write_text(json.dumps(rows))
    assert table.main(tmp_path) == 0
    text = capsys.readouterr().out
    assert "started-24, the start alone, 1 seed(s)" in text
    near = next(line for line in text.splitlines() if "position of the partner, m, 5 to 40 m" in line)
    assert "trained 5.000 [5.000, 5.000], 2 towns  constant 20.000 [20.000, 20.000]" in near
    assert "shuffled 40.000" in near


def test_starts_of_few_towns_are_compared(table):
    def rows(error):
        told = [("trained", error), ("constant", 20.0), ("shuffled", 30.0)]
        return [
            {"variant": variant, "town": town, "distance_m": 20.0, "translation_m": value, "rotation_deg": value}
            for variant, value in told
            for town in "abc"
        ]

    lines = table.tell_starts({"start-25-0": rows(12.0), "start-400-0": rows(9.0), "started-all-0": rows(7.0)})
    at = lines.index("\nstart-25 less start-400, the starts alone; paired by town, 5 to 40 m")
    assert lines[at + 1].endswith("+3.000 [+3.000, +3.000]") and not any("less started" in line for line in lines)


def test_a_started_cell_goes_on_with_its_start(learn, tmp_path):
    args = learn.parse(["--out", str(tmp_path)])
    for name in ("started", "poses_only", "unstarted"):
        cell = learn.Cell(name, 24, 0)
        assert "model.pretrained=null" in learn.overrides(cell, args, tmp_path), name
    (tmp_path / "start.pth").touch()
    for name, weights in (("started", str(tmp_path / "start.pth")), ("unstarted", "null")):
        words = learn.overrides(learn.Cell(name, 24, 0), args, tmp_path)
        assert f"model.pretrained={weights}" in words and "model.encoder.patch_size=7" in words


def test_arms_are_compared_by_town(table):
    def cell(arm, towns, error):
        return {"arm": arm, "towns": towns, "seed": 0, "parameters": 1, "seconds": 1.0, "log": [], "rows": [
            {"variant": "trained", "town": town, "distance_m": 10.0, "translation_m": error + number}
            for number, town in enumerate("abc")]}  # fmt: skip

    lines = table.tell([cell("coop", 400, 2.0), cell("coop", 25, 5.0), cell("one", 400, 9.0), cell("one", 25, 9.0)])
    at = lines.index("\ncoop, 25 towns, less coop, 400 towns; paired by town")
    assert lines[at + 1].endswith("+3.000 [+3.000, +3.000], 3 towns")
    at = lines.index("\none, 400 towns, less coop, 400 towns; paired by town")
    assert lines[at + 1].endswith("+7.000 [+7.000, +7.000], 3 towns")
    assert not any("less coop, 25 towns" in line and line.startswith("\ncoop, 400") for line in lines)
    lines = table.tell([cell("started", "all", 2.0), cell("started_depth", "all", 3.0)])
    at = lines.index("\nstarted_depth, all towns, less started, all towns; paired by town")
    assert lines[at + 1].endswith("+1.000 [+1.000, +1.000], 3 towns")


def test_a_cell_can_take_the_start_of_another(learn, tmp_path, capsys):
    args = learn.parse(["--out", str(tmp_path), "--cells", "started_first:all:1", "--start_from", "started-all"])
    folder, other = tmp_path / "cells" / "started_first-all-1", tmp_path / "cells" / "started-all-1"
    folder.mkdir(parents=True)
    assert learn.start(args.cells[0], args, {}, folder, 0.0) is False
    assert "there is no start" in capsys.readouterr().out
    other.mkdir()
    (other / "start.pth").write_bytes(b"weights")
    assert learn.start(args.cells[0], args, {}, folder, 0.0) is True
    assert (folder / "start.pth").read_bytes() == b"weights"


def test_what_is_stopped_can_keep_its_state_first(learn, tmp_path):
    script = (
        "import pathlib, signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: (pathlib.Path('kept').touch(), sys.exit(3)))\n"
        "pathlib.Path('ready').touch(); time.sleep(60)"
    )
    command = [sys.executable, "-c", f"import os; os.chdir({str(tmp_path)!r})\n{script}"]
    found = learn.run(command, {}, tmp_path / "log", time.monotonic() + 3, SIGTERM)
    assert found == "stopped in time" and (tmp_path / "ready").exists() and (tmp_path / "kept").exists()


def test_what_a_start_trained_learns_slower_and_later(learn, tmp_path):
    args = learn.parse(["--out", str(tmp_path), "--trunk_lr", "3e-4", "--epochs", "30"])
    words = learn.overrides(learn.Cell("started", None, 0), args, tmp_path)
    for part in ("encoder", "info_sharing", "pose_head", "scale_token"):
        assert f"++train_params.submodule_configs.{part}.lr=0.0003" in words, part
        assert f"++train_params.submodule_configs.{part}.warmup_epochs=10.0" in words, part
    assert "train_params.lr=0.0003" in words  # what the start did not train, as the command says
    assert not any("pose_head" in word for word in learn.overrides(learn.Cell("coop", 100, 0), args, tmp_path))


def test_the_plan_ends_with_the_time():
    pace = load("learn_towns_pack").Pace(until=1000.0, epochs=10)
    now, made = 0.0, []
    for epoch in range(10):
        made.append(pace.steps(epoch, 100, now))
        now += made[-1] * (1.0 if epoch == 0 else 0.5)  # the first steps are slow
        pace.ended(made[-1], now)
        now += 6.0 if epoch % 5 == 4 else 1.0  # checkpoint, now and then a validation
    assert made[0] == 100
    assert all(steps >= 1 for steps in made)
    assert 970 <= now <= 1012


def test_a_loss_that_is_no_number_is_skipped(capsys):
    import torch

    model = torch.nn.Linear(2, 1)

    def host(batch, model, *rest, **more):
        return (model.weight.sum() * batch[0]["factor"], {"term": 1.0}) if more else model.weight

    loss = load("learn_towns_pack").skipping(host)
    fine, details = loss([{"factor": 2.0}], model, ret="loss")
    assert torch.equal(fine, 2 * model.weight.sum()) and details == {"term": 1.0}
    assert loss([{}], model) is model.weight  # what is no loss passes
    skipped, details = loss([{"factor": float("nan")}], model, ret="loss")
    skipped.backward()
    assert float(skipped.detach()) == 0 and details == {} and "skipped" in capsys.readouterr().out
    assert all(torch.equal(p.grad, torch.zeros_like(p)) for p in model.parameters())
