import os
import re
from dataclasses import dataclass
from pathlib import Path

import pytest
from roborefer_spatial.predicting import backends
from roborefer_spatial.predicting.store import Store, append_rows, changes, run_identity, server_name
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
    store.claim(ONE)
    write(store, 0, Prediction("a", "1"), Prediction("c", "3"))
    write(store, 1, Prediction("b", "2"), Prediction("elsewhere", "4"))
    store.merge(["c", "b", "a"])
    assert [row.id for row in read(store.out)] == ["c", "b", "a", "elsewhere"]
    assert sorted(path.name for path in store.out.parent.iterdir()) == [
        "answers.jsonl",
        "answers.jsonl.run.json",
    ]


def test_an_answer_stands_before_an_error_and_later_rows_before_earlier(store):
    store.claim(ONE)
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
    store.claim(ONE)
    store.claim(OTHER)  # the first one stands
    store.check(ONE, restart=False)
    write(store, 0, Prediction("a", "1"))
    message = "answers was 'a', is 'b'. Write to another file, or pass --restart to set the old answers aside"
    with pytest.raises(ValueError, match=re.escape(message)):
        store.check(OTHER, restart=False)
    assert store.rows() == {"a": Prediction("a", "1")}


def test_a_restart_sets_paid_answers_aside_and_deletes_nothing(store):
    for text in "12":
        store.claim(ONE)
        write(store, 0, Prediction("a", text))
        if text == "2":
            store.merge(["a"])
        store.check(OTHER, restart=True)
        assert store.rows() == {} and not store.record.exists()
    old = [Store(store.out.with_name(f"{store.out.name}.old-{number}")) for number in (1, 2)]
    assert [one.rows() for one in old] == [{"a": Prediction("a", "1")}, {"a": Prediction("a", "2")}]
    for one in old:
        one.check(ONE, restart=False)  # and a run can go on with them
    assert store.set_aside() is None


def test_what_a_run_without_any_answer_left_is_in_nobodys_way(store):
    store.claim(ONE)
    write(store, 0, Prediction("a", None, "ValueError: no server"))
    store.check(OTHER, restart=False)
    assert not store.record.exists()
    store.claim(OTHER)
    assert store.rows() == {}


def test_rows_without_a_record_are_not_claimed(store):
    write(store, 0, Prediction("a", "1"))
    with pytest.raises(ValueError, match="so nothing says what made it"):
        store.check(ONE, restart=False)
    assert store.rows() == {"a": Prediction("a", "1")}


HTTP = {"url": "http://localhost:8000/v1", "api": "openai", "model": "m"}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"concurrency": 9, "timeout_s": 3.0, "retries": 0, "api_key_env": "K"}, None),
        ({"url": "http://other:81/v1"}, None),  # the model has a name
        ({"temperature": "1"}, "temperature was None, is '1'"),
        ({"max_new_tokens": 128}, "max_new_tokens was None, is 128"),
        ({"model": "n"}, "model was 'm', is 'n'"),
    ],
)
def test_only_what_changes_answers_may_refuse(tmp_path, given, message):
    (tmp_path / "s.json").write_text("[]")
    before, now = (
        run_identity(tmp_path / "s.json", "http", backends.options("http", options)) for options in (HTTP, HTTP | given)
    )
    assert changes(before, now) == ([message] if message else [])
    assert changes(before | {"version": "0.0.1"}, now) == ([message] if message else [])


def test_a_record_of_an_earlier_version_goes_on(tmp_path):
    (tmp_path / "s.json").write_text("[]")
    now = run_identity(tmp_path / "s.json", "http", backends.options("http", HTTP))
    old_options = {
        "url": "http://LOCALHOST:8000/v1/", "api": "openai", "model": "m", "max_new_tokens": None,
        "enable_depth": None, "api_key_env": None, "timeout_s": 1.0, "retries": 1, "concurrency": 1,
    }  # fmt: skip
    old = {"version": "0.1.0", "backend": "http", "options": old_options, "samples_sha256": now["samples_sha256"]}
    assert changes(old, now) == []
    assert changes(old | {"samples_sha256": "other"}, now)[0].startswith("samples_sha256 was 'other', is ")


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("http://localhost:25547", "http://127.0.0.1:25547/", True),
        ("HTTP://Server", "http://server:80/", True),
        ("https://server/v1", "https://server:443/v1/", True),
        ("http://server:1", "http://server:2", False),
        ("http://server", "https://server", False),
    ],
)
def test_a_server_is_known_however_its_address_is_written(one, other, same):
    assert (server_name(one) == server_name(other)) is same
    before, now = ({"options": {"url": url}} for url in (one, other))
    assert (changes(before, now) == []) is same


