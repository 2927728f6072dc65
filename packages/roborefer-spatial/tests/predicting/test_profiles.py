import json
import math
import re

import numpy as np
import pytest
from roborefer_spatial.answers import parse
from roborefer_spatial.predicting import backends, profiles
from roborefer_spatial.predicting import predict as predicting
from roborefer_spatial.predicting.backends import Answer
from roborefer_spatial.predicting.predict import predict
from roborefer_spatial.predicting.profiles import choose, load, shipped
from roborefer_spatial.predicting.seen import Resize
from roborefer_spatial.predicting.store import changes, run_identity
from roborefer_spatial.scoring import evaluate
from roborefer_spatial.tasks import prompts

WRITTEN = {
    "as-built": "[({x:.4f}, {y:.4f})]",
    "roborefer": "[({x:.4f}, {y:.4f})]",
    "gpt": "I would point at ({x:.4f}, {y:.4f}).",
    "qwen2-vl": "<|box_start|>({left:.0f},{top:.0f}),({right:.0f},{bottom:.0f})<|box_end|>",
    "qwen2.5-vl": '```json\n[{{"point_2d": [{px}, {py}], "label": "lamp"}}]\n```',
    "qwen3-vl": '[{{"point_2d": [{tx:.0f}, {ty:.0f}]}}]',
    "molmo": '<point x="{cx:.1f}" y="{cy:.1f}" alt="lamp">lamp</point>',
    "molmo2": '<points coords="{images} 1 {tx:.0f} {ty:.0f}">lamp</points>',
    "gemini": '[{{"point": [{ty:.0f}, {tx:.0f}], "label": "lamp"}}]',
    "paligemma": "<loc{ly:04d}><loc{lx:04d}><loc{ly:04d}><loc{lx:04d}> object",
    "internvl": "<ref>lamp</ref><box>[[{left:.0f}, {top:.0f}, {right:.0f}, {bottom:.0f}]]</box>",
}
"""How a model that finds the object says so."""


def perfect(profile, sample, seen):
    """The answer of a model that knows the truth and writes as the profile's model does."""
    x, y = sample.answer_point
    numbers = {
        "x": x, "y": y, "tx": 1000 * x, "ty": 1000 * y, "cx": 100 * x, "cy": 100 * y, "images": len(sample.image),
        "left": 1000 * x - 2, "right": 1000 * x + 2, "top": 1000 * y - 2, "bottom": 1000 * y + 2,
        "px": math.floor(x * seen[0]), "py": math.floor(y * seen[1]), "lx": int(x * 1024), "ly": int(y * 1024),
    }  # fmt: skip
    return WRITTEN[profile.name].format(**numbers)


def as_built(make_sample, **how):
    """A sample with a question as `build` writes it, of a 1920 x 1440 picture with a disk-like square."""
    mask = np.zeros((1440, 1920), bool)
    mask[590:630, 1180:1220] = True
    sample = make_sample((1200, 610), size_wh=(1920, 1440), mask=mask, **how)
    text = prompts.CORRESPONDENCE
    if sample.coord_frame == "concat":
        text = prompts.correspondence_side_by_side("[(0.2500, 0.5000)]")
    sample.turns[0].value = text
    return sample


@pytest.mark.parametrize("name", shipped())
def test_a_perfect_model_scores_one_under_its_profile(make_sample, tmp_path, name):
    profile = load(name)
    sample = as_built(make_sample, task="t1_concat" if profile.images == 1 else "t1_multi")
    out = tmp_path / "answers.jsonl"

    class Perfect:
        def answer(self, requests):
            seen = profile.size_of(sample.answer_size)
            return [Answer(perfect(profile, sample, seen), None, (seen,) * len(sample.image)) for _ in requests]

    identity = {"profile": profile.record()} if name != profiles.AS_BUILT else {}
    predict([sample], Perfect, out, identity=identity, profile=profile)
    samples = make_sample.write([sample])
    args = predicting.argparse.ArgumentParser()
    evaluate.add_score_arguments(args)
    options = evaluate.score_options(args.parse_args([]), out)
    scores = evaluate.load_scores(samples, out, options)
    assert scores.hit[0] == 1, scores.texts
    assert scores.reason == ["points"]


def test_without_its_profile_a_perfect_qwen_scores_nothing(make_sample):
    sample = as_built(make_sample)
    profile = load("qwen2.5-vl")
    small = Resize(28, 3136, 1003520)
    assert small.size((1920, 1440)) == (1148, 840)
    text = perfect(profile, sample, (1148, 840))
    x, y = parse(text, units="pixel", size_wh=(1920, 1440)).points[0]
    assert not (1180 <= x * 1920 < 1220)
    x, y = parse(text, units="pixel", size_wh=(1148, 840)).points[0]
    assert 1180 <= x * 1920 < 1220 and 590 <= y * 1440 < 630


def test_every_pixel_of_what_the_model_saw_comes_back():
    for size in ((1148, 840), (28, 56), (1932, 1428)):
        for column in range(0, size[0], 7):
            x, _ = parse(f'{{"point_2d": [{column}, 3]}}', units="pixel", size_wh=size).points[0]
            assert math.floor(x * size[0]) == column


