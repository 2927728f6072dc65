import argparse
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from roborefer_spatial import predictions
from roborefer_spatial.export import formats as module
from roborefer_spatial.export.formats import export
from roborefer_spatial.predictions import Prediction
from roborefer_spatial.sample import Sample
from roborefer_spatial.scoring.metrics import metrics
from roborefer_spatial.scoring.score import score


@pytest.fixture
def concat(make_sample):
    return [
        make_sample((10, 20), size_wh=(40, 30), left_wh=(64, 48), task="t1_concat", images=True),
        make_sample(task="t1_concat", images=True),
        make_sample((0, 0), task="t1_concat", images=True),
    ]


@pytest.fixture
def multi(make_sample):
    left = np.zeros((48, 64), bool)
    left[:, :32] = True
    return [make_sample((3, 3), mask=left, images=True) for _ in range(3)] + [make_sample(images=True)]


def test_refspatial_layout(concat, tmp_path):
    summary = export("refspatial", {"t1": concat}, tmp_path / "bench")
    assert summary == ["t1: 2 questions; 1 NOT_VISIBLE samples left out"]
    questions = json.loads((tmp_path / "bench/t1/question.json").read_text())
    assert [sorted(question) for question in questions] == [
        ["category", "id", "mask_path", "object", "prompt", "rgb_path", "step", "suffix"]
    ] * 2
    first, folder = questions[0], tmp_path / "bench" / "t1"
    assert (folder / first["rgb_path"]).read_bytes() == Path(concat[0].image[0]).read_bytes()
    mask = np.asarray(Image.open(folder / first["mask_path"]))
    assert mask.shape == (48, 104)
    assert np.argwhere(mask).tolist() == [[20, 64 + 10]]
    for question, sample in zip(questions, (concat[0], concat[2])):
        # the host's rule: pixel = int(x * width) of the mask
        x, y = json.loads(sample.answer.replace("(", "[").replace(")", "]"))[0]
        mask = np.asarray(Image.open(folder / question["mask_path"]))
        assert mask[int(y * mask.shape[0]), int(x * mask.shape[1])] == 255


def test_refspatial_asks_the_same_question(concat, tmp_path):
    text = "Find it. Answer with one point. If you cannot, say so."
    asked = Sample.from_row(
        concat[0].to_row() | {"conversations": [{"from": "human", "value": text}, concat[0].conversations[1]]}
    )
    export("refspatial", {"t1": [asked]}, tmp_path / "bench")
    [question] = json.loads((tmp_path / "bench/t1/question.json").read_text())
    assert f"{question['prompt']} {question['suffix']}" == text


def test_refspatial_outputs_come_back(concat, tmp_path):
    """What the host's evaluation writes can be scored here, by the file backend's keys."""
    export("refspatial", {"t1": concat}, tmp_path / "bench")
    questions = json.loads((tmp_path / "bench/t1/question.json").read_text())
    outputs = tmp_path / "t1.jsonl"
    rows = [{"question_id": q["id"], "text": "[(0.5, 0.5)]"} for q in questions]
    outputs.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert [row.id for row in predictions.read(outputs, id_key="question_id")] == [concat[0].id, concat[2].id]


def test_refspatial_refuses_what_it_cannot_hold(multi, make_sample, tmp_path):
    with pytest.raises(
        ValueError, match=r"t1: sample s00000 has 2 images and RefSpatial-Bench shows one: export a concat"
    ):
        export("refspatial", {"t1": multi}, tmp_path / "bench")
    with pytest.raises(ValueError, match="no sample has a visible object"):
        export("refspatial", {"t1": [make_sample(task="t1_concat")]}, tmp_path / "bench")
    assert list(tmp_path.glob("*bench*")) == []  # nothing half-written


