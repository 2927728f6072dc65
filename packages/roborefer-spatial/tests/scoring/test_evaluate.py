import argparse
import gc
import json
import re

import numpy as np
import pytest
from roborefer_spatial.scoring import evaluate


def run(*arguments):
    parser = argparse.ArgumentParser()
    evaluate.add_arguments(parser)
    return evaluate.run(parser.parse_args([str(argument) for argument in arguments]))


@pytest.fixture
def files(make_sample):
    left = np.zeros((48, 64), bool)
    left[:, :32] = True
    samples = [make_sample((3, 3), mask=left, scene=f"scene{i}") for i in range(3)]
    texts = ["[(0.1, 0.1)]", "[(0.9, 0.1)]", "NOT_VISIBLE"]
    return make_sample.write(samples), make_sample.answers({s.id: t for s, t in zip(samples, texts)})


def test_files_in_metrics_out(files, tmp_path, capsys):
    out, results = tmp_path / "deep" / "metrics.json", tmp_path / "results.jsonl"
    assert run("--samples", files[0], "--predictions", files[1], "--out", out, "--results", results) == 0
    document = json.loads(out.read_text())
    assert document["metrics"]["hit_at_mask"] == 1 / 3
    assert document["sets"] == {"t1_multi/val": document["metrics"]}
    assert document["options"]["units"] == "normalized"
    rows = [json.loads(line) for line in results.read_text().splitlines()]
    assert [(row["hit_mask"], row["reason"]) for row in rows] == [
        (1, "points"),
        (0, "points"),
        (0, "not_visible"),
    ]
    assert rows[2]["l2_error"] is None
    assert rows[0]["pred_points"] == [[0.1, 0.1]]
    printed = capsys.readouterr().out
    assert re.search(r"t1_multi/val +3 +3 +0\.3333 +0\.5000 +0\.5000 +0\.0000", printed)
    assert re.search(r"\[0\.\d{3}, [01]\.\d{3}\]", printed)


def test_several_sets_have_no_common_metrics(make_sample, tmp_path):
    multi, concat = make_sample((3, 3)), make_sample((3, 3), task="t1_concat")
    samples = [make_sample.write([multi], "m.json"), make_sample.write([concat], "c.jsonl")]
    answers = [make_sample.answers({s.id: s.answer}, f"{s.id}.jsonl") for s in (multi, concat)]
    out = tmp_path / "metrics.json"
    assert run("--samples", *samples, "--predictions", *answers, "--out", out, "--bootstrap", 0) == 0
    document = json.loads(out.read_text())
    assert document["metrics"] is None
    assert {name: m["hit_at_mask"] for name, m in document["sets"].items()} == {
        "t1_multi/val": 1,
        "t1_concat/val": 1,
    }


def test_units_reach_the_parser(make_sample, tmp_path):
    sample = make_sample((3, 3))
    samples, answers = make_sample.write([sample]), make_sample.answers({sample.id: "(3, 3)"})
    out = tmp_path / "metrics.json"
    run("--samples", samples, "--predictions", answers, "--out", out, "--units", "pixel", "--multi", "first")
    assert json.loads(out.read_text())["metrics"]["hit_at_mask"] == 1


def test_the_collector_is_paused_and_comes_back(files, monkeypatch):
    seen, load = [], evaluate.load_samples
    monkeypatch.setattr(evaluate, "load_samples", lambda *a, **k: seen.append(gc.isenabled()) or load(*a, **k))
    evaluate.load_scores(*files, evaluate.ScoreOptions())
    assert (seen, gc.isenabled()) == ([False], True)
    with pytest.raises(ValueError, match="no such file"):
        evaluate.load_scores(files[0], files[0].with_name("gone.jsonl"), evaluate.ScoreOptions())
    assert gc.isenabled()


def test_limit_leaves_out_samples_and_their_answers(files):
    scores = evaluate.load_scores(*files, evaluate.ScoreOptions(), limit=2)
    assert len(scores) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--bootstrap", -1], "--bootstrap is -1: expected 0 or more"),
        (["--workers", 0], "--workers is 0: expected at least 1"),
    ],
)
def test_bad_options(files, arguments, message):
    with pytest.raises(ValueError, match=message):
        run("--samples", files[0], "--predictions", files[1], *arguments)


def test_files_must_pair_and_be_distinct(files):
    with pytest.raises(
        ValueError, match=re.escape("--samples names 2 file(s) and --predictions 1: give one answer file")
    ):
        run("--samples", files[0], files[0], "--predictions", files[1])
    with pytest.raises(ValueError, match="t1_multi/val was in an earlier file; score the two separately"):
        run("--samples", files[0], files[0], "--predictions", files[1], files[1])


def test_errors_name_both_files(files, make_sample):
    answers = make_sample.answers({"other": "x"}, "other.jsonl")
    with pytest.raises(ValueError, match=r"other\.jsonl against .*samples\.json: 1 of 1 answers belong to no sample"):
        run("--samples", files[0], "--predictions", answers)


