import json
import re

import pytest
from roborefer_spatial.importing.answer_files import read_answer_file


def lines(*rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


LMMS = {"doc_id": 0, "filtered_resps": ["(0.1, 0.2)"], "target": "t", "doc_hash": "h"}


@pytest.mark.parametrize(
    ("name", "text", "by", "texts"),
    [
        ("a.jsonl", lines({"id": "s1", "text": "A"}, {"id": 2, "text": "B"}), "id", {"s1": "A", "2": "B"}),
        ("a.json", json.dumps([{"id": "s1", "text": "A"}]), "id", {"s1": "A"}),
        ("a.json", json.dumps({"results": [{"id": "s1", "text": "A"}]}), "id", {"s1": "A"}),
        ("a.jsonl", lines({"id": "s1", "text": None, "error": "gone"}), "id", {"s1": None}),
        ("a.jsonl", lines({"question_id": 1, "text": "A", "prompt": "p"}), "id", {"1": "A"}),
        (
            "a.jsonl",
            lines(LMMS, LMMS | {"doc_id": 1, "filtered_resps": "B"}),
            "position",
            {"0": "(0.1, 0.2)", "1": "B"},
        ),
        ("a.tsv", "index\tquestion\tprediction\n5\tq\tA\n", "id", {"5": "A"}),
        ("a.csv", 'id,text\ns1,"(1, 2)"\n', "id", {"s1": "(1, 2)"}),
    ],
)
def test_known_layouts(tmp_path, name, text, by, texts):
    (tmp_path / name).write_text(text)
    found = read_answer_file(tmp_path / name)
    assert (found.by, found.texts) == (by, texts)


def test_fields_of_other_layouts_are_named(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("row,model_output\n0,A\n")
    found = read_answer_file(path, id_key="row", text_key="model_output", by="position")
    assert (found.by, found.texts) == ("position", {"0": "A"})
    message = "a.csv, row 2: expected an id and an answer, got the fields ['model_output', 'row']. Known layouts: this"
    with pytest.raises(ValueError, match=re.escape(message)):
        read_answer_file(path)
    with pytest.raises(ValueError, match="expected line and an answer"):
        read_answer_file(path, id_key="line")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (lines({"id": "a", "text": "A"}, {"id": "a", "text": "B"}), "line 2: id 'a' occurs twice"),
        (lines({"id": "a", "text": "A"}, {"id": "b"}), "line 2: expected 'id' and 'text', got ['id']"),
        (lines({"id": None, "text": "A"}), "line 1: 'id' is None, expected text or an integer"),
        (lines({"id": "a", "text": ["A", "B"]}), "line 1: 'text' is ['A', 'B'], expected one text"),
        (lines({"id": "a", "text": None}), "line 1: 'text' is null and there is no 'error'"),
        ("{", "line 1: not valid JSON"),
        ("3", "line 1: expected an object with an id and an answer, got int"),
    ],
)
def test_bad_files(tmp_path, text, message):
    (tmp_path / "a.jsonl").write_text(text)
    with pytest.raises(ValueError, match=re.escape(message)):
        read_answer_file(tmp_path / "a.jsonl")
    with pytest.raises(ValueError, match="gone.jsonl: no such file"):
        read_answer_file(tmp_path / "gone.jsonl")
