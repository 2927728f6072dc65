import json
import re

import pytest
from roborefer_spatial.predictions import Prediction, read


def test_rows_survive_the_file(tmp_path):
    rows = [
        Prediction("a", "[(0.1, 0.2)]\n"),
        Prediction("b", None, "OSError: gone"),
        Prediction("ü", "不可见"),
    ]
    path = tmp_path / "answers.jsonl"
    path.write_text("".join(row.to_json() + "\n" for row in rows), encoding="utf-8")
    assert read(path) == rows


def test_other_programs_files(tmp_path):
    bench = tmp_path / "Location.jsonl"
    bench.write_text('{"question_id": 7, "text": "(0.1, 0.2)", "prompt": "x"}\n\n')
    assert read(bench, id_key="question_id") == [Prediction("7", "(0.1, 0.2)")]
    notes = tmp_path / "t1_val_multi.json"
    notes.write_text(json.dumps({"metrics": {}, "results": [{"id": "a", "pred_text": "NOT_VISIBLE"}]}))
    assert read(notes, text_key="pred_text") == [Prediction("a", "NOT_VISIBLE")]
    plain = tmp_path / "list.json"
    plain.write_text('[{"id": "a", "text": "x"}]')
    assert read(plain) == [Prediction("a", "x")]


def test_a_file_under_way(tmp_path):
    path = tmp_path / "answers.jsonl.part-00000"
    path.write_text('{"id": "a", "text": null, "error": "x"}\n{"id": "a", "text": "new"}\n{"id": "b", "te')
    assert read(path, unfinished=True) == [Prediction("a", "new")]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", '{"id": "a", "text": "x"}\n{"id"', "a.jsonl, line 2: not valid JSON"),
        ("a.jsonl", '{"id": "a"}\n', "a.jsonl, line 1: expected an object with 'id' and 'text', got ['id']"),
        ("a.jsonl", "[1]\n", "got list; name the fields with --id-key and --text-key"),
        ("a.jsonl", '{"id": 1.5, "text": "x"}\n', "'id' is 1.5, expected text or an integer"),
        ("a.jsonl", '{"id": true, "text": "x"}\n', "'id' is True, expected text or an integer"),
        ("a.jsonl", '{"id": "a", "text": 3}\n', "'text' and 'error' are text, got 3 and None"),
        ("a.jsonl", '{"id": "a", "text": null}\n', "'text' is null and there is no 'error' that says why"),
        ("a.jsonl", '{"id": "a", "text": "x"}\n' * 2, "id 'a' occurs twice; a sample has one answer"),
        ("a.json", '{"answers": []}', "expected a list of answers, or an object with one under 'results'"),
        ("a.json", "[" * 100_000, "not valid JSON"),
    ],
)
def test_errors(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(ValueError, match=re.escape(message)):
        read(path)


def test_no_file(tmp_path):
    with pytest.raises(ValueError, match=r"answers\.jsonl: no such file; make it with `roborefer-spatial predict`"):
        read(tmp_path / "answers.jsonl")


def test_what_is_known_of_an_answer_comes_back(tmp_path):
    rows = [Prediction("a", "x", None, "length", ((64, 48), (28, 28))), Prediction("b", "y", seen=((1, 1),))]
    path = tmp_path / "answers.jsonl"
    path.write_text("".join(row.to_json() + "\n" for row in rows))
    assert read(path) == rows


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ({"seen": [[0, 1]]}, "'seen' is a list of [width, height] in pixels, got [[0, 1]]"),
        ({"seen": 3}, "'seen' is a list of [width, height] in pixels, got 3"),
        ({"finish": 3}, "'finish' is text or missing, got 3"),
    ],
)
def test_bad_optional_fields(tmp_path, field, message):
    path = tmp_path / "answers.jsonl"
    path.write_text(json.dumps({"id": "a", "text": "x"} | field))
    with pytest.raises(ValueError, match=re.escape(message)):
        read(path)


def test_what_is_known_of_an_answer_with_an_integer_id_comes_back(tmp_path):
    path = tmp_path / "answers.jsonl"
    path.write_text('{"id": 7, "text": "x", "finish": "length", "seen": [[64, 1], [1, 28]]}\n')
    assert read(path) == [Prediction("7", "x", None, "length", ((64, 1), (1, 28)))]


@pytest.mark.parametrize("seen", [[[64]], [[64, 48, 3]], [[64, 48], [1, 0]], [[64, 48.0]], [64, 48], ["ab"]])
def test_sizes_are_pairs_of_sides(tmp_path, seen):
    path = tmp_path / "answers.jsonl"
    path.write_text(json.dumps({"id": 7, "text": "x", "seen": seen}))
    with pytest.raises(
        ValueError, match=re.escape(f"line 1: 'seen' is a list of [width, height] in pixels, got {seen}")
    ):
        read(path)


@pytest.mark.parametrize(("id_key", "text_key"), [("question_id", "text"), ("id", "translation"), ("a", "b")])
def test_named_fields_win_over_the_usual_ones(tmp_path, id_key, text_key):
    path = tmp_path / "answers.jsonl"
    path.write_text(json.dumps({"id": "i", "text": "t"} | {id_key: "mine", text_key: "said"}))
    assert read(path, id_key=id_key, text_key=text_key) == [Prediction("mine", "said")]


def test_other_scripts_stay_readable_in_the_file():
    assert Prediction("ü", "不可见").to_json() == '{"id": "ü", "text": "不可见"}'
