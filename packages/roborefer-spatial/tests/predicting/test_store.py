import re
from dataclasses import dataclass
from pathlib import Path

import pytest
from roborefer_spatial.predicting.store import Store, append_rows, run_identity
from roborefer_spatial.predictions import Prediction, read

ONE, OTHER = (
    {"backend": "file", "options": {"answers": "a"}},
    {"backend": "file", "options": {"answers": "b"}},
)


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "answers.jsonl")


def write(store, rank, *rows):
    with append_rows(store.part(rank)) as stream:
        stream.writelines(row.to_json() + "\n" for row in rows)


def test_parts_become_one_file_in_the_samples_order(store):
    store.claim(ONE, restart=False)
    write(store, 0, Prediction("a", "1"), Prediction("c", "3"))
    write(store, 1, Prediction("b", "2"), Prediction("elsewhere", "4"))
    store.merge(["c", "b", "a"])
    assert [row.id for row in read(store.out)] == ["c", "b", "a", "elsewhere"]
    assert sorted(path.name for path in store.out.parent.iterdir()) == [
        "answers.jsonl",
        "answers.jsonl.run.json",
    ]


def test_an_answer_stands_before_an_error_and_later_rows_before_earlier(store):
    store.claim(ONE, restart=False)
    write(store, 0, Prediction("a", None, "old"), Prediction("b", "kept"), Prediction("c", None, "first"))
    store.merge(["a", "b", "c"])
    write(store, 0, Prediction("a", "new"), Prediction("c", None, "second"))
    write(store, 1, Prediction("b", None, "late error"))
    assert store.rows() == {
        "a": Prediction("a", "new"),
        "b": Prediction("b", "kept"),
        "c": Prediction("c", None, "second"),
    }


def test_appending_goes_on_after_a_torn_row(store):
    write(store, 0, Prediction("a", "1"))
    with store.part(0).open("a") as stream:
        stream.write('{"id": "b", "te')
    write(store, 0, Prediction("b", "2"))
    assert [row.id for row in read(store.part(0), unfinished=True)] == ["a", "b"]


def test_another_runs_answers_are_not_touched(store):
    store.claim(ONE, restart=False)
    store.claim(ONE, restart=False)
    write(store, 0, Prediction("a", "1"))
    message = "options was {'answers': 'a'}, is {'answers': 'b'}. Write to another file, or pass --restart"
    with pytest.raises(ValueError, match=re.escape(message)):
        store.claim(OTHER, restart=False)
    assert store.rows() == {"a": Prediction("a", "1")}
    store.claim(OTHER, restart=True)
    assert store.rows() == {}


def test_a_file_of_unknown_origin_is_not_overwritten(store):
    store.out.write_text("precious")
    with pytest.raises(ValueError, match=r"exists without answers\.jsonl\.run\.json, so nothing says what made it"):
        store.claim(ONE, restart=False)
    assert store.out.read_text() == "precious"


@dataclass
class Options:
    model: str
    answers: Path


def test_identity_follows_samples_and_checkpoint(tmp_path):
    samples, model = tmp_path / "samples.json", tmp_path / "model"
    samples.write_text("[]")
    model.mkdir()
    (model / "weights").write_text("1")
    first = run_identity(samples, "file", Options(str(model), tmp_path))
    assert first == run_identity(samples, "file", Options(str(model), tmp_path))
    assert first["options"]["answers"] == str(tmp_path)
    (model / "weights").write_text("22")
    trained_on = run_identity(samples, "file", Options(str(model), tmp_path))
    assert {key for key in first if first[key] != trained_on[key]} == {"checkpoint"}
    samples.write_text("[ ]")
    changed = run_identity(samples, "file", Options(str(model), tmp_path))
    assert {key for key in first if trained_on[key] != changed[key]} == {"samples_sha256"}
    assert "checkpoint" not in run_identity(samples, "file", Options("org/model", tmp_path))


@pytest.mark.parametrize("text", ["{", "[]", "[" * 100_000])
def test_a_broken_record_is_named(store, text):
    store.record.write_text(text)
    with pytest.raises(ValueError, match=r"answers.jsonl.run.json: (not valid JSON|expected a JSON object)"):
        store.claim(ONE, restart=False)
