"""The tables of the formats against the benchmark's own numbers, and class files."""

import dataclasses

import pytest
from influencer_mmdet3d.data.formats import FORMATS, SCANNET_STUFF, Finding, usual_stuff
from influencer_mmdet3d.data.synthetic import SCANNET_IDS

BENCHMARK = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 14, 16, 24, 28, 33, 34, 36, 39)
"""NYU40 ids that ScanNet's benchmark evaluates, in its order."""
NAMES = (
    *("wall", "floor", "cabinet", "bed", "chair", "sofa", "table", "door", "window", "bookshelf", "picture", "counter"),
    *("desk", "curtain", "refrigerator", "showercurtrain", "toilet", "sink", "bathtub", "otherfurniture"),
)  # as the host spells them


def test_scannets_classes_are_the_benchmarks():
    assert list(FORMATS["scannet"].classes.items()) == list(zip(BENCHMARK, NAMES))
    assert SCANNET_STUFF == (1, 2)
    assert (FORMATS["scannet"].voxel, FORMATS["s3dis"].voxel) == (0.02, 0.05)
    assert FORMATS["scannet"].labels == range(-1, 41) and FORMATS["s3dis"].labels == range(13)


def test_made_rooms_have_scannets_ids():
    """Names that ScanNet has under another word, and NYU40's ceiling and structure, which it does not evaluate."""
    other = {"bookcase": "bookshelf", "board": "picture", "clutter": "otherfurniture"}
    evaluated = dict(zip(NAMES, BENCHMARK))
    expected = {name: evaluated.get(other.get(name, name)) for name in SCANNET_IDS}
    expected.update(ceiling=22, beam=38, column=38)
    assert expected == SCANNET_IDS


def test_own_classes():
    kind = FORMATS["s3dis"].with_classes(["a", "b"])
    assert kind.own and kind.classes == {0: "a", 1: "b"} and kind.labels == range(2)
    assert [usual_stuff(names) for names in (["pipe", "wall", "floor"], ["pipe"], ["wall"])] == [(1, 2), (0,), (0,)]
    for names in ([], ["a", "a"]):
        with pytest.raises(ValueError, match="class names must be given and differ from each other"):
            kind.with_classes(names)


@pytest.mark.parametrize("value", [FORMATS["s3dis"], Finding("error", "code", "where", "message")])
def test_they_do_not_change(value):
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(value, dataclasses.fields(value)[0].name, "other")
