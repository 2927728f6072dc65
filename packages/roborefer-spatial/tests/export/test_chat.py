import base64
import csv
import json
import re
import sys
from pathlib import Path

import msgspec
import pytest
from roborefer_spatial.export.formats import export
from roborefer_spatial.predicting import profiles
from roborefer_spatial.sample import Sample, turns

csv.field_size_limit(sys.maxsize)


def written(folder):
    """Text of everything that was written but pictures."""
    return [path.read_text() for path in folder.rglob("*") if path.suffix in (".json", ".jsonl")]


def check_rows(folder, rows, samples):
    assert [row["id"] for row in rows] == [sample.id for sample in samples]
    for row, sample in zip(rows, samples):
        assert [(folder / path).read_bytes() for path in row["images"]] == [Path(p).read_bytes() for p in sample.image]
        back = Sample.from_row(json.loads(row["sample"]), folder=folder)
        assert back.answer == sample.answer
        assert Path(back.mask_path).read_bytes() == Path(sample.mask_path).read_bytes()


def test_llamafactory(samples, tmp_path):
    out = tmp_path / "lf"
    export("llamafactory", {"a": samples, "b": samples[:1]}, out)
    info = json.loads((out / "dataset_info.json").read_text())
    assert list(info) == ["a", "b"]
    assert info["a"]["columns"] == {"messages": "conversations", "images": "images"}
    rows = json.loads((out / info["a"]["file_name"]).read_text())
    check_rows(out, rows, samples)
    for row, sample in zip(rows, samples):  # its rule: as many <image> as images
        human, gpt = row["conversations"]
        assert (human["from"], gpt["from"], gpt["value"]) == ("human", "gpt", sample.answer)
        assert human["value"] == "<image>" * len(row["images"]) + sample.prompt
    assert not any(str(tmp_path) in text for text in written(out))


def test_swift(samples, tmp_path):
    out = tmp_path / "swift"
    export("ms-swift", {"a": samples}, out)
    rows = [json.loads(line) for line in (out / "a.jsonl").read_text().splitlines()]
    check_rows(out, rows, samples)
    for row, sample in zip(rows, samples):
        assert [message["role"] for message in row["messages"]] == ["user", "assistant"]
        assert row["messages"][0]["content"].count("<image>") == len(row["images"])
        assert row["messages"][1]["content"] == sample.answer
    assert not any(str(tmp_path) in text for text in written(out))


def test_trl_by_the_real_library(samples, tmp_path):
    datasets = pytest.importorskip("datasets")
    out = tmp_path / "trl"
    export("trl", {"a": samples}, out)
    data = datasets.load_dataset(
        "parquet", data_files=str(out / "a.parquet"), split="train", cache_dir=str(tmp_path / "c")
    )
    assert data["id"] == [sample.id for sample in samples]
    first = data[0]
    assert [picture.size for picture in first["images"]] == [(64, 48), (64, 48)]
    kinds = [part["type"] for part in first["prompt"][0]["content"]]
    assert kinds == ["image", "image", "text"]
    assert first["completion"][0]["content"][0]["text"] == samples[0].answer
    assert Sample.from_row(json.loads(first["sample"]), folder=out).visible
    assert str(tmp_path).encode() not in (out / "a.parquet").read_bytes()


def test_vlmevalkit(samples, tmp_path):
    out = tmp_path / "vlm"
    export("vlmevalkit", {"a": samples}, out)
    with (out / "a.tsv").open(newline="") as stream:
        rows = list(csv.DictReader(stream, delimiter="\t"))
    assert [row["index"] for row in rows] == ["0", "1", "2"]
    for row, sample in zip(rows, samples):
        # VLMEvalKit takes a text in brackets for a list of pictures
        several = re.findall(r"'([^']+)'", row["image"]) if row["image"].startswith("[") else [row["image"]]
        assert [base64.b64decode(text) for text in several] == [Path(path).read_bytes() for path in sample.image]
        names = re.findall(r"'([^']+)'", row["image_path"]) or [row["image_path"]]
        assert names == [f"{row['index']}_{place}.png" for place in range(len(several))]
        assert (row["question"], row["answer"], row["id"]) == (sample.prompt, sample.answer, sample.id)


def test_a_picture_that_is_gone(samples, tmp_path):
    Path(samples[0].image[0]).unlink()
    for name in ("llamafactory", "ms-swift", "trl", "vlmevalkit"):
        with pytest.raises(ValueError, match="cannot be (copied|read): No such file"):
            export(name, {"a": samples}, tmp_path / "out")
        assert not (tmp_path / "out").exists()


def test_a_profile_that_asks_for_other_answers(samples, tmp_path):
    qwen = profiles.load("qwen2.5-vl")
    for name in ("llamafactory", "ms-swift", "trl"):
        with pytest.raises(ValueError, match="--profile qwen2.5-vl: this format trains on the answers as built"):
            export(name, {"a": samples}, tmp_path / "out", profile=qwen)
    asked = "Where is it? Answer with one point as [(x, y)]."
    sample = msgspec.structs.replace(samples[0], turns=turns(asked, samples[0].answer))
    export("vlmevalkit", {"a": [sample]}, tmp_path / "out", profile=qwen)
    with (tmp_path / "out/a.tsv").open(newline="") as stream:
        (row,) = csv.DictReader(stream, delimiter="\t")
    assert row["question"] == qwen.prompt(sample)
