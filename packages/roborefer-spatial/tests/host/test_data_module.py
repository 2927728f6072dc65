"""The data module with the real host's tokenizer, image processor, processing and collator."""

import copy
from types import SimpleNamespace

import pytest
import torch


@pytest.fixture(scope="module")
def folder(host, checkpoint):
    from roborefer_spatial.host.model_folder import open_model_folder

    return open_model_folder(checkpoint)


@pytest.fixture
def setup(host, folder):
    """Tokenizer and data arguments as `train()` has them."""
    from llava.train.args import DataArguments
    from roborefer_spatial.host.data.preprocessing import checkpoint_tokenizer, image_settings

    def make(mode, *, depth=False, limit=16384):
        tokenizer = checkpoint_tokenizer(folder, model_max_length=limit, depth=depth)
        arguments = DataArguments(image_aspect_ratio=mode, is_multimodal=True)
        for name, value in image_settings(folder, mode).items():
            setattr(arguments, name, value)
        if mode == "dynamic_s2":
            arguments.s2_scales = [56, 112]
            arguments.image_processor.size = {"height": 56, "width": 56}
        return tokenizer, arguments

    return make


def build(path, tokenizer, arguments, **more):
    from roborefer_spatial.host.data.dataset import LazySupervisedSpatialDataset

    return LazySupervisedSpatialDataset(str(path), str(path.parent), tokenizer, arguments, **more)


@pytest.mark.parametrize("form", ["json", "jsonl"])
@pytest.mark.parametrize(
    ("mode", "tensors", "tokens"),
    [("resize", 2, 2), ("pad", 2, 2), ("dynamic", 26, 26), ("dynamic_s2", 26, 2)],
)
def test_every_mode_reaches_the_hosts_collator(setup, data, form, mode, tensors, tokens):
    from llava.data.collate import DataCollator

    tokenizer, arguments = setup(mode)
    dataset = build(getattr(data, form), tokenizer, arguments)
    sample = dataset[1]
    assert sample["image"].shape == (tensors, 3, 56, 56)
    assert int((sample["input_ids"] == tokenizer.media_token_ids["image"]).sum()) == tokens
    assert tokenizer.decode(sample["labels"][sample["labels"] >= 0]) == "NOT_VISIBLE<|im_end|>"
    batch = DataCollator(tokenizer)([dataset[0], sample])
    assert len(batch["media"]["image"]) == 2 * tensors
    blocks = batch["media_config"]["image"]["block_sizes"]
    assert len(blocks) == (4 if mode == "dynamic_s2" else 2)


@pytest.mark.parametrize("mode", ["dynamic", "dynamic_s2"])
@pytest.mark.parametrize("depth", [False, True])
def test_where_the_hosts_own_class_works_ours_gives_the_same(setup, data, mode, depth):
    from llava.data.dataset import LazySupervisedSpatialDataset as HostClass

    assert HostClass.__module__ == "llava.data.dataset"
    tokenizer, arguments = setup(mode, depth=depth)
    arguments.depth_path = str(data.folder) if depth else None
    theirs = HostClass(str(data.json), str(data.folder), tokenizer, copy.copy(arguments), None)
    ours = build(data.json, tokenizer, arguments, training_args=SimpleNamespace())
    for index in range(4):
        expected, got = theirs[index], ours[index]
        assert expected.keys() == got.keys()
        for name, value in expected.items():
            if isinstance(value, torch.Tensor):
                torch.testing.assert_close(got[name], value, rtol=0, atol=0)
            else:
                assert got[name] == value


def test_tokens_are_placed_as_the_hosts_preprocess_rgbd_places_them(host):
    from llava.data.dataset import preprocess_rgbd
    from roborefer_spatial.host.data.conversation import opened_conversation

    turns = [
        {"from": "human", "value": "<image>\nWhat is <depth>\nthis <image>?"},
        {"from": "gpt", "value": " It. "},
        {"from": "human", "value": "And\n<image> that? "},
        {"from": "gpt", "value": "No."},
    ]
    for images in (0, 1, 3):
        for depth in (False, True):
            arguments = SimpleNamespace(is_multimodal=True)
            expected = preprocess_rgbd([copy.deepcopy(turns)], images, depth, arguments)[0]
            assert opened_conversation(turns, images, with_depth=depth) == expected


@pytest.mark.parametrize("mode", ["resize", "pad"])
def test_depth_in_the_modes_that_the_hosts_class_refuses(setup, data, mode):
    tokenizer, arguments = setup(mode, depth=True)
    sample = build(data.json, tokenizer, arguments, depth_path=str(data.folder))[0]
    assert sample["depth"].shape == sample["image"].shape == (2, 3, 56, 56)
    assert not torch.equal(sample["depth"], sample["image"])
    text = tokenizer.decode(sample["input_ids"])
    assert "user\n<image> <depth>\n<image> <depth>\nPoint to" in text.replace("<depth> \n", "<depth>\n")


def test_registry_name_and_the_hosts_builder(setup, data):
    from llava.data import make_supervised_data_module
    from roborefer_spatial.host.data.registry import register_file

    tokenizer, arguments = setup("resize")
    arguments.data_mixture = register_file(data.jsonl)
    training = SimpleNamespace(per_device_train_batch_size=3, gradient_accumulation_steps=1, seq_parallel_size=-1)
    module = make_supervised_data_module(tokenizer, arguments, training)
    assert training.sample_lens == [4]
    assert module["train_dataset"][3]["image"].shape == (2, 3, 56, 56)


def test_the_hosts_class_refuses_resize_and_ours_takes_its_place(setup, data, host, monkeypatch):
    import llava.data.dataset as host_module
    from roborefer_spatial.host.options import LaunchOptions
    from roborefer_spatial.host.repairs.training import repair_spatial_dataset

    tokenizer, arguments = setup("resize")
    arguments.depth_path = None

    def make():
        cls = host_module.LazySupervisedSpatialDataset
        return cls(str(data.json), str(data.folder), tokenizer, arguments, None)

    monkeypatch.setattr(host_module, "LazySupervisedSpatialDataset", host_module.LazySupervisedSpatialDataset)
    with pytest.raises(AssertionError):
        make()[0]
    repair_spatial_dataset(host, LaunchOptions())
    taken = make()
    assert taken[0]["image"].shape == (2, 3, 56, 56)


@pytest.mark.parametrize(("mode", "media"), [("resize", 8), ("dynamic", 104), ("dynamic_s2", 136)])
def test_check_data_without_a_checkpoint(published, command, data, mode, media):
    words = ("check", "--data", data.jsonl, "--image_aspect_ratio", mode, "--model_max_length", 16384)
    printed = command(published, *words)
    assert f"image {media} x (3, 448, 448)" in printed
    assert printed.splitlines()[-1] == "OK: one-batch dataloader check passed"


def test_check_data_with_a_checkpoint_under_the_notes_name(host_root, run_python, data, checkpoint):
    from pathlib import Path

    script = Path(__file__).parents[4] / "tools/x3/check_dataloader_t1_x3.py"
    words = ("--data", data.json, "--model_name_or_path", checkpoint)
    printed = run_python(host_root, script, *words)
    assert "row 1: 2 image(s), tensors (2, 3, 56, 56), " in printed and "NOT_VISIBLE<|im_end|>" in printed
    assert printed.splitlines()[-1] == "OK: one-batch dataloader check passed"
