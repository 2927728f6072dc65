import argparse
import json
import math

import numpy as np
import pytest
from roborefer_spatial.scoring import compare
from roborefer_spatial.scoring.compare import compared, mcnemar


def test_mcnemar_by_hand():
    assert mcnemar(0, 0) == 1
    assert mcnemar(1, 9) == mcnemar(9, 1) == 2 * (1 + 10) / 2**10
    assert mcnemar(5, 5) == 1
    # against the definition: the chance of a split of 12 coins at least as uneven as 3 to 9
    tail = sum(math.comb(12, k) for k in (0, 1, 2, 3, 9, 10, 11, 12)) / 2**12
    assert mcnemar(3, 9) == pytest.approx(tail)


def test_pairs_are_kept_together():
    rng = np.random.default_rng(0)
    scenes = np.repeat(np.arange(30), 5)
    a = (rng.random(150) < np.repeat(rng.random(30), 5)).astype(float)  # scenes differ a lot
    b = a.copy()
    zeros = np.flatnonzero(a == 0)
    b[zeros[:: len(zeros) // 10][:10]] = 1
    found = compared(a, b, scenes.tolist(), bootstrap=2000, seed=0)
    assert (found.only_a, found.only_b) == (0, 10)
    assert found.difference == pytest.approx(10 / 150)
    low, high = found.interval
    assert 0 < low < 10 / 150 < high < 0.2  # the spread between scenes cancels
    assert found.p_value == pytest.approx(2 / 2**10)
    values = []
    for _ in range(2000):
        drawn = rng.choice(30, 30)
        values.append(np.mean([(b - a)[scenes == scene] for scene in drawn]))
    assert (low, high) == pytest.approx(tuple(np.percentile(values, [2.5, 97.5])), abs=0.01)


def test_one_scene_has_no_interval():
    found = compared(np.array([1.0, 0]), np.array([0.5, 1]), ["s", "s"], bootstrap=10, seed=0)
    assert found.interval is None
    assert (found.only_a, found.only_b, found.both, found.neither) == (1, 1, 0, 0)
    assert (found.a, found.b, found.difference) == (0.5, 0.75, 0.25)


def test_the_command(make_sample, tmp_path, capsys):
    samples = [make_sample((1, 1), scene=f"s{i}") for i in range(3)] + [make_sample(scene="s3")]
    path = make_sample.write(samples)
    a = make_sample.answers({s.id: s.answer for s in samples[:2]}, "a.jsonl")
    b = make_sample.answers({s.id: s.answer for s in samples[1:]}, "b.jsonl")
    parser = argparse.ArgumentParser()
    compare.add_arguments(parser)
    words = ["--samples", path, "--predictions", a, b, "--differ", tmp_path / "d.jsonl", "--bootstrap", 50]
    args = parser.parse_args([str(word) for word in words])
    assert compare.run(args) == 0
    printed = capsys.readouterr().out
    assert "t1_multi/val: 4 samples" in printed
    assert "B - A: +0.2500 [" in printed
    assert "only A right 1, only B right 2, both 1, neither 0; McNemar p = 1" in printed
    rows = [json.loads(line) for line in (tmp_path / "d.jsonl").read_text().splitlines()]
    assert [(row["id"], row["right"]) for row in rows] == [
        (samples[0].id, "a"), (samples[2].id, "b"), (samples[3].id, "b"),
    ]  # fmt: skip
    assert (rows[2]["truth"], rows[2]["a"], rows[2]["reason_a"]) == ("NOT_VISIBLE", None, "missing")
    args.json, args.report = True, tmp_path / "compare.html"
    for sample in samples:
        for name in sample.image:
            make_sample.image(name, (64, 48), seed=0)
    assert compare.run(args) == 0
    page = args.report.read_text()
    assert '"start":{"pair":"[\\"one\\",\\"a\\",\\"b\\"]"}' in page
    assert "<title>a against b</title>" in page
    said = capsys.readouterr()
    assert json.loads(said.out)["t1_multi/val"]["only_b"] == 2
    assert "drawing samples: 8 of 8 samples" in said.err
    args.quiet = True
    assert compare.run(args) == 0
    assert capsys.readouterr().err == ""


def test_the_interval_is_the_percentiles_of_the_draws():
    rng = np.random.default_rng(1)
    a, b, scenes = rng.random(40), rng.random(40), np.repeat(np.arange(8), 5)
    draws = np.random.default_rng(3).multinomial(8, np.full(8, 1 / 8), 500)
    per_scene = (b - a).reshape(8, 5).sum(axis=1)
    expected = np.percentile(draws @ per_scene / (draws.sum(axis=1) * 5), [2.5, 97.5])
    assert compared(a, b, scenes.tolist(), bootstrap=500, seed=3).interval == pytest.approx(tuple(expected))


def test_sets_are_compared_apart_and_the_table_says_who_is_who(make_sample):
    from roborefer_spatial.predictions import Prediction
    from roborefer_spatial.scoring.score import score

    samples = [make_sample((1, 1)), make_sample((1, 1), scene="other"), make_sample((1, 1), task="t1_concat")]
    a = score(samples, [Prediction(samples[0].id, samples[0].answer)])
    b = score(samples, [Prediction(sample.id, sample.answer) for sample in samples])
    found = compare.by_set(a, b, bootstrap=50, seed=0)
    assert {name: (one.samples, one.a, one.b) for name, one in found.items()} == {
        "t1_multi/val": (2, 0.5, 1.0),
        "t1_concat/val": (1, 0.0, 1.0),
    }
    lines = compare.table(found, ("first.jsonl", "second.jsonl")).splitlines()
    assert lines[0] == "t1_multi/val: 2 samples"
    assert lines[1:3] == ["  A first.jsonl: 0.5000", "  B second.jsonl: 1.0000"]
    assert lines[3] == "  B - A: +0.5000 [+0.0000, +1.0000] (95 %, scenes resampled in pairs)"
    assert lines[8] == "  B - A: +1.0000 (no interval: a single scene, or --bootstrap 0)"


def test_the_command_names_both_files_and_takes_no_resamples(make_sample, capsys):
    samples = [make_sample((1, 1), scene=f"s{i}") for i in range(2)]
    path = make_sample.write(samples)
    a, b = (make_sample.answers({s.id: s.answer for s in samples}, name) for name in ("a.jsonl", "b.jsonl"))
    parser = argparse.ArgumentParser()
    compare.add_arguments(parser)
    words = ["--samples", str(path), "--predictions", str(a), str(b), "--bootstrap"]
    assert compare.run(parser.parse_args([*words, "0"])) == 0
    printed = capsys.readouterr().out
    assert f"A {a}: 1.0000" in printed and f"B {b}: 1.0000" in printed
    with pytest.raises(ValueError, match="--bootstrap is -1: expected 0 or more"):
        compare.run(parser.parse_args([*words, "-1"]))
    with pytest.raises(SystemExit):
        parser.parse_args(["--samples", str(path)])
