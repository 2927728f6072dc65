import numpy as np
import pytest
import torch
from PIL import Image
from roborefer_spatial import torchvision_cpu
from roborefer_spatial.predicting import backends
from roborefer_spatial.predicting.backends import Request

torchvision_cpu.make_importable()

from roborefer_spatial.demo import model as demo_model  # noqa: E402


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def samples(make_sample):
    return [make_sample((x, y), task="t2b_multi", images=True) for x, y in ((3, 40), (60, 5), (33, 24), (8, 8))]


def test_a_pair_of_images_becomes_one_of_three_channels():
    red, black = Image.new("RGB", (9, 9), (255, 0, 0)), Image.new("RGB", (9, 9))
    (pixels,) = demo_model.fuse_pairs([red, black])
    assert pixels.shape == (3, 72, 72)
    assert pixels[:, 5, 5] == pytest.approx([2 * 0.299 - 1, -1, 4 / 3])
    handed_on = demo_model.FusedImageProcessor()([pixels], return_tensors="np")["pixel_values"]
    assert np.array_equal(handed_on, pixels[None])
    with pytest.raises(ValueError, match=r"images come in pairs \(original, inpainted\), got 1"):
        demo_model.fuse_pairs([red])


def test_digits_are_tokens_and_text_survives():
    tokenizer = demo_model.make_tokenizer(["Where is it?", "[(0.125, 0.500)]"])
    assert tokenizer.tokenize("[(0.75, 0.9)]") == [
        "[",
        "(",
        "0",
        ".",
        "7",
        "5",
        ",",
        "Ġ",
        "0",
        ".",
        "9",
        ")",
        "]",
    ]
    for text in ("[(0.375, 0.004)]", "Où?", "NOT_VISIBLE"):
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_only_answers_are_learned(samples):
    model, processor = demo_model.build(samples, seed=0)
    data = demo_model.encode(processor, samples)
    learned = data["labels"] != -100
    for row, sample in enumerate(samples):
        text = processor.tokenizer.decode(data["labels"][row][learned[row]])
        assert text == sample.answer + "<eos>"
        image_tokens = data["input_ids"][row] == model.config.image_token_index
        assert int(image_tokens.sum()) == 36


def test_four_samples_are_memorised_and_answered_through_the_backend(samples, tmp_path):
    model, processor = demo_model.build(samples, seed=0)
    data = demo_model.encode(processor, samples)
    seen = []
    losses = demo_model.train(
        model,
        data,
        processor.tokenizer.pad_token_id,
        steps=150,
        seed=0,
        batch_size=4,
        on_step=lambda step, loss: seen.append(step),
    )
    assert seen == list(range(150))
    assert np.mean(losses[-5:]) < 0.05 < losses[0]
    demo_model.save(model, processor, tmp_path / "tiny")
    options = {"model": str(tmp_path / "tiny"), "device": "cpu", "max_new_tokens": 24}
    backend = backends.create("transformers", backends.options("transformers", options))
    requests = [Request(s.id, tuple(s.image), s.prompt) for s in samples]
    assert [answer.text for answer in backend.answer(requests)] == [s.answer for s in samples]


def test_training_repeats(samples):
    runs = []
    for _ in range(2):
        model, processor = demo_model.build(samples, seed=3)
        data = demo_model.encode(processor, samples)
        runs.append(demo_model.train(model, data, processor.tokenizer.pad_token_id, steps=3, seed=1, batch_size=2))
    assert runs[0] == runs[1]
    assert torch.isfinite(torch.tensor(runs[0])).all()