def test_hf_dataset_loads_and_holds_everything(multi, concat, tmp_path, monkeypatch):
    import datasets

    monkeypatch.setattr("roborefer_spatial.export.hf.SHARD_ROWS", 3)
    summary = export("hf", {"t1_val_multi": multi, "t1_val_concat": concat}, tmp_path / "data")
    assert summary[0].startswith("t1_val_multi: 4 samples; load_dataset(")
    assert len(list((tmp_path / "data/t1_val_multi").iterdir())) == 2
    loaded = {
        name: datasets.load_dataset(str(tmp_path / "data"), name, split="val", cache_dir=str(tmp_path / "cache"))
        for name in ("t1_val_multi", "t1_val_concat")
    }
    assert [len(set_) for set_ in loaded.values()] == [4, 3]
    for row, sample in zip([*loaded["t1_val_multi"], *loaded["t1_val_concat"]], multi + concat):
        stored = json.loads(row["sample"])
        assert not any(
            path.startswith("/") for path in [*stored["image"], stored["query_original"], stored["mask_path"]]
        )
        assert Sample.from_row(stored, folder=Path(sample.image[0]).parent) == sample
        assert (row["id"], row["prompt"], row["answer"]) == (sample.id, sample.prompt, sample.answer)
        assert [image.size for image in row["images"]] == [Image.open(path).size for path in sample.image]
        assert np.array_equal(np.asarray(row["images"][-1]), np.asarray(Image.open(sample.image[-1])))
        assert np.array_equal(np.asarray(row["mask"]), np.asarray(Image.open(sample.mask_path)))
        assert row["mask_dilated"] is None


def test_hf_sets_have_one_split(make_sample, tmp_path):
    samples = [make_sample((1, 1), images=True), make_sample((1, 1), images=True, split="train")]
    with pytest.raises(ValueError, match=re.escape("x: holds samples of the splits ['train', 'val']; a set has one")):
        export("hf", {"x": samples}, tmp_path / "data")


@pytest.fixture
def lmms(multi, tmp_path, monkeypatch):
    """The exported tasks in the real lmms-eval."""
    from roborefer_spatial import torchvision_cpu

    torchvision_cpu.make_importable()
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    from lmms_eval.tasks import TaskManager, get_task_dict

    export("lmms-eval", {"t1_val_multi": multi}, tmp_path / "tasks")
    manager = TaskManager(include_path=str(tmp_path / "tasks"), include_defaults=False)
    assert manager.all_tasks == ["x3_t1_val_multi"]
    return get_task_dict(["x3_t1_val_multi"], manager)["x3_t1_val_multi"]


def test_lmms_eval_asks_our_questions(lmms, multi):
    docs = list(lmms.test_docs())
    assert [doc["id"] for doc in docs] == [sample.id for sample in multi]
    for doc, sample in zip(docs, multi):
        assert lmms.doc_to_text(doc) == sample.prompt
        assert lmms.doc_to_target(doc) == sample.answer
        images = lmms.doc_to_visual(doc)
        assert [np.asarray(image).tobytes() for image in images] == [
            np.asarray(Image.open(path)).tobytes() for path in sample.image
        ]
    assert lmms.config.generation_kwargs["max_new_tokens"] == 64


def test_lmms_eval_aggregates_to_our_metrics(lmms, multi):
    texts = ["[(0.1, 0.1)]", "[(0.9, 0.1)]", "NOT_VISIBLE", "NOT_VISIBLE"]
    values = {}
    for doc, text in zip(lmms.test_docs(), texts):
        for metric, value in lmms.process_results(doc, [text]).items():
            values.setdefault(metric, []).append(value)
    aggregated = {metric: lmms.aggregation()[metric](found) for metric, found in values.items()}
    scores = score(multi, [Prediction(s.id, t) for s, t in zip(multi, texts)])
    ours = metrics(scores, np.ones(4, bool), bootstrap=0)
    assert aggregated.pop("l2_error") == pytest.approx(ours["mean_l2_error"])
    assert aggregated == {metric: pytest.approx(ours[metric]) for metric in aggregated}
    assert set(aggregated) == {
        "overall_accuracy",
        "hit_at_mask",
        "not_visible_recall",
        "success_002",
        "success_005",
        "success_010",
    }
    assert lmms.higher_is_better()["l2_error"] is False


