import logging

import pytest
import torch
from PIL import Image


def dataset(path, make, mode="resize", *, depth=None, tokenizer=None, **more):
    from roborefer_spatial.host.data.dataset import LazySupervisedSpatialDataset

    tokenizer = tokenizer or make.tokenizer(depth=depth is not None)
    return LazySupervisedSpatialDataset(path, None, tokenizer, make.data_args(mode), depth_path=depth, **more)


@pytest.mark.parametrize("name", ["rows.json", "rows.jsonl"])
def test_a_row_becomes_tokens_labels_and_images(host, make, tmp_path, name):
    data = dataset(make.rows(tmp_path, ["[(0.5, 0.5)]", "NOT_VISIBLE"], name=name), make)
    sample = data[1]
    text = data.tokenizer.decode(sample["input_ids"])
    assert text == "[human]<image>\n<image>\nWhere is it?[end][gpt]NOT_VISIBLE[end]"
    assert data.tokenizer.decode(sample["labels"][sample["labels"] >= 0]) == "NOT_VISIBLE[end]"
    assert sample["image"].shape == (2, 3, 8, 8)
    assert len(data) == 2


@pytest.mark.parametrize(
    ("mode", "tensors", "tokens", "blocks"),
    [
        ("resize", 2, 2, None),
        ("pad", 2, 2, None),
        ("dynamic", 6, 6, None),
        ("dynamic_s2", 6, 2, [(1, 2), (1, 2)]),
    ],
)
def test_every_mode_has_one_token_per_media_entry(host, make, tmp_path, mode, tensors, tokens, blocks):
    sample = dataset(make.rows(tmp_path, ["A"]), make, mode)[0]
    assert sample["image"].shape == (tensors, 3, 8, 8)
    assert int((sample["input_ids"] == 1).sum()) == tokens
    assert sample.get("block_sizes") == blocks


@pytest.mark.parametrize(
    ("mode", "keys"), [("resize", []), ("dynamic", []), ("dynamic_s2", ["block_sizes", "depth_block_sizes"])]
)
def test_depth_comes_beside_the_image(host, make, tmp_path, mode, keys):
    path = make.rows(tmp_path, ["A"], depth="RGB")
    sample = dataset(path, make, mode, depth=tmp_path)[0]
    assert sample["depth"].shape == sample["image"].shape
    assert int((sample["input_ids"] == 2).sum()) == int((sample["input_ids"] == 1).sum())
    assert [key for key in sample if key.endswith("block_sizes")] == keys


@pytest.mark.parametrize("mode", ["L", "I;16"])
def test_depth_of_another_kind_is_refused(host, make, tmp_path, mode):
    path = make.rows(tmp_path, ["A"], depth="RGB")
    for file in tmp_path.glob("depth_*"):
        Image.new(mode, (16, 8)).save(file)
    with pytest.raises(ValueError, match=f"row 0, depth: .*has mode {mode}; RoboRefer takes 3-channel"):
        dataset(path, make, depth=tmp_path)


def test_depth_of_another_size_is_refused(host, make, tmp_path):
    path = make.rows(tmp_path, ["A"], depth="RGB")
    for file in tmp_path.glob("depth_*"):
        Image.new("RGB", (8, 8)).save(file)
    with pytest.raises(ValueError, match="is 8x8, its image is 16x8"):
        dataset(path, make, depth=tmp_path)


def test_depth_needs_a_token_and_a_file_per_row(host, make, tmp_path):
    with pytest.raises(ValueError, match="no `depth`, but depth_path"):
        dataset(make.rows(tmp_path, ["A"]), make, depth=tmp_path)
    with pytest.raises(ValueError, match="no <depth> token: train with --enable_depth True"):
        dataset(make.rows(tmp_path, ["A"], depth="RGB"), make, depth=tmp_path, tokenizer=make.tokenizer())


def test_depth_left_behind_by_another_set_does_not_count(host, make, tmp_path):
    from roborefer_spatial.host.data.dataset import LazySupervisedSpatialDataset

    path, arguments = make.rows(tmp_path, ["A"]), make.data_args(depth_path="left/behind")
    assert not LazySupervisedSpatialDataset(path, None, make.tokenizer(), arguments).enable_depth
    with pytest.raises(ValueError, match=r"depth_path is left/behind|left.behind"):
        LazySupervisedSpatialDataset(path, None, make.tokenizer(), arguments, object())


def test_a_missing_image_is_named(host, make, tmp_path):
    path = make.rows(tmp_path, ["A", "B"])
    (tmp_path / "rows_1_0.png").unlink()
    data = dataset(path, make)
    with pytest.raises(ValueError, match=r"row 1, image: .*rows_1_0.png cannot be read: "):
        data[1]


