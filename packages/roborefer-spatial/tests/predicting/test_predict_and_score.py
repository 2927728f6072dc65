import json
import re

import pytest
from roborefer_spatial.predicting import backends, predict_and_score


@pytest.fixture
def tasks(make_sample, tmp_path):
    multi, concat = [make_sample((3, 3)), make_sample()], [make_sample((3, 3), task="t1_concat")]
    answers = make_sample.answers({s.id: s.answer for s in multi + concat}, "theirs.jsonl")
    data = [make_sample.write(multi, "t1_val_multi.json"), make_sample.write(concat, "t1_val_concat.json")]
    outputs = [tmp_path / "eval" / path.name for path in data]
    return data, outputs, answers


def run(data, outputs, *more):
    return predict_and_score.main([str(a) for a in ("--data-json", *data, "--output-json", *outputs, *more)])


def test_metrics_and_results_under_the_notes_names_with_one_load(tasks, monkeypatch, capsys):
    data, outputs, answers = tasks
    loads, create = [], backends.create
    monkeypatch.setattr(backends, "create", lambda *a: loads.append(a) or create(*a))
    assert run(data, outputs, "--backend", "file", "--answers", answers) == 0
    assert len(loads) == 1
    document = json.loads(outputs[0].read_text())
    notes = "total gt_not_visible visible_gt not_visible_accuracy mean_l2_error std_l2_error median_l2_error"
    hits = "success_002 success_005 success_010 hit_at_mask hit_at_mask_count hit_at_mask_total"
    for key in f"{notes} {hits}".split():
        assert key in document["metrics"]
    assert (document["metrics"]["hit_at_mask"], document["metrics"]["not_visible_accuracy"]) == (1, 1)
    assert [row["pred_text"] for row in document["results"]] == [row["gt_text"] for row in document["results"]]
    printed = capsys.readouterr().out
    assert "t1_val_multi: t1_multi/val" in printed
    assert "t1_val_concat: t1_concat/val" in printed
    assert run(data, outputs, "--backend", "file", "--answers", answers) == 0
    assert len(loads) == 1  # answered before: nothing to load


def test_a_failed_sample_is_an_exit_status_and_a_miss(tasks, make_sample, capsys):
    data, outputs, _ = tasks
    some = make_sample.answers({"s00000": "[(0.05, 0.07)]"}, "some.jsonl")
    assert run(data, outputs, "--backend", "file", "--answers", some) == 1
    assert json.loads(outputs[1].read_text())["metrics"]["reasons"] == {"error": 1}
    assert "1 sample(s) failed, first s00001: ValueError" in capsys.readouterr().err


def test_limit(tasks):
    data, outputs, answers = tasks
    assert run(data, outputs, "--backend", "file", "--answers", answers, "--limit", 1) == 0
    assert json.loads(outputs[0].read_text())["metrics"]["total"] == 1


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--chat-template", "llama3"], "--chat-template is 'llama3': the checkpoint's own is used, qwen2"),
        (["--image-aspect-ratio", "resize"], "--image-aspect-ratio means nothing to --backend file"),
        (["--limit", "0"], "--limit is 0: expected at least 1"),
    ],
)
def test_flags_that_cannot_act_are_refused(tasks, capsys, more, message):
    data, outputs, answers = tasks
    assert run(data, outputs, "--backend", "file", "--answers", answers, *more) == 2
    assert message in capsys.readouterr().err


def test_the_checkpoints_image_mode_is_what_counts(tasks, tmp_path, capsys):
    data, outputs, _ = tasks
    (tmp_path / "config.json").write_text('{"image_aspect_ratio": "dynamic"}')
    assert run(data, outputs, "--model-name-or-path", tmp_path, "--image-aspect-ratio", "resize") == 2
    assert re.search(r"'resize', .*config\.json says 'dynamic': a checkpoint answers", capsys.readouterr().err)


def test_files_must_pair(tasks, capsys):
    data, outputs, answers = tasks
    assert run(data, outputs[:1], "--backend", "file", "--answers", answers) == 2
    assert "--data-json names 2 file(s) and --output-json 1" in capsys.readouterr().err


def test_a_model_is_needed(tasks, capsys):
    data, outputs, _ = tasks
    assert run(data, outputs) == 2
    assert "backend host needs --model" in capsys.readouterr().err