@pytest.mark.parametrize(
    ("format_name", "name", "message"),
    [
        ("coco", "a", "unknown format 'coco'; known: refspatial, lmms-eval, hf"),
        ("hf", "a/b", "'a/b' cannot name a set"),
        ("hf", "..", "'..' cannot name a set"),
    ],
)
def test_bad_arguments(multi, tmp_path, format_name, name, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        export(format_name, {name: multi}, tmp_path / "out")


def test_the_command(multi, make_sample, tmp_path, capsys):
    parser = argparse.ArgumentParser()
    module.add_arguments(parser)
    samples = make_sample.write(multi, "t1_val_multi.json")
    arguments = ["--format", "lmms-eval", "--samples", str(samples), "--out", str(tmp_path / "tasks")]
    assert module.run(parser.parse_args(arguments)) == 0
    assert "x3_t1_val_multi: 4 samples; lmms_eval --include_path" in capsys.readouterr().out
    assert sorted(p.name for p in (tmp_path / "tasks").iterdir()) == [
        "t1_val_multi.jsonl",
        "utils.py",
        "x3_t1_val_multi.yaml",
    ]
    with pytest.raises(ValueError, match="tasks exists; export writes a new folder"):
        module.run(parser.parse_args(arguments))
    with pytest.raises(ValueError, match="another file is also called t1_val_multi"):
        module.run(parser.parse_args([*arguments, "--samples", str(samples), str(samples)]))


def test_missing_images_are_named(make_sample, tmp_path):
    sample = make_sample((1, 1), task="t1_concat")
    for format_name in ("refspatial", "hf"):
        with pytest.raises(ValueError, match=r"_whole\.png: cannot be (read|copied): "):
            export(format_name, {"x": [sample]}, tmp_path / "out")


@pytest.fixture
def asked_as_built(make_sample):
    """A concat sample and a multi sample whose questions are those of `build`."""
    from roborefer_spatial.tasks.prompts import CORRESPONDENCE, correspondence_side_by_side

    found = {}
    for task, prompt in (("t1_concat", correspondence_side_by_side("[(0.250, 0.500)]")), ("t1_multi", CORRESPONDENCE)):
        sample = make_sample((10, 20), size_wh=(64, 48), task=task, images=True)
        turns = [{"from": "human", "value": prompt}, sample.conversations[1]]
        found[task] = Sample.from_row(sample.to_row() | {"conversations": turns})
    return found


def test_a_profile_asks_and_reads_in_lmms_tasks(asked_as_built, tmp_path):
    """Qwen2.5-VL means pixels of the image as it sees it: 64 x 48 becomes 84 x 56 by its rule."""
    from roborefer_spatial.export import lmms_task

    sample = asked_as_built["t1_multi"]
    profile = module.profiles.load("qwen2.5-vl")
    export("lmms-eval", {"t1": [sample]}, tmp_path / "tasks", profile=profile)
    doc = json.loads((tmp_path / "tasks/t1.jsonl").read_text())
    assert lmms_task.doc_to_text(doc).count("point_2d") == 1
    width, height = profile.size_of((64, 48))
    x, y = int(10.5 / 64 * width), int(20.5 / 48 * height)
    said = lmms_task.process_results(doc, [f'[{{"point_2d": [{x}, {y}]}}]'])
    assert said["hit_at_mask"] == 1
    assert lmms_task.process_results(doc, ["[(0.164, 0.427)]"])["hit_at_mask"] == 0
    yaml = (tmp_path / "tasks/x3_t1.yaml").read_text()
    assert "max_new_tokens: 128" in yaml
    assert 'profile: "qwen2.5-vl"' in yaml


@pytest.mark.parametrize("name", ["refspatial", "hf"])
def test_a_profile_asks_in_the_other_formats(asked_as_built, tmp_path, name):
    sample = asked_as_built["t1_concat"]
    profile = module.profiles.load("qwen3-vl")
    export(name, {"t1": [sample]}, tmp_path / "out", profile=profile)
    if name == "refspatial":
        [question] = json.loads((tmp_path / "out/t1/question.json").read_text())
        asked = f"{question['prompt']} {question['suffix']}"
    else:
        import datasets

        [row] = datasets.load_dataset(str(tmp_path / "out"), "t1", split="val", cache_dir=str(tmp_path / "cache"))
        asked = row["prompt"]
    assert asked == profile.prompt(sample)
    assert "point_2d" in asked


def test_the_command_takes_a_profile(asked_as_built, make_sample, tmp_path, capsys):
    parser = argparse.ArgumentParser()
    module.add_arguments(parser)
    path = make_sample.write([asked_as_built["t1_multi"]])
    words = ["--format", "lmms-eval", "--samples", str(path), "--out", str(tmp_path / "o"), "--profile"]
    assert module.run(parser.parse_args([*words, "molmo2"])) == 0
    assert "Point to it" in (tmp_path / "o" / "samples.jsonl").read_text()
    with pytest.raises(ValueError, match="--profile nobody: neither a file nor one of auto"):
        module.run(parser.parse_args([*words, "nobody"]))