@pytest.mark.parametrize(
    ("name", "text"), [("a.jsonl", ""), ("a.jsonl", "\n\n"), ("a.json", "[]"), ("a.json", '{"results": []}')]
)
def test_a_file_without_answers_is_no_score_of_zero(make_sample, tmp_path, name, text, capsys):
    samples = make_sample.write([make_sample((1, 1))])
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=rf"{name}: holds no answers, so there is nothing to score"):
        evaluate.load_scores(samples, tmp_path / name, evaluate.ScoreOptions())


def test_other_rules_stand_beside_the_strict_score(files, tmp_path, capsys):
    out = tmp_path / "metrics.json"
    arguments = ["--samples", files[0], "--predictions", files[1], "--out", out]
    assert run(*arguments, "--rule", "notes", "--also", "lmms-eval") == 0
    document = json.loads(out.read_text())
    assert document["metrics"]["hit_at_mask"] == 1 / 3
    assert document["notes_rule"]["t1_multi/val"]["hit_at_mask_total"] == 2
    assert document["notes_rule"]["t1_multi/val"]["hit_at_mask"] == 0.5
    (found,) = document["lmms_eval"].values()
    assert found["refspatial"]["hit_at_mask"] == pytest.approx(1 / 3)
    printed = capsys.readouterr().out
    assert printed.index("t1_multi/val") < printed.index("by the research notes' rule") < printed.index("as lmms-eval")
    assert run(*arguments) == 0
    assert not {"notes_rule", "lmms_eval"} & set(json.loads(out.read_text()))


def test_one_evaluation_of_two_sets_has_no_common_metrics(make_sample):
    from roborefer_spatial.scoring.score import ScoreOptions, score

    samples = [make_sample((3, 3)), make_sample((3, 3), task="t1_concat")]
    both = evaluate.evaluation(score(samples, []), ScoreOptions(), bootstrap=0, seed=0)
    assert (both["metrics"], len(both["sets"])) == (None, 2)
    one = evaluate.evaluation(score(samples[:1], []), ScoreOptions(), bootstrap=0, seed=0)
    assert one["metrics"] == one["sets"]["t1_multi/val"]


def test_the_table_has_its_head_once_and_the_interval_below(files, capsys):
    assert run("--samples", files[0], "--predictions", files[1], "--workers", 1) == 0
    head, line, row, ends = capsys.readouterr().out.splitlines()[:4]
    assert head.split()[0] == "set"
    assert line == "-" * len(head)
    assert row.split()[0] == "t1_multi/val"
    low, high = (float(end) for end in ends.strip().strip("[]").split(","))
    assert low < 1 / 3 < high


def test_required_files_and_the_default_seed(files, tmp_path):
    parser = argparse.ArgumentParser()
    evaluate.add_arguments(parser)
    for words in (["--samples", "a"], ["--predictions", "b"]):
        with pytest.raises(SystemExit):
            parser.parse_args(words)
    assert parser.parse_args(["--samples", "a", "--predictions", "b"]).seed == 0
    with pytest.raises(ValueError, match=r"--samples names 1 file\(s\) and --predictions 2"):
        run("--samples", files[0], "--predictions", files[1], files[1])
    with pytest.raises(ValueError, match="--workers is 0: expected at least 1"):
        run("--samples", files[0], "--predictions", files[1], "--workers", 0)


def test_progress_is_shown_unless_quiet(files, capsys):
    for words, shown in (((), True), (("--quiet",), False)):
        run("--samples", files[0], "--predictions", files[1], *words)
        assert ("raw masks" in capsys.readouterr().err) is shown


def test_pixels_keep_the_frame_of_the_profile_and_other_units_do_not(make_sample, tmp_path):
    sample = make_sample((3, 3))
    samples, answers = make_sample.write([sample]), make_sample.answers({sample.id: "(0.05, 0.07)"})
    record = answers.with_name(answers.name + ".run.json")
    record.write_text(json.dumps({"profile": {"units": "pixel", "frame": "seen"}}))
    with pytest.raises(ValueError, match="does not say at which size the model saw its images"):
        run("--samples", samples, "--predictions", answers)
    with pytest.raises(ValueError, match="does not say at which size the model saw its images"):
        run("--samples", samples, "--predictions", answers, "--units", "pixel")
    assert run("--samples", samples, "--predictions", answers, "--units", "normalized") == 0


@pytest.mark.parametrize("content", ["[1]", "not json", '{"profile": 3}'])
def test_a_record_that_is_none_is_refused(files, content):
    files[1].with_name(files[1].name + ".run.json").write_text(content)
    with pytest.raises(ValueError, match=r"answers\.jsonl\.run\.json: not a record of `predict`"):
        run("--samples", files[0], "--predictions", files[1])