def test_a_file_of_unknown_origin_is_not_overwritten(store):
    store.out.write_text("precious")
    with pytest.raises(ValueError, match=r"exists without answers\.jsonl\.run\.json, so nothing says what made it"):
        store.check(ONE, restart=False)
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
    # trained on, at the same size and under the same names: the time tells
    status = (model / "weights").stat()
    (model / "weights").write_text("2")
    os.utime(model / "weights", ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    trained_on = run_identity(samples, "file", Options(str(model), tmp_path))
    assert {key for key in first if first[key] != trained_on[key]} == {"checkpoint"}
    os.utime(model / "weights", ns=(status.st_atime_ns, status.st_mtime_ns))
    (model / "weights").write_text("22")
    os.utime(model / "weights", ns=(status.st_atime_ns, status.st_mtime_ns))
    assert run_identity(samples, "file", Options(str(model), tmp_path))["checkpoint"] != first["checkpoint"]
    (model / "weights").write_text("2")
    os.utime(model / "weights", ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert changes(first, trained_on)[0].startswith("checkpoint was ")
    moved = first | {"options": first["options"] | {"model": "/elsewhere"}}
    assert changes(first, moved) == []  # the folder is known by its content
    samples.write_text("[ ]")
    changed = run_identity(samples, "file", Options(str(model), tmp_path))
    assert {key for key in first if trained_on[key] != changed[key]} == {"samples_sha256"}
    assert "checkpoint" not in run_identity(samples, "file", Options("org/model", tmp_path))


@pytest.mark.parametrize("options", ["3", "[1]", '{"url": 1}'])
def test_a_record_with_other_options_than_a_runs_is_named(store, options):
    store.record.write_text(f'{{"options": {options}}}')
    with pytest.raises(ValueError, match=r"answers.jsonl.run.json: no record of a run, its options are"):
        store.check(ONE, restart=False)


@pytest.mark.parametrize("text", ["{", "[]", "[" * 100_000])
def test_a_broken_record_is_named(store, text):
    store.record.write_text(text)
    with pytest.raises(ValueError, match=r"answers.jsonl.run.json: (not valid JSON|expected a JSON object)"):
        store.check(ONE, restart=False)


def test_half_a_row_in_a_part_is_left_out_and_in_the_finished_file_is_an_error(store):
    store.claim(ONE)
    write(store, 0, Prediction("a", "1"))
    with store.part(0).open("a") as stream:
        stream.write('{"id": "b", "te')
    assert list(store.rows()) == ["a"]
    store.part(0).rename(store.out)
    with pytest.raises(ValueError, match="not valid JSON"):
        store.rows()


def test_the_finished_file_may_lack_its_last_line_break(store):
    store.claim(ONE)
    store.out.write_text('{"id": "a", "text": "1"}')
    assert store.rows() == {"a": Prediction("a", "1")}


def test_a_profile_that_changes_nothing_is_not_recorded(tmp_path):
    from roborefer_spatial.predicting import profiles

    samples = tmp_path / "s.json"
    samples.write_text("[]")
    options = backends.options("file", {"answers": tmp_path / "a.jsonl"})
    record = {
        name: run_identity(samples, "file", options, profile=profiles.load(name)).get("profile", {}).get("name")
        for name in ("as-built", "qwen3-vl")
    }
    assert record == {"as-built": None, "qwen3-vl": "qwen3-vl"}


def test_another_spelling_of_the_server_hides_no_other_change():
    before = {"options": {"url": "http://localhost:80/v1", "z": 1}}
    now = {"options": {"url": "http://127.0.0.1/v1", "z": 2}}
    assert changes(before, now) == ["z was 1, is 2"]
