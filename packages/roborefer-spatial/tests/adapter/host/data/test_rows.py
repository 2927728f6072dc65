import json

import pytest
from roborefer_spatial.host.data.rows import read_rows

GOOD = {"image": "a.png", "conversations": [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}]}


def written(tmp_path, content, name="rows.json"):
    path = tmp_path / name
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def test_json_and_jsonl_give_the_same_rows(tmp_path):
    rows = [GOOD, {**GOOD, "image": ["a.png", "b.png"]}]
    lines = "\n\n".join(json.dumps(row) for row in rows) + "\n"
    assert read_rows(written(tmp_path, rows)) == read_rows(written(tmp_path, lines, "rows.jsonl"))


def test_a_single_image_becomes_a_list(tmp_path):
    assert read_rows(written(tmp_path, [GOOD]))[0]["image"] == ["a.png"]


def test_a_line_separator_inside_a_string_does_not_end_a_line(tmp_path):
    row = {**GOOD, "note": "a\u2028b"}
    path = written(tmp_path, json.dumps(row, ensure_ascii=False), "rows.jsonl")
    assert read_rows(path)[0]["note"] == "a\u2028b"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "no rows"),
        ("", "no rows"),
        ("[{]", "rows.json: not valid JSON"),
        ('{"a": 1}\n{', "line 1, conversations: must be a list of human/gpt turns"),
        ("9" * 5000, r"line 1: not valid JSON"),
        ([1], "row 0: a row must be an object, got int"),
        ([{**GOOD, "conversations": GOOD["conversations"][:1]}], "row 0, conversations: must be a list"),
        (
            [{**GOOD, "conversations": GOOD["conversations"][::-1]}],
            'conversations\\[0\\]: must be {"from": "human"',
        ),
        (
            [{**GOOD, "conversations": [GOOD["conversations"][0], {"from": "gpt", "value": " "}]}],
            "the answer is empty",
        ),
        ([{**GOOD, "image": []}], "row 0, image: must be a path or a list of paths"),
        ([{**GOOD, "image": [1]}], "row 0, image: must be a path"),
        ([{**GOOD, "depth": ["a.png", "b.png"]}], "row 0, depth: 2 depth file\\(s\\) for 1 image"),
    ],
)
def test_bad_files_are_named_with_row_and_key(tmp_path, content, message):
    with pytest.raises(ValueError, match=message):
        read_rows(written(tmp_path, content))


def test_bytes_that_are_no_text_are_named(tmp_path):
    (tmp_path / "rows.json").write_bytes(b"[\xff]")
    with pytest.raises(ValueError, match=r"rows.json: not a training file, it is not UTF-8 text"):
        read_rows(tmp_path / "rows.json")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"none.json: no such training file"):
        read_rows(tmp_path / "none.json")


def test_side_by_side_rows_of_the_research_builder_are_refused(tmp_path):
    turns = [{"from": "human", "value": "Where?"}, {"from": "gpt", "value": "[(0.396, 0.417)]"}]
    row = {"id": "T1_CONCAT_s1", "image": "w.jpg", "query_original": "b.png", "conversations": turns}
    path = tmp_path / "old.json"
    path.write_text(json.dumps([row]))
    with pytest.raises(ValueError, match=r"old\.json, row 0: a side-by-side row of the research builder"):
        read_rows(path)
    path.write_text(json.dumps([row | {"coord_frame": "concat"}, {"id": "concat of mine", "conversations": turns}]))
    assert len(read_rows(path)) == 2
