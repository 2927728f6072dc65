"""The sizes that real processors give their models, against the profiles' rules and our reading of them."""

from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from roborefer_spatial import answers, torchvision_cpu
from roborefer_spatial.images import pixel_of
from roborefer_spatial.predicting.backends.transformers import seen_sizes
from roborefer_spatial.predicting.profiles import load
from roborefer_spatial.predicting.seen import Resize

torchvision_cpu.make_importable()
transformers = pytest.importorskip("transformers")

SIZES = [(1920, 1440), (640, 480), (30, 41), (28, 28), (1000, 37), (333, 777), (28, 1500)]


def given(processor, sizes):
    """Return what a real image processor says of pictures of these sizes, one question each."""
    pictures = [Image.fromarray(np.zeros((height, width, 3), np.uint8)) for width, height in sizes]
    inputs = processor(images=pictures, return_tensors="pt")
    return seen_sizes(inputs, SimpleNamespace(image_processor=processor), [1] * len(sizes))


def qwen_processor(low, high, **more):
    kind = transformers.Qwen2VLImageProcessor
    try:
        return kind(min_pixels=low, max_pixels=high, **more)
    except TypeError:
        return kind(size={"shortest_edge": low, "longest_edge": high}, **more)


@pytest.mark.parametrize("limits", [(3136, 1003520), (3136, 12845056), (50000, 60000)])
def test_qwen2_5_vl(limits):
    low, high = limits
    processor = qwen_processor(low, high)
    seen = given(processor, SIZES)
    assert seen == [(Resize(28, low, high).size(size),) for size in SIZES]
    if high == 1003520:
        assert seen[0] == ((1148, 840),)
    if high == 12845056:  # what the checkpoints say
        assert seen == [(load("qwen2.5-vl").size_of(size),) for size in SIZES]


def test_qwen3_vl():
    """Its image processor is that of Qwen2-VL, with patches of 16 and limits of its own."""
    processor = qwen_processor(65536, 16777216, patch_size=16)
    seen = [(Resize(32, 65536, 16777216).size(size),) for size in SIZES[:2]]
    assert given(processor, SIZES[:2]) == seen
    assert seen[0] == ((1920, 1440),)


@pytest.mark.parametrize("size", SIZES[:6])
def test_a_pixel_of_the_picture_that_qwen2_5_vl_was_given_comes_back(size):
    """What it means by (x, y) is pixel (x, y) of its own picture: every column and row returns to itself."""
    profile, processor = load("qwen2.5-vl"), qwen_processor(3136, 1003520)
    ((seen,),) = given(processor, [size])
    for x, y in {(x, y) for x in range(seen[0]) for y in (0, seen[1] - 1)} | {(0, y) for y in range(seen[1])}:
        said = answers.parse(f'[{{"point_2d": [{x}, {y}]}}]', units=profile.units, size_wh=seen)
        assert pixel_of(*said.points[0], seen) == (x, y)


@pytest.mark.parametrize("name", ["qwen3-vl", "gemini", "molmo2", "internvl", "qwen2-vl"])
def test_every_thousandth_comes_back(name):
    profile = load(name)
    texts = {
        "gemini": '[{{"point": [{y}, {x}], "label": "object"}}]',
        "molmo2": '<points coords="1 1 {x:03} {y:03}">object</points>',
        "qwen3-vl": '[{{"point_2d": [{x}, {y}]}}]',
    }
    for number in range(1000):
        x, y = number, 999 - number
        text = texts.get(name, "[({x}, {y})]").format(x=x, y=y)
        said = answers.parse(text, units=profile.units, point_order=profile.point_order, boxes=profile.boxes)
        assert said.points == ((x / 1000, y / 1000),)


def test_every_step_of_paligemma_comes_back():
    for step in range(1024):
        said = answers.parse(f"<loc{step:04}><loc{1023 - step:04}> object")
        assert pixel_of(*said.points[0], (1024, 1024)) == (1023 - step, step)


def test_paligemma():
    processor = transformers.SiglipImageProcessor(size={"height": 224, "width": 224})
    assert given(processor, SIZES) == [((224, 224),)] * len(SIZES)


def test_several_images_a_question_and_processors_that_do_not_say():
    processor = SimpleNamespace(image_processor=SimpleNamespace())
    square = {"pixel_values": np.zeros((3, 3, 8, 6))}
    assert seen_sizes(square, processor, [2, 1]) == [((6, 8), (6, 8)), ((6, 8),)]
    assert seen_sizes({"pixel_values": np.zeros((9, 3, 8, 6))}, processor, [2, 1]) == [None, None]
    assert seen_sizes({}, processor, [1]) == [None]
