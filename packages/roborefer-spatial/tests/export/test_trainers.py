"""What the trainers' own loaders make of an export. They are no dependency: each test runs where its trainer is."""

from pathlib import Path
from types import SimpleNamespace

import pytest
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
