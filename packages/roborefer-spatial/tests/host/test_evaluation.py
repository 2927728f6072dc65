"""The exported benchmark through the host's own evaluation script gives our score."""

import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest
from roborefer_spatial.export.formats import export
from roborefer_spatial.predictions import Prediction
from roborefer_spatial.scoring.score import ScoreOptions, score


@pytest.fixture
def evaluated(make_sample, tmp_path):
    """Return a function from answers to (the host's accuracy, our Hit@Mask)."""
    generator = np.random.default_rng(0)
    samples = []
    for _ in range(40):
        mask = np.zeros((48, 64), bool)
        col, row = generator.integers(0, 44), generator.integers(0, 28)
        mask[row : row + 20, col : col + 20] = True
        pixel = (int(col) + 10, int(row) + 10)
        samples.append(make_sample(pixel, mask=mask, left_wh=(70, 50), task="t1_concat", images=True))
    export("refspatial", {"t1": samples}, tmp_path / "RefSpatial-Bench")
    questions = json.loads((tmp_path / "RefSpatial-Bench/t1/question.json").read_text())

    def run(texts):
        outputs = tmp_path / "outputs" / "RoboRefer"
        outputs.mkdir(parents=True, exist_ok=True)
        rows = [{**q, "question_id": q["id"], "text": text} for q, text in zip(questions, texts)]
        (outputs / "t1.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        script = os.path.join(os.environ["ROBOREFER_ROOT"], "Evaluation", "summarize_acc.py")  # noqa: PTH118
        command = [sys.executable, script, "--model_name", "RoboRefer", "--task_name", "t1"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
        theirs = re.search(r"Accuracy: ([\d.]+), Evaluated: 40, Total: 40", done.stdout)
        scores = score(samples, [Prediction(s.id, t) for s, t in zip(samples, texts)], ScoreOptions(units="roborefer"))
        return float(theirs[1]), float(scores.hit.mean())

    return run, samples


def test_the_truth_scores_one(evaluated):
    run, samples = evaluated
    assert run([sample.answer for sample in samples]) == (1.0, 1.0)


def test_answers_of_every_kind_score_the_same(evaluated):
    run, samples = evaluated
    generator = np.random.default_rng(1)
    texts = []
    for index, sample in enumerate(samples):
        points = np.array(sample.answer_point) + generator.normal(0, 0.1, (1 + index % 3, 2))
        points = np.abs(points)
        if index % 4 == 0:
            points = np.floor(points * np.array(sample.answer_size))
            texts.append("[" + ", ".join(f"({int(x)}, {int(y)})" for x, y in points) + "]")
        else:
            texts.append("[" + ", ".join(f"({x:.3f}, {y:.3f})" for x, y in points) + "]")
    texts[0], texts[1] = "no idea", "[(1.0, 0.5), (1.5, 0.2)]"
    theirs, ours = run(texts)
    assert 0.05 < ours < 0.95
    assert theirs == pytest.approx(ours, abs=1e-4)
