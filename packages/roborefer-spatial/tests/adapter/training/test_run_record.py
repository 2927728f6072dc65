import json
import logging

import pytest
from roborefer_spatial.training import run_record, train


@pytest.fixture
def words(checkout, make, tmp_path, monkeypatch):
    monkeypatch.setenv("ROBOREFER_ROOT", str(checkout.root))
    model = make.model_folder(tmp_path / "m", enable_depth=False, use_depth_tower=False)

    def line(data, *extra):
        source = ("--curriculum", data) if data.suffix == ".yaml" else ("--data", data)
        pairs = ("--model_name_or_path", model, *source, "--output_dir", tmp_path / "out", "--gpus", 1, "--cpu")
        return [*map(str, pairs), "--dtype", "fp32", "--gradient_accumulation_steps", "1", *map(str, extra)]

    return line


def test_another_file_or_another_content_is_refused_a_moved_one_is_not(words, make, tmp_path, caplog):
    data = make.rows(tmp_path / "data", list("ABCD"), name="t1.jsonl")
    assert train.main(words(data, "--max_steps", 2)) == 0
    record = json.loads((tmp_path / "out" / run_record.NAME).read_text())
    assert [item["file"] for item in record["data"]] == [str(data)]

    other = make.rows(tmp_path / "data", list("EFGH"), name="t2.jsonl")
    assert train.main(words(other, "--max_steps", 4)) == 2
    assert f"out was trained on {data} (sha256 " in caplog.text and f"now it is {other} (sha256" in caplog.text
    assert "Train on other data into another --output_dir" in caplog.text
    assert train.main(words(other, "--max_steps", 2)) == 2  # a finished folder is not the other data's either

    copy = data.with_name("copy.jsonl")
    copy.write_bytes(data.read_bytes())
    with caplog.at_level(logging.WARNING):
        assert train.main(words(copy, "--max_steps", 2, "--learning_rate", 0.5)) == 0
    assert "learning_rate was 2e-05, is 0.5" in caplog.text and "nothing to train" in caplog.text


def test_stages_count_by_their_files_and_steps(words, make, tmp_path, caplog):
    for name in ("easy", "hard"):
        make.rows(tmp_path, list("AB"), name=f"{name}.json")
    stages = [
        {"name": "one", "data": "easy.json", "max_steps": 1},
        {"name": "two", "data": "hard.json", "max_steps": 2},
    ]
    plan = tmp_path / "c.yaml"
    plan.write_text(json.dumps({"stages": stages}))
    assert train.main(words(plan)) == 0
    stages[0]["data"] = "hard.json"
    plan.write_text(json.dumps({"stages": stages}))
    make.rows(tmp_path, list("CD"), name="hard.json")
    assert train.main(words(plan)) == 2
    assert "was trained on one (" in caplog.text and "to step 1), two (" in caplog.text


def test_a_folder_of_an_earlier_version_is_gone_on_with_and_that_is_said(words, make, tmp_path, caplog):
    data = make.rows(tmp_path / "data", list("ABCD"), name="t1.jsonl")
    make.checkpoint(tmp_path / "out", 1)
    with caplog.at_level(logging.WARNING):
        assert train.main(words(data, "--max_steps", 2, "--dry_run")) == 0
    assert "out has no x3_run.json: nothing says which data" in caplog.text
    (tmp_path / "out" / run_record.NAME).write_text("[]")
    assert train.main(words(data, "--max_steps", 2)) == 2
    assert "x3_run.json: not a record of a training run" in caplog.text
