import json
import math
from pathlib import Path

import pytest
from roborefer_spatial.images import ConcatMap
from roborefer_spatial.sample import Sample, load_samples


@pytest.fixture
def row(make_sample):
    return make_sample((10, 20)).to_row()


def test_round_trip_of_every_task(make_sample):
    for task in ("t1_multi", "t1_concat", "t2a_multi", "t2b_multi"):
        sample = make_sample(None if task == "t2a_multi" else (3, 4), task=task)
        assert Sample.from_row(json.loads(json.dumps(sample.to_row()))) == sample


def test_properties(make_sample):
    sample = make_sample((3, 4), task="t1_concat", left_wh=(10, 60))
    assert sample.visible
    assert sample.answer_size == (74, 60)
    assert sample.concat == ConcatMap((10, 60), (64, 48))
    assert sample.prompt == "Where is object 0?"
    hidden = make_sample(None)
    assert (hidden.visible, hidden.answer, hidden.answer_size) == (False, "NOT_VISIBLE", (64, 48))


def test_one_image_is_a_string_for_the_notes_and_a_list_for_datasets(make_sample):
    sample = make_sample((3, 4), task="t1_concat")
    assert sample.to_row(image_as_list=False)["image"] == sample.image[0]
    assert sample.to_row()["image"] == sample.image
    assert Sample.from_row(sample.to_row(image_as_list=False)) == sample


def test_depth_is_kept(row):
    sample = Sample.from_row({**row, "depth": ["a.png", "b.png"]})
    assert sample.depth == ["a.png", "b.png"]
    assert sample.to_row()["depth"] == ["a.png", "b.png"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"id": ""}, "field 'id': expected a non-empty string, got ''"),
        ({"task": "t3"}, "field 'task': expected one of t1_multi, t1_concat, t2a_multi, t2b_multi, got 't3'"),
        ({"image": "one.png"}, r"field 'image': expected 2 path\(s\) for task 't1_multi'"),
        ({"image": ["a.png", 3]}, "field 'image'"),
        ({"depth": ["a.png"]}, r"field 'depth': expected 2 path\(s\)"),
        ({"query_size": [640]}, r"field 'query_size': expected \[width, height\] in pixels, got \[640\]"),
        ({"query_size": [640, 0]}, "field 'query_size'"),
        ({"query_size": [640.0, 480]}, "field 'query_size'"),
        ({"answer_point": [0.5, 1.0]}, "field 'answer_point': expected null or"),
        ({"answer_point": [0.5, math.nan]}, "field 'answer_point': expected null or"),
        ({"answer_point": ["0.5", 0.5]}, "field 'answer_point': expected null or"),
        (
            {"answer_point": None},
            "field 'answer_point': expected null exactly when the answer is NOT_VISIBLE",
        ),
        ({"coord_frame": "concat"}, "field 'coord_frame': expected one of query, got 'concat'"),
        ({"concat": {}}, "field 'concat': expected null for coord_frame 'query'"),
        ({"gt_mask": "both"}, "field 'gt_mask': expected one of raw, dilated"),
        ({"seed": -1}, "field 'seed': expected an integer, 0 <= seed"),
        ({"seed": True}, "field 'seed'"),
        ({"split": "test"}, "field 'split': expected one of train, val"),
        ({"mask_path": 3}, "field 'mask_path': expected a non-empty string, got 3"),
        ({"conversations": []}, "field 'conversations': expected one human turn and one gpt turn"),
        ({"conversations": [{"from": "gpt", "value": "x"}] * 2}, "field 'conversations'"),
        ({"conversations": "x" * 500}, r".*got 'x{116}\.\.\."),
    ],
)
def test_errors_name_the_row_and_the_field(row, change, message):
    with pytest.raises(ValueError, match=f"file.json, row 7: {message}"):
        Sample.from_row({**row, **change}, where="file.json, row 7")


def test_rows_of_the_earlier_builder_are_refused(row):
    old = {key: row[key] for key in ("id", "task", "image", "query_original", "conversations")}
    with pytest.raises(ValueError, match=r"'coord_frame' is missing; .* Files of an earlier builder lack fields"):
        Sample.from_row(old)


