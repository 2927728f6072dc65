import importlib
import json
import sys
import types

import numpy as np
import pytest
from roborefer_spatial import torchvision_cpu
from roborefer_spatial.answers import NOT_VISIBLE
from roborefer_spatial.export.formats import export
from roborefer_spatial.training import rewards_easyr1, rewards_trl, rewards_verl
from roborefer_spatial.training.reward_rows import reward_rows, text_of


@pytest.fixture
def exported(make_sample, tmp_path, monkeypatch):
    """A folder of an export with one visible and one absent object, and its rows."""
    mask = np.zeros((48, 64), bool)
    mask[10:30, 10:30] = True
    export(
        "ms-swift", {"a": [make_sample((20, 20), mask=mask, images=True), make_sample(images=True)]}, tmp_path / "out"
    )
    rows = [json.loads(line)["sample"] for line in (tmp_path / "out/a.jsonl").read_text().splitlines()]
    monkeypatch.setenv("ROBOREFER_SPATIAL_FOLDER", str(tmp_path / "out"))
    return tmp_path / "out", rows


HIT = "[(0.320, 0.427)]"
EARNED = [1.05, 1.05, -0.95, 0.05]


def answers(rows):
    return [rows[0], rows[1], rows[0], rows[1]], [HIT, NOT_VISIBLE, NOT_VISIBLE, HIT]


def test_the_rows_themselves(exported, monkeypatch):
    rows, texts = answers(exported[1])
    assert reward_rows(rows, texts) == pytest.approx(EARNED)
    monkeypatch.setenv("ROBOREFER_SPATIAL_VISIBLE_SHARE", "0.8")
    assert reward_rows(rows, texts)[2] == pytest.approx(-0.2)


def test_trl_by_text_and_by_messages(exported):
    rows, texts = answers(exported[1])
    reward = rewards_trl.point_reward(exported[0])
    assert reward.__name__ == "point"
    assert reward(completions=texts, sample=rows, prompts=["?"] * 4, id=[""] * 4) == pytest.approx(EARNED)
    spoken = [[{"role": "assistant", "content": text}] for text in texts]
    assert reward(completions=spoken, sample=rows) == pytest.approx(EARNED)


def test_verl(exported):
    rows, texts = answers(exported[1])
    assert [rewards_verl.compute_score("x3", text, row) for row, text in zip(rows, texts)] == pytest.approx(EARNED)
    assert rewards_verl.compute_score("x3", HIT, rows[0], {"folder": str(exported[0])}) == pytest.approx(1.05)


def test_easyr1(exported):
    rows, texts = answers(exported[1])
    inputs = [{"response": text, "response_length": 3, "ground_truth": row} for row, text in zip(rows, texts)]
    assert [one["overall"] for one in rewards_easyr1.compute_score(inputs)] == pytest.approx(EARNED)
    with pytest.raises(ValueError, match="set reward_type to batch"):
        rewards_easyr1.compute_score(inputs[0])


def test_swift_by_its_public_interface(exported, monkeypatch):
    swift = types.ModuleType("swift.plugin")
    swift.ORM, swift.orms = type("ORM", (), {}), {}
    monkeypatch.setitem(sys.modules, "swift", types.ModuleType("swift"))
    monkeypatch.setitem(sys.modules, "swift.plugin", swift)
    monkeypatch.delitem(sys.modules, "roborefer_spatial.training.rewards_swift", raising=False)
    importlib.import_module("roborefer_spatial.training.rewards_swift")
    rows, texts = answers(exported[1])
    assert swift.orms["roborefer_spatial"]()(texts, sample=rows, solution=[""] * 4) == pytest.approx(EARNED)


def test_what_is_no_answer():
    with pytest.raises(ValueError, match="expected an answer as text or as messages, got 5"):
        text_of(5)
    assert text_of([{"content": "q"}, {"content": [{"type": "text", "text": "a"}]}]) == "a"


def test_trls_own_trainer(exported, tmp_path):
    """GRPOTrainer calls the reward with its columns and learns from it, with a language model of one layer."""
    trl = pytest.importorskip("trl", reason="the extra [rl] is not installed")
    datasets = pytest.importorskip("datasets")
    torchvision_cpu.make_importable()
    import tokenizers
    import transformers

    words = [*"()[]., 0123456789", "NOT_VISIBLE", "?", "<pad>", "<eos>"]
    model = tokenizers.models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="?")
    raw = tokenizers.Tokenizer(model)
    raw.pre_tokenizer = tokenizers.pre_tokenizers.Split("", "isolated")
    special = {"pad_token": "<pad>", "eos_token": "<eos>", "unk_token": "?"}
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=raw, **special)
    config = transformers.LlamaConfig(vocab_size=len(words), hidden_size=16, intermediate_size=16, num_hidden_layers=1,
                                      num_attention_heads=2, max_position_embeddings=64, pad_token_id=19,
                                      eos_token_id=words.index("<eos>"), bos_token_id=None)  # fmt: skip
    rows, _ = answers(exported[1])
    data = datasets.Dataset.from_list([{"prompt": "?", "sample": row} for row in rows])
    seen = []
    inner = rewards_trl.point_reward(exported[0])

    def point(completions, sample, **columns):
        seen.append(inner(completions, sample, **columns))
        return seen[-1]

    arguments = trl.GRPOConfig(output_dir=str(tmp_path / "run"), per_device_train_batch_size=4, num_generations=4,
                               max_completion_length=6, max_steps=2, report_to=[], use_cpu=True, logging_steps=1,
                               save_strategy="no", learning_rate=1e-2)  # fmt: skip
    trainer = trl.GRPOTrainer(model=transformers.LlamaForCausalLM(config), reward_funcs=point, args=arguments,
                              train_dataset=data, processing_class=tokenizer)  # fmt: skip
    trainer.train()
    assert trainer.state.global_step == 2
    assert len(seen) >= 2
    assert all(-1 <= value <= 1.05 for batch in seen for value in batch)
