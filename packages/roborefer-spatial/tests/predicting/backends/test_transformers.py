"""With a real, tiny LLaVA of transformers' own classes that takes two images."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from roborefer_spatial import cli, torchvision_cpu
from roborefer_spatial.predicting import backends
from roborefer_spatial.predicting.backends import Request, Unavailable

torchvision_cpu.make_importable()

from tokenizers import Tokenizer, models, pre_tokenizers  # noqa: E402
from transformers import (  # noqa: E402
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
    SiglipImageProcessor,
    SiglipVisionConfig,
)

TEMPLATE = (
    "{% for message in messages %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endfor %}"
)
WORDS = ["<pad>", "<eos>", "<image>", "where", "is", "it", "now", *(f"w{i}" for i in range(20))]


def tiny():
    vocabulary = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<eos>"))
    vocabulary.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=vocabulary,
        eos_token="<eos>",
        additional_special_tokens=["<image>"],
        model_input_names=["input_ids", "attention_mask"],
    )
    images = SiglipImageProcessor(size={"height": 16, "width": 16})
    processor = LlavaProcessor(
        images,
        tokenizer,
        patch_size=8,
        vision_feature_select_strategy="full",
        chat_template=TEMPLATE,
        image_token="<image>",
    )
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = LlavaConfig(
        vision_config=SiglipVisionConfig(**sizes, image_size=16, patch_size=8, vision_use_head=False),
        text_config=LlamaConfig(**sizes, vocab_size=len(WORDS), initializer_range=0.7, eos_token_id=1, pad_token_id=0),
        image_token_index=2,
        vision_feature_select_strategy="full",
        vision_feature_layer=-1,
        image_seq_length=4,
    )
    model = LlavaForConditionalGeneration(config)
    with torch.no_grad():
        model.get_output_embeddings().weight[2] = 0  # never answers with an image token
    return model, processor


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    model, processor = tiny()
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


@pytest.fixture
def requests(tmp_path):
    generator = np.random.default_rng(0)
    for name in "abcdef":
        Image.fromarray(generator.integers(0, 256, (20, 30, 3), dtype=np.uint8)).save(tmp_path / f"{name}.png")
    prompts = ["where is it", "it", "is it now where is it"]
    pairs = ["ab", "cd", "ef"]
    return [Request(p, tuple(tmp_path / f"{n}.png" for n in p), text) for p, text in zip(pairs, prompts)]


def load(folder, **given):
    return backends.create(
        "transformers", backends.options("transformers", {"model": str(folder), "device": "cpu"} | given)
    )


def greedy(folder, request, count):
    """The same answer by hand: no batch, no padding, no cache, one forward pass per token."""
    model = LlavaForConditionalGeneration.from_pretrained(folder).eval()
    processor = LlavaProcessor.from_pretrained(folder)
    text = "<image>" * len(request.images) + request.prompt
    inputs = processor(text=text, images=[Image.open(path) for path in request.images], return_tensors="pt")
    ids = inputs["input_ids"]
    start = ids.shape[1]
    with torch.inference_mode():
        for _ in range(count):
            logits = model(
                input_ids=ids, pixel_values=inputs["pixel_values"], attention_mask=torch.ones_like(ids)
            ).logits
            ids = torch.cat([ids, logits[:, -1:].argmax(-1)], dim=1)
            if ids[0, -1] == 1:
                break
    return processor.tokenizer.decode(ids[0, start:], skip_special_tokens=True).strip()


def test_batched_answers_are_the_greedy_ones_of_each_question_alone(checkpoint, requests):
    found = load(checkpoint, max_new_tokens=6).answer(requests)
    answers = [answer.text for answer in found]
    assert [answer.seen for answer in found] == [((16, 16), (16, 16))] * 3
    assert answers == [greedy(checkpoint, request, 6) for request in requests]
    assert len(set(answers)) == 3  # the images and the prompts matter


def test_both_images_reach_the_model_in_order(checkpoint, requests):
    inputs = load(checkpoint).inputs(requests)
    assert inputs["pixel_values"].shape == (6, 3, 16, 16)
    assert (inputs["input_ids"] == 2).sum(dim=1).tolist() == [8, 8, 8]
    swapped = Request("ba", requests[0].images[::-1], requests[0].prompt)
    assert torch.equal(load(checkpoint).inputs([swapped])["pixel_values"], inputs["pixel_values"][[1, 0]])


def test_dtype(checkpoint):
    assert load(checkpoint, dtype="bfloat16").model.dtype == torch.bfloat16


def test_an_image_that_is_not_there_raises_for_its_batch(checkpoint):
    with pytest.raises(ValueError, match=r"gone\.png: cannot be read"):
        load(checkpoint).answer([Request("x", (Path("gone.png"),), "it")])


def test_pickled_weights_are_not_loaded(tmp_path):
    model, processor = tiny()
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(Unavailable, match=f"--model {tmp_path}: cannot be loaded: "):
        load(tmp_path)


def test_no_chat_template(tmp_path):
    model, processor = tiny()
    model.save_pretrained(tmp_path)
    processor.chat_template = None
    processor.save_pretrained(tmp_path)
    with pytest.raises(Unavailable, match="its processor has no chat template"):
        load(tmp_path)


def test_no_checkpoint(tmp_path):
    with pytest.raises(Unavailable, match="cannot be loaded"):
        load(tmp_path)


def test_two_processes_answer_like_one(checkpoint, make_sample, tmp_path):
    samples = [make_sample((1, 1), images=True) for _ in range(5)]
    for index, sample in enumerate(samples):
        sample.turns[0].value = f"where is w{index} now"
    one, two = tmp_path / "one.jsonl", tmp_path / "two.jsonl"
    words = [
        "predict",
        "--samples",
        str(make_sample.write(samples)),
        "--backend",
        "transformers",
        "--batch-size",
        "2",
    ]
    words += ["--model", str(checkpoint), "--device", "cpu", "--max-new-tokens", "5"]
    assert cli.main([*words, "--out", str(one)]) == 0
    # `accelerate launch --cpu` starts one process only (more need MPI); torchrun sets what it sets on several GPUs.
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    done = subprocess.run(
        [*launch, "-m", "roborefer_spatial", *words, "--out", str(two)],
        env=environment, capture_output=True, text=True, timeout=200,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("5 samples, 0 answered before, 5 now, 0 failed") == 1
    assert "3 of 3 samples" in done.stderr  # the shares of the two
    assert "2 of 2 samples" in done.stderr
    assert two.read_text() == one.read_text()
    assert sorted(path.name for path in tmp_path.glob("two*")) == ["two.jsonl", "two.jsonl.run.json"]
