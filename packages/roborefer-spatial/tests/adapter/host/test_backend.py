"""The backend that asks RoboRefer itself, with a model that writes down what it is given."""

from collections import defaultdict
from types import SimpleNamespace

import pytest
import torch
from roborefer_spatial.host.backend import Options
from roborefer_spatial.predicting.backends import Request, Unavailable, create, options


class RecordingModel:
    """Answers with as many letters as a question has characters."""

    dtype = torch.float32

    def __init__(self, tokenizer, mode, depth=False):
        self.tokenizer, self.calls = tokenizer, []
        self.config = SimpleNamespace(
            image_aspect_ratio=mode, min_tiles=1, max_tiles=12, s2_scales="8,16", enable_depth=depth
        )
        self.default_generation_config = SimpleNamespace(max_length=99, do_sample=True, temperature=0.7, top_p=0.9)

    def get_vision_tower(self):
        return SimpleNamespace(image_processor=SimpleNamespace(size={"height": 8, "width": 8}))

    def generate(self, **inputs):
        self.calls.append(inputs)
        return inputs["attention_mask"].sum(1)


@pytest.fixture
def backend(host, make, monkeypatch):
    def build(mode="resize", depth=False):
        tokenizer = make.tokenizer(depth=depth)
        tokenizer.batch_decode = lambda answers, skip_special_tokens: [f" {int(n)} " for n in answers]
        model = RecordingModel(tokenizer, mode, depth)
        monkeypatch.setattr("roborefer_spatial.host.model.load_model", lambda path, *, device, dtype: model)
        return create("host", options("host", {"model": "m", "device": "cpu"})), model

    return build


def requests(make, tmp_path, prompts):
    folder = make.rows(tmp_path, ["A"] * len(prompts)).parent
    return [
        Request(id=str(i), images=(folder / f"rows_{i}_0.png", folder / f"rows_{i}_1.png"), prompt=prompt)
        for i, prompt in enumerate(prompts)
    ]


def test_the_prompt_is_the_one_of_training(backend, make, tmp_path):
    from roborefer_spatial.host.data.dataset import LazySupervisedSpatialDataset

    answering, model = backend()
    assert answering.answer(requests(make, tmp_path, ["Where is it?"])) == [
        str(int(model.calls[0]["attention_mask"].sum()))
    ]
    asked = model.calls[0]["input_ids"][0]
    trained = LazySupervisedSpatialDataset(tmp_path / "rows.json", None, make.tokenizer(), make.data_args())[0]
    torch.testing.assert_close(asked, trained["input_ids"][: len(asked)])
    assert (trained["labels"][: len(asked)] == -100).all() and trained["labels"][len(asked)] != -100
    torch.testing.assert_close(torch.stack(model.calls[0]["media"]["image"]), trained["image"])


def deep_requests(make, tmp_path, count=2):
    folder = make.rows(tmp_path, ["A"] * count, depth="RGB").parent
    files = [[folder / f"{kind}rows_{i}_{view}.png" for view in "01"] for i in range(count) for kind in ("", "depth_")]
    return [
        Request(id=str(i), images=tuple(files[2 * i]), prompt="Where is it?", depth=tuple(files[2 * i + 1]))
        for i in range(count)
    ]


@pytest.mark.parametrize("mode", ["resize", "dynamic", "dynamic_s2"])
def test_depth_reaches_the_model_as_in_training(backend, make, tmp_path, mode):
    from roborefer_spatial.host.data.dataset import LazySupervisedSpatialDataset

    answering, model = backend(mode, depth=True)
    answering.answer(deep_requests(make, tmp_path))
    call = model.calls[0]
    args = (None, make.tokenizer(depth=True), make.data_args(mode))
    trained = LazySupervisedSpatialDataset(tmp_path / "rows.json", *args, depth_path=tmp_path)[0]
    asked = call["input_ids"][0]
    torch.testing.assert_close(asked, trained["input_ids"][: len(asked)])
    assert (trained["labels"][: len(asked)] == -100).all() and trained["labels"][len(asked)] != -100
    for kind in ("image", "depth"):
        first = torch.stack(call["media"][kind][: len(trained[kind])])
        torch.testing.assert_close(first, trained[kind])
        assert len(call["media"][kind]) == 2 * len(trained[kind])
    assert set(call["media_config"]) == {"image", "depth"}


def test_depth_for_a_model_without_it_stops_the_run(backend, make, tmp_path):
    answering, _ = backend()
    with pytest.raises(Unavailable, match=r"sample 0 brings depth images and --model m takes none .*--depth ignore"):
        answering.answer(deep_requests(make, tmp_path))


def test_a_batch_is_padded_on_the_right_and_masked(backend, make, tmp_path):
    answering, model = backend()
    texts = answering.answer(requests(make, tmp_path, ["Where?", "Where is the longer one?"]))
    call = model.calls[0]
    lengths = call["attention_mask"].sum(1).tolist()
    assert texts == [str(length) for length in lengths] and lengths[0] < lengths[1] == call["input_ids"].shape[1]
    assert call["attention_mask"].dtype == torch.bool
    assert not call["attention_mask"][0, lengths[0] :].any()  # the host counts tokens from the left
    assert len(call["media"]["image"]) == 4


@pytest.mark.parametrize(("mode", "tensors", "blocks"), [("dynamic", 6, [None]), ("dynamic_s2", 6, [(1, 2), (1, 2)])])
def test_tiles(backend, make, tmp_path, mode, tensors, blocks):
    answering, model = backend(mode)
    answering.answer(requests(make, tmp_path, ["Where?"]))
    assert len(model.calls[0]["media"]["image"]) == tensors
    config = model.calls[0]["media_config"]
    assert isinstance(config, defaultdict) and config["image"]["block_sizes"] == blocks


def test_decoding_is_greedy(backend):
    answering, _ = backend()
    config = answering.generation
    assert (config.do_sample, config.num_beams, config.max_new_tokens) == (False, 1, 64)
    assert config.temperature is config.top_p is config.max_length is None


def test_an_unreadable_image_is_that_samples_error(backend, make, tmp_path):
    answering, _ = backend()
    asked = requests(make, tmp_path, ["Where?", "Where?"])
    (tmp_path / "rows_0_1.png").write_bytes(b"no image")
    error, text = answering.answer(asked)
    assert isinstance(error, ValueError) and "sample 0: " in str(error) and "rows_0_1.png" in str(error)
    assert text.isdigit()


def test_a_model_that_cannot_be_loaded_stops_the_run(tmp_path):
    with pytest.raises(Unavailable, match=f"--model {tmp_path}: cannot be loaded: .* no config.json"):
        create("host", Options(model=str(tmp_path), device="cpu"))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"host_dtype": "int8"}, "--host-dtype int8: known are auto"),
        ({"max_new_tokens": 0}, "expected at least 1"),
    ],
)
def test_bad_options(given, message):
    with pytest.raises(ValueError, match=message):
        options("host", {"model": "m", **given})