def test_a_truncated_image_is_an_error_although_the_host_lets_it_pass(host, make, tmp_path):
    path = make.rows(tmp_path, ["A", "B"])
    whole = (tmp_path / "rows_1_0.png").read_bytes()
    (tmp_path / "rows_1_0.png").write_bytes(whole[: len(whole) // 2])
    from PIL import ImageFile

    data = dataset(path, make)
    assert ImageFile.LOAD_TRUNCATED_IMAGES  # the double sets it, as the host does
    with pytest.raises(ValueError, match=r"rows_1_0.png: not a readable image"):
        data[1]
    assert ImageFile.LOAD_TRUNCATED_IMAGES


def test_a_tokenizer_that_splits_the_image_token_fails_the_first_row_check(host, make, tmp_path):
    path = make.rows(tmp_path, ["A"])
    tokenizer = make.tokenizer()
    whole = type(tokenizer).__call__

    class Splitting(type(tokenizer)):
        def __call__(self, text, add_special_tokens=True):
            encoded = whole(self, text)
            if "[gpt]" in text:  # the conversation loses the line break between the images
                ids = encoded.input_ids
                encoded.input_ids = [i for n, i in enumerate(ids) if not (i == 20 and ids[n + 1] == 1)]
            return encoded

    with pytest.raises(AssertionError, match=r"must begin with '<image>\\n<image>' .*but the tokens say"):
        dataset(path, make, tokenizer=Splitting())


def test_answers_that_would_not_be_trained_on_fail_the_first_row_check(host, make, tmp_path, monkeypatch):
    import llava.data.dataset as host_module

    honest = host_module.preprocess

    def masked(*args, **kwargs):
        encoded = honest(*args, **kwargs)
        return {**encoded, "labels": torch.full_like(encoded["labels"], -100)}

    monkeypatch.setattr(host_module, "preprocess", masked)
    with pytest.raises(AssertionError, match="no token of the answer is trained on"):
        dataset(make.rows(tmp_path, ["A"]), make)


def test_lost_media_are_an_error(host, make, tmp_path, monkeypatch):
    import llava.data.dataset as host_module

    path = make.rows(tmp_path, ["A", "B"])
    data = dataset(path, make)
    honest = host_module.preprocess

    def cut(sources, *args, **kwargs):
        sources[0][0]["value"] = sources[0][0]["value"].replace("<image>\n", "", 1)
        return honest(sources, *args, **kwargs)

    object.__setattr__(data.host, "preprocess", cut)
    with pytest.raises(ValueError, match=r"row 1: 1 image token\(s\) for 2 image\(s\) in mode resize"):
        data[1]


def test_a_sample_that_the_host_would_cut_is_refused(host, make, tmp_path):
    from roborefer_spatial.host.data.dataset import LazySupervisedSpatialDataset

    path = make.rows(tmp_path, ["A"])
    arguments = make.data_args(num_image_tokens=121)
    with pytest.raises(ValueError, match=r"row 0: 2\d\d tokens with its images, over model_max_length 200"):
        LazySupervisedSpatialDataset(path, None, make.tokenizer(limit=200), arguments)


def test_an_unknown_mode_is_refused(host, make, tmp_path):
    with pytest.raises(ValueError, match="must be one of resize, pad, dynamic, dynamic_s2, got 'squash'"):
        dataset(make.rows(tmp_path, ["A"]), make, "squash")


def test_rows_that_the_sampler_drops_are_warned_of(host, make, tmp_path, caplog):
    path = make.rows(tmp_path, list("ABC"))
    with caplog.at_level(logging.WARNING):
        dataset(path, make, global_batch_size=4)
        dataset(path, make, global_batch_size=2)
        dataset(path, make, global_batch_size=3)
        dataset(path, make, global_batch_size=4, warn_dropped=False)
    first, second = caplog.messages
    assert "drops ALL 3 row(s), because a global batch takes 4" in first
    assert "drops the last 1 of 3 rows" in second


def test_lengths_tell_text_from_images(host, make, tmp_path):
    data = dataset(make.rows(tmp_path, ["A"]), make)
    assert data.lengths == [4 + 2 * 128]  # "Where is it?" and "A"
    assert data.modality_lengths == [4]
    data.list_data_dict[0].pop("image")
    assert data.modality_lengths == [-4]


def test_a_row_without_images(host, make, tmp_path):
    data = dataset(make.rows(tmp_path, ["A", "B"]), make)
    data.list_data_dict[1].pop("image")
    sample = data[1]
    assert sample["image"] is None
    assert data.tokenizer.decode(sample["input_ids"]).startswith("[human]Where is it?")
