"""The sizes that real processors give their models, against the profiles' rules and our reading of them."""

from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from roborefer_spatial import torchvision_cpu
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


@pytest.mark.parametrize("limits", [(3136, 1003520), (3136, 12845056), (50000, 60000)])
def test_qwen2_5_vl(limits):
    kind = transformers.Qwen2VLImageProcessor
    low, high = limits
    try:
        processor = kind(min_pixels=low, max_pixels=high)
    except TypeError:
        processor = kind(size={"shortest_edge": low, "longest_edge": high})
    seen = given(processor, SIZES)
    assert seen == [(Resize(28, low, high).size(size),) for size in SIZES]
    if high == 1003520:
        assert seen[0] == ((1148, 840),)
    if high == 12845056:  # what the checkpoints say
        assert seen == [(load("qwen2.5-vl").size_of(size),) for size in SIZES]


def test_qwen3_vl():
    if not hasattr(transformers, "Qwen3VLForConditionalGeneration"):
        pytest.skip("this transformers has no Qwen3-VL")
    kind = transformers.Qwen2VLImageProcessor  # Qwen3-VL's, with patches of 16
    processor = kind(patch_size=16, size={"shortest_edge": 65536, "longest_edge": 16777216})
    assert given(processor, SIZES[:2]) == [(Resize(32, 65536, 16777216).size(size),) for size in SIZES[:2]]


def test_paligemma():
    processor = transformers.SiglipImageProcessor(size={"height": 224, "width": 224})
    assert given(processor, SIZES) == [((224, 224),)] * len(SIZES)


def test_several_images_a_question_and_processors_that_do_not_say():
    processor = SimpleNamespace(image_processor=SimpleNamespace())
    square = {"pixel_values": np.zeros((3, 3, 8, 6))}
    assert seen_sizes(square, processor, [2, 1]) == [((6, 8), (6, 8)), ((6, 8),)]
    assert seen_sizes({"pixel_values": np.zeros((9, 3, 8, 6))}, processor, [2, 1]) == [None, None]
    assert seen_sizes({}, processor, [1]) == [None]
