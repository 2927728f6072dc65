"""The real model: loading, packing, `generate_content`, batches, and what doctor says of the host."""

import pickle

import pytest
import torch
from roborefer_spatial import doctor
from roborefer_spatial.host.repairs.table import NAMES, REPAIRS

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def model(host, checkpoint):
    from roborefer_spatial.host.model import load_model

    return load_model(checkpoint, device=CPU, dtype=torch.float32)


@pytest.fixture
def dataset(model, data):
    from llava.train.args import DataArguments
    from roborefer_spatial.host.data.dataset import LazySupervisedSpatialDataset

    arguments = DataArguments(image_aspect_ratio="resize", is_multimodal=True)
    arguments.image_processor = model.get_vision_tower().image_processor
    return LazySupervisedSpatialDataset(data.json, None, model.tokenizer, arguments)


def loss(model, samples, **more):
    from llava.data.collate import DataCollator

    batch = DataCollator(model.tokenizer)(samples)
    model.train()
    with torch.no_grad():
        value = model(**batch, **more).loss.item()
    model.eval()
    return value


def test_the_checkpoint_is_as_small_as_it_is_said_to_be(model):
    assert 250_000 < sum(parameter.numel() for parameter in model.parameters()) < 350_000
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def test_samples_of_a_batch_do_not_see_each_other_unless_packed(model, dataset):
    samples = [dataset[index] for index in range(4)]
    tokens = [int((sample["labels"] >= 0).sum()) for sample in samples]
    alone = [loss(model, [sample], packing=False) for sample in samples]
    expected = sum(count * value for count, value in zip(tokens, alone)) / sum(tokens)
    assert loss(model, samples) == pytest.approx(expected, rel=1e-5)  # the repaired default
    assert abs(loss(model, samples, packing=True) - expected) > 1e-5  # the defect, without flash-attn


def test_prediction_asks_what_training_showed(model, dataset, data, checkpoint):
    from roborefer_spatial.predicting.backends import Request, create, options

    backend = create("host", options("host", {"model": str(checkpoint), "device": "cpu"}))
    row = data.rows[0]
    images = tuple(data.folder / name for name in row["image"])
    asked = backend._prepared(Request(id="0", images=images, prompt=row["conversations"][0]["value"]))
    ids = asked.ids
    sample = dataset[0]
    assert torch.equal(ids, sample["input_ids"][: len(ids)])
    assert (sample["labels"][: len(ids)] == -100).all() and sample["labels"][len(ids)] >= 0
    assert list(asked.tensors) == ["image"] and torch.equal(asked.tensors["image"], sample["image"])
    assert asked.blocks.get("image") is None


def test_tiles_give_the_same_answer_alone_and_together(model, data, checkpoint):
    from roborefer_spatial.predicting.backends import Request, create, options

    backend = create("host", options("host", {"model": str(checkpoint), "device": "cpu", "max_new_tokens": 6}))
    backend.images.image_aspect_ratio = "dynamic"
    requests = [
        Request(id=row["id"], images=tuple(data.folder / name for name in row["image"]), prompt="Where?" * (1 + n))
        for n, row in enumerate(data.rows[:2])
    ]
    assert len(backend._prepared(requests[0]).tensors["image"]) == 26
    assert backend.answer(requests) == [backend.answer([request])[0] for request in requests]


def test_generate_content_works_in_resize_mode(model, data, monkeypatch):
    from llava.media import Image

    monkeypatch.setattr(torch.Tensor, "cuda", lambda self: self)
    monkeypatch.setattr(torch.Tensor, "half", lambda self: self)
    prompt = [Image(str(data.folder / "0_a.png")), "Where is it?"]
    with pytest.raises(AttributeError):
        type(model).generate_content.__wrapped__(model, list(prompt))
    short = model.default_generation_config
    short.max_new_tokens, short.max_length = 5, None
    assert isinstance(model.generate_content(list(prompt), generation_config=short), str)
    assert not hasattr(model.config, "image_processor")


def test_doctor_lists_what_the_published_host_has(published):
    found = doctor.examine(published)
    assert found["ok"], found["missing"]
    needs_nothing_here = {r.name for r in REPAIRS if not r.present(doctor.find_host(published))}
    assert {defect["name"] for defect in found["defects"]} == set(NAMES) - needs_nothing_here
    assert {"mixture-syntax", "trainer-log", "resume", "data-path"} <= {defect["name"] for defect in found["defects"]}


def test_doctor_sees_the_correction(corrected):
    found = doctor.examine(corrected)
    assert found["ok"]
    assert "mixture-syntax" not in {defect["name"] for defect in found["defects"]}


def test_deepspeeds_own_classes_can_be_loaded_and_no_others(host, tmp_path):
    from deepspeed.runtime.fp16.loss_scaler import DynamicLossScaler, LossScaler
    from deepspeed.runtime.zero.config import ZeroStageEnum
    from deepspeed.utils.tensor_fragment import fragment_address

    state = {
        "loss_scaler": LossScaler(scale=2), "dynamic": DynamicLossScaler(4.0, 2.0, 1000, 1.0, 1, False),
        "zero_stage": ZeroStageEnum.gradients, "mappings": [{"w": fragment_address(numel=3, start=1)}],
    }  # fmt: skip
    torch.save(state, tmp_path / "optimizer.pt")
    loaded = torch.load(tmp_path / "optimizer.pt")
    assert loaded["zero_stage"] is ZeroStageEnum.gradients and loaded["mappings"][0]["w"].numel == 3
    torch.save({"other": doctor.examine}, tmp_path / "other.pt")
    with pytest.raises(pickle.UnpicklingError):
        torch.load(tmp_path / "other.pt")
