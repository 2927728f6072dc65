import argparse
import base64
import io
import json
import re

import numpy as np
import pytest
from PIL import Image
from roborefer_spatial import torchvision_cpu
from roborefer_spatial.importing import benchmarks
from roborefer_spatial.scoring import benchmark as command

WIDTH, HEIGHT = 64, 48
RNG = np.random.default_rng(3)
MASK = np.zeros((HEIGHT, WIDTH), np.uint8)
MASK[10:30, 20:44] = 255
TEXTS = [
    "[(0.5, 0.4)]",
    "[(0.1, 0.1), (0.5, 0.4)]",
    "(0.99, 0.99)",
    "nothing",
    "[(0.6875, 0.2)]",
    "[(1.2, 0.5)]",
    "(0.3125, 0.6249)",
]


def png(array):
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, "PNG")
    return stream.getvalue()


def their_points(text):
    """How RoboPoint's, RefSpatial-Bench's and lmms-eval's scripts find points in fractions, written down anew."""
    found = re.findall(r"\(([-+]?\d+\.?\d*(?:,\s*[-+]?\d+\.?\d*)*?)\)", text)
    pairs = [[float(number) for number in one.split(",")] for one in found]
    return [(int(x * WIDTH), int(y * HEIGHT)) for x, y in pairs]


def their_accuracy(text):
    points = their_points(text)
    inside = [0 <= x < WIDTH and 0 <= y < HEIGHT and MASK[y, x] > 0 for x, y in points]
    return sum(inside) / len(points) if points else 0.0


def refspatial(folder):
    (folder / "Location/mask").mkdir(parents=True)
    (folder / "Location/mask/0.png").write_bytes(png(MASK))
    rows = [{"id": index, "prompt": "Where?", "suffix": "Say it.", "rgb_path": "image/0.png", "mask_path": "mask/0.png"}
            for index in range(len(TEXTS))]  # fmt: skip
    (folder / "Location/question.json").write_text(json.dumps(rows))
    return folder / "Location"


def where2place(folder):
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    (folder / "masks/00.png").write_bytes(png(MASK))
    rows = [
        {"question_id": index, "image": "00.png", "text": "Where?", "category": "spatial"}
        for index in range(len(TEXTS))
    ]
    (folder / "point_questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_where2place_masks_by_the_questions_place(tmp_path):
    # RoboPoint's summarize_vqa.py opens masks/{index:02d}.jpg for the question of that index
    folder = tmp_path / "w"
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    rows = [{"question_id": index, "image": f"IMG_{7 - index}.jpg", "text": "Where?"} for index in range(2)]
    (folder / "point_questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for index, value in enumerate((0, 255)):
        Image.new("L", (8, 6), value).save(folder / f"masks/{index:02d}.jpg")
    assert [question.mask.mean() for question in benchmarks.read(folder)] == [0, 1]


def crosspoint(folder):
    folder.mkdir()
    mask = base64.b64encode(png(np.repeat(MASK[..., None], 3, 2))).decode()
    rows = [{"idx": index, "type": "Correspondence-Pointing", "level": "part", "images": ["a.png", "b.png"],
             "question": "?", "answer": mask} for index in range(len(TEXTS))]  # fmt: skip
    rows.append(
        {"idx": 100, "type": "Correspondence-Judgement", "images": ["a.png"], "question": "A.Yes B.No", "answer": "(B)"}
    )
    (folder / "CrossPoint-Bench.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.mark.parametrize("make", [refspatial, where2place])
def test_scores_equal_their_own_scripts(tmp_path, make):
    questions = benchmarks.read(make(tmp_path / "bench"))
    assert len(questions) == len(TEXTS)
    mine = [benchmarks.one(question, text, "normalized", "xy") for question, text in zip(questions, TEXTS)]
    assert mine == [their_accuracy(text) for text in TEXTS]
    figures = benchmarks.score(questions, dict(zip((q.id for q in questions), TEXTS)))
    assert figures["all"]["accuracy"] == pytest.approx(np.mean(mine))


def test_lmms_evals_own_functions(tmp_path):
    torchvision_cpu.make_importable()
    name = "lmms_eval.tasks.where2place.utils"
    utils = pytest.importorskip(name, reason="lmms-eval is not installed", exc_type=ImportError)
    for text, question in zip(TEXTS, benchmarks.read(where2place(tmp_path / "w"))):
        theirs = utils._where2place_acc(MASK // 255, utils._text2pts(text, WIDTH, HEIGHT))
        assert benchmarks.one(question, text, "normalized", "xy") == pytest.approx(theirs)


def test_crosspoint_counts_the_first_point_and_letters(tmp_path):
    questions = benchmarks.read(crosspoint(tmp_path / "c"))
    texts = {question.id: text for question, text in zip(questions, TEXTS)}
    first = [bool(p) and 0 <= p[0][0] < WIDTH and 0 <= p[0][1] < HEIGHT and MASK[p[0][1], p[0][0]] > 128
             for p in map(their_points, TEXTS)]  # fmt: skip
    figures = benchmarks.score(questions, texts | {"100": "The answer is (B)."})
    assert figures["Correspondence-Pointing"]["accuracy"] == pytest.approx(np.mean(first))
    assert figures["Correspondence-Judgement"] == {"accuracy": 1.0, "count": 1}
    assert figures["all"]["count"] == len(TEXTS) + 1


@pytest.mark.parametrize(
    ("text", "letter"),
    [("B", "B"), (" (c). ", "C"), ("The correct answer is D", "D"), ("A. Yes", "A"), ("A or B", None), ("maybe", None)],
)
def test_letters(text, letter):
    assert benchmarks.letter_of(text) == letter


def test_the_command(tmp_path, capsys):
    folder = refspatial(tmp_path / "r")
    answers = tmp_path / "Location.jsonl"
    answers.write_text("".join(json.dumps({"question_id": i, "text": t}) + "\n" for i, t in enumerate(TEXTS[:-1])))
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    out = tmp_path / "figures.json"
    assert command.run(parser.parse_args(["--folder", str(folder), "--answers", str(answers), "--out", str(out)])) == 1
    assert "1 of 7 questions have no answer and count as misses" in capsys.readouterr().out
    assert json.loads(out.read_text())["missing"] == 1


def test_what_is_no_benchmark(tmp_path):
    with pytest.raises(ValueError, match="expected CrossPoint-Bench.jsonl, point_questions.jsonl"):
        benchmarks.read(tmp_path)
    folder = where2place(tmp_path / "w")
    (folder / "masks/00.png").unlink()
    with pytest.raises(ValueError, match="line 1: no mask masks/00.png or, by its place, masks/00.jpg"):
        benchmarks.read(folder)
    (tmp_path / "c").mkdir()
    (tmp_path / "c/CrossPoint-Bench.jsonl").write_text('{"type": "Correspondence-Pointing", "images": []}\n')
    with pytest.raises(ValueError, match="line 1: has no field 'answer'"):
        benchmarks.read(tmp_path / "c")