def test_the_question_keeps_all_but_how_to_answer(make_sample):
    multi, concat = as_built(make_sample), as_built(make_sample, task="t1_concat")
    asked = load("qwen3-vl").prompt(multi)
    assert asked.startswith("The first image shows a scene in which one object is tinted red.")
    assert '[{"point_2d": [x, y]}]' in asked and "[(x, y)]" not in asked
    assert asked.endswith("If the object cannot be seen in the second image, answer exactly NOT_VISIBLE.")
    assert "the point (250, 500) of the whole image lies on it" in load("qwen3-vl").prompt(concat)
    width, height = load("qwen2.5-vl").size_of(concat.answer_size)
    assert f"the point ({0.25 * width:.0f}, {0.5 * height:.0f}) of the whole image" in load("qwen2.5-vl").prompt(concat)
    assert load("roborefer").prompt(multi) == multi.prompt
    difference = as_built(make_sample, task="t2b_multi")
    difference.turns[0].value = prompts.DIFFERENCE
    assert "NOT_VISIBLE" not in load("gemini").prompt(difference)


def test_questions_that_a_profile_cannot_ask(make_sample):
    sample = make_sample((1, 1))
    with pytest.raises(ValueError, match="does not end in 'Answer with one point as', so profile gemini cannot say"):
        load("gemini").prompt(sample)
    with pytest.raises(ValueError, match=r"has 2 images, profile molmo is of a model that takes 1: ask side-by-side"):
        load("molmo").prompt(sample)


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("Qwen/Qwen2.5-VL-7B-Instruct", "qwen2.5-vl"),
        ("Qwen/Qwen2-VL-7B-Instruct", "qwen2-vl"),
        ("Qwen/Qwen3-VL-8B-Instruct", "qwen3-vl"),
        ("allenai/Molmo-7B-D-0924", "molmo"),
        ("allenai/Molmo2-8B", "molmo2"),
        ("gemini-2.5-pro", "gemini"),
        ("google/paligemma2-3b-mix-448", "paligemma"),
        ("OpenGVLab/InternVL3-8B", "internvl"),
        ("gpt-5", "gpt"),
        ("runs/RoboRefer-2B-SFT", "roborefer"),
        ("llava-hf/llava-1.5-7b-hf", "as-built"),
        (None, "as-built"),
    ],
)
def test_auto_goes_by_the_models_name(model, name):
    assert choose("auto", model).name == name


def test_auto_goes_by_the_config_first(tmp_path):
    folder = tmp_path / "gpt-my-run"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "qwen2_5_vl"}))
    assert choose("auto", str(folder)).name == "qwen2.5-vl"
    (folder / "config.json").write_text("[")
    assert choose("auto", str(folder)).name == "gpt"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[", "not valid YAML"),
        ("- a", "expected the fields of a profile"),
        ("{name: a, units: pixel}", "a profile needs sources"),
        ("{name: a, units: metre, sources: [x]}", "units is 'metre'; known: normalized"),
        ("{name: a, units: pixel, sources: []}", "sources is empty"),
        ("{name: a, units: pixel, sources: [x], promt: y}", "no field promt in a profile; there are answer, boxes"),
        ("{name: a, units: percent, sources: [x], frame: seen}", "frame is 'seen', which matters to pixels only"),
        (
            "{name: a, units: pixel, sources: [x], resize: {factor: 0, min_pixels: 1, max_pixels: 2}}",
            "factor at least 1",
        ),
        ("{name: a, units: pixel, sources: [x], models: ['(']}", "missing )"),
    ],
)
def test_bad_profiles(tmp_path, text, message):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=re.escape(message)):
        load(str(path))


def test_ones_own_profile(tmp_path, make_sample):
    path = tmp_path / "mine.yaml"
    path.write_text("{name: mine, units: percent, sources: [me], answer: 'Say it in percent of {frame}.', stop: [END]}")
    profile = load(str(path))
    assert profile.prompt(as_built(make_sample)).partition("Say it in percent of the second image.")[1]
    assert profile.cut("(45, 31)END and so on") == "(45, 31)"
    with pytest.raises(ValueError, match="--profile gone: neither a file nor one of auto, as-built, gemini"):
        load("gone")


def test_a_run_does_not_go_on_under_another_profile():
    before = {"options": {}, "profile": load("gemini").record()}
    assert changes(before, {"options": {}, "profile": load("qwen3-vl").record()})[0].startswith("profile was ")


def test_answers_in_pixels_that_do_not_say_of_which_size(make_sample):
    sample = as_built(make_sample)
    answers = make_sample.answers({sample.id: '{"point_2d": [700, 350]}'})
    options = evaluate.ScoreOptions(units="pixel", frame="seen")
    with pytest.raises(ValueError, match="does not say at which size the model saw its images"):
        evaluate.load_scores(make_sample.write([sample]), answers, options)


def test_what_asks_as_before_needs_no_word_in_the_record(make_sample):
    assert {name for name, profile in shipped().items() if profile.asks_as_built} == {"as-built", "roborefer", "gpt"}
    samples = make_sample.write([make_sample((1, 1))])
    options = backends.options("http", {"url": "http://h"})
    identity = run_identity(samples, "http", options, profile=load("roborefer"))
    assert "profile" not in identity
    assert run_identity(samples, "http", options, profile=load("gemini"))["profile"]["point_order"] == "yx"