def test_a_concat_sample_needs_its_map(make_sample):
    row = make_sample((3, 4), task="t1_concat").to_row()
    with pytest.raises(ValueError, match="field 'concat': expected an object for coord_frame 'concat', got None"):
        Sample.from_row({**row, "concat": None})
    with pytest.raises(ValueError, match="row: field 'concat': left_size"):
        Sample.from_row({**row, "concat": {"left_size": [0, 1], "right_size": [1, 1]}})


def test_not_an_object():
    with pytest.raises(ValueError, match=r"row: expected an object .* got \[1\]"):
        Sample.from_row([1])


@pytest.mark.parametrize("name", ["samples.json", "samples.jsonl"])
def test_files_load(make_sample, name):
    samples = [make_sample((1, 1)), make_sample(None), make_sample((2, 2), task="t1_concat")]
    assert load_samples(make_sample.write(samples, name)) == samples


def test_relative_paths_start_at_the_file_or_where_one_says(make_sample, tmp_path):
    row = make_sample((1, 1)).to_row()
    row |= {"image": ["a.png", "../b.png"], "query_original": "../b.png", "mask_path": "m.png"}
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(row) + "\n\n")
    (loaded,) = load_samples(path)
    assert loaded.image == [str(tmp_path / "a.png"), str(tmp_path / "../b.png")]
    assert loaded.mask_path == str(tmp_path / "m.png")
    (loaded,) = load_samples(path, image_folder=tmp_path / "other")
    assert loaded.query_original == str(tmp_path / "other" / "../b.png")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.json", "[]", "x.json: holds no samples"),
        ("x.jsonl", "\n", "x.jsonl: holds no samples"),
        ("x.json", "{}", r"x.json: expected a JSON list of samples, got \{\}; JSONL files end in .jsonl"),
        ("x.json", "[", "x.json: not valid JSON"),
        ("x.jsonl", "{}\n{", "x.jsonl, line 1: field 'task' is missing"),
        ("x.jsonl", "{", "x.jsonl, line 1: not valid JSON"),
        ("x.jsonl", "[" * 100_000, "x.jsonl, line 1: not valid JSON: nested too deeply"),
    ],
)
def test_bad_files(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=message):
        load_samples(tmp_path / name)


def test_a_missing_file_and_bytes_that_are_no_text(tmp_path):
    with pytest.raises(ValueError, match=r"gone.json: no such file; make it with `roborefer-spatial build`"):
        load_samples(tmp_path / "gone.json")
    (tmp_path / "x.json").write_bytes(b"\xff\xfe[]")
    with pytest.raises(ValueError, match="not valid JSON"):
        load_samples(tmp_path / "x.json")


def test_an_id_twice_is_an_error(make_sample):
    sample = make_sample((1, 1))
    with pytest.raises(ValueError, match=r"samples\.json, row 1: id 's00000' occurs twice"):
        load_samples(make_sample.write([sample, sample]))


def test_what_only_pythons_decoder_reads_is_read_all_the_same(make_sample, tmp_path):
    """NaN in a field that is not ours: msgspec refuses the text, json does not."""
    row = make_sample((1, 1)).to_row()
    for name, text in (("x.jsonl", '{"theirs": NaN, %s\n'), ("x.json", '[{"theirs": NaN, %s]')):
        (tmp_path / name).write_text(text % json.dumps(row)[1:])
        assert load_samples(tmp_path / name) == [Sample.from_row(row)]


def test_half_a_surrogate_pair_is_no_text(row):
    with pytest.raises(ValueError, match="field 'split': expected text that UTF-8 can hold"):
        Sample.from_row({**row, "split": "\ud800"})


def test_a_row_that_differs_in_one_field_reads_as_the_row_by_itself(row, tmp_path):
    """Files go through one decoder and `from_row` through another: the same sample, or the same message."""
    values = ["", None, 0, 1.5, True, [], {}, [0.5, 0.5], [0.5, 1.0], [3, 4], ["a", "b"], "query", "train", 2**63]
    for key in [*row, "depth"]:
        for value in values:
            changed = {**row, key: value}
            (tmp_path / "x.jsonl").write_text(json.dumps(changed))
            found = []
            for read in (
                lambda: load_samples(tmp_path / "x.jsonl", image_folder=Path("/"))[0],
                lambda changed=changed: Sample.from_row(changed, where="x.jsonl, line 1", folder=Path("/")),
            ):
                try:
                    found.append(read())
                except ValueError as error:
                    found.append(str(error))
            assert found[0] == found[1]
