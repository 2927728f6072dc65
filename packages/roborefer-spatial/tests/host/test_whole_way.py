"""From scenes to a score with RoboRefer itself: synthetic, build, check, train, predict, score."""

import json


def test_scenes_to_score(published, command, train, tmp_path):
    tree, tasks, answers = tmp_path / "x3", tmp_path / "tasks", tmp_path / "answers.jsonl"
    command(published, "synthetic", "--out", tree, "--scenes", 1, "--objects", 2, "--views", 3, "--size", 160, 120)
    command(published, "build", "--data_root", tree, "--out_dir", tasks, "--relative_paths")
    training, held_out = tasks / "t1_train_multi.jsonl", tasks / "t1_val_multi.json"
    printed = command(published, "check", "--data", training, "--batch_size", 2)
    assert printed.splitlines()[-1] == "OK: one-batch dataloader check passed"

    train(published, tmp_path / "out", "--max_steps", 3, source=("--data", training), batch=1)
    words = ("--samples", held_out, "--out", answers, "--backend", "host", "--model", tmp_path / "out")
    command(published, "predict", *words, "--device", "cpu", "--max_new_tokens", 8, "--batch_size", 2)
    rows = [json.loads(line) for line in answers.read_text().splitlines()]
    samples = json.loads(held_out.read_text())
    assert sorted(row["id"] for row in rows) == sorted(sample["id"] for sample in samples)
    assert "answered before, 0 now" in command(
        published, "predict", *words, "--device", "cpu", "--max_new_tokens", 8, "--batch_size", 2
    )

    metrics = tmp_path / "metrics.json"
    command(
        published,
        "score",
        "--samples",
        held_out,
        "--predictions",
        answers,
        "--out",
        metrics,
        "--bootstrap",
        20,
    )
    assert json.loads(metrics.read_text())["metrics"]["total"] == len(samples)
