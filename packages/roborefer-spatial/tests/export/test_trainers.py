"""What other projects' own loaders make of an export. They are no dependency: each test runs where its project is."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import msgspec
import numpy as np
import pytest
from PIL import Image
from roborefer_spatial import torchvision_cpu
from roborefer_spatial.export.formats import export


def test_llamafactory(samples, tmp_path, monkeypatch):
    monkeypatch.setenv("DISABLE_VERSION_CHECK", "1")  # of transformers, which only its training needs
    torchvision_cpu.make_importable()
    loader = pytest.importorskip("llamafactory.data.loader", reason="LLaMA-Factory (llamafactory) is not installed")
    from llamafactory.data.parser import get_dataset_list
    from llamafactory.hparams import DataArguments

    folder = str(tmp_path / "data")
    export("llamafactory", {"a": samples}, tmp_path / "data")
    arguments = DataArguments(dataset_dir=folder, dataset="a", media_dir=folder)
    (attributes,) = get_dataset_list(["a"], folder)
    model = SimpleNamespace(cache_dir=str(tmp_path / "cache"), hf_hub_token=None, trust_remote_code=False)
    rows = loader._load_single_dataset(attributes, model, arguments, SimpleNamespace(local_process_index=0))
    assert len(rows) == len(samples)
    for row, sample in zip(rows, samples):
        assert row["_prompt"] == [{"role": "user", "content": "<image>" * len(sample.image) + sample.prompt}]
        assert row["_response"] == [{"role": "assistant", "content": sample.answer}]
        assert [Path(path).read_bytes() for path in row["_images"]] == [
            Path(path).read_bytes() for path in sample.image
        ]


def test_ms_swift(samples, tmp_path, monkeypatch):
    torchvision_cpu.make_importable()
    swift = pytest.importorskip("swift.dataset", reason="ms-swift is not installed")
    export("ms-swift", {"a": samples}, tmp_path / "data")
    monkeypatch.chdir(tmp_path / "data")  # its paths are relative to where training starts, as the summary says
    rows, _ = swift.load_dataset("a.jsonl")
    assert len(rows) == len(samples)
    for row, sample in zip(rows, samples):
        user, assistant = row["messages"]
        assert (user["role"], assistant["role"], assistant["content"]) == ("user", "assistant", sample.answer)
        assert user["content"] == "<image>" * len(sample.image) + sample.prompt
        assert [Path(image["path"]).read_bytes() for image in row["images"]] == [
            Path(path).read_bytes() for path in sample.image
        ]


def test_vlmevalkit(samples, tmp_path, monkeypatch):
    (tmp_path / "LMUData").mkdir()
    monkeypatch.setenv("LMUData", str(tmp_path / "LMUData"))
    torchvision_cpu.make_importable()
    pytest.importorskip("vlmeval.smp", reason="VLMEvalKit (ms-vlmeval) is not installed")
    from vlmeval.dataset import CustomVQADataset, build_dataset

    Image.effect_noise((40, 30), 60).convert("RGB").save(tmp_path / "photo.jpg", quality=60)
    photo = msgspec.structs.replace(samples[0], image=(str(tmp_path / "photo.jpg"), samples[0].image[1]))
    asked = [*samples, photo]
    export("vlmevalkit", {"x3_val": asked}, tmp_path / "out")
    shutil.move(tmp_path / "out/x3_val.tsv", tmp_path / "LMUData")
    data = build_dataset("x3_val")
    assert isinstance(data, CustomVQADataset) and len(data) == len(asked)
    for index, sample in enumerate(asked):
        *pictures, text = data.build_prompt(index)
        assert (text["type"], text["value"]) == ("text", sample.prompt)
        assert [picture["type"] for picture in pictures] == ["image"] * len(sample.image)
        for picture, path in zip(pictures, sample.image):
            assert np.array_equal(np.asarray(Image.open(picture["value"])), np.asarray(Image.open(path).convert("RGB")))
        row = data[index]
        assert (row["index"], row["answer"], row["category"]) == (index, sample.answer, sample.task)
