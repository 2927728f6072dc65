from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from roborefer_spatial.curriculum import draw_rows, load_curriculum, rank_rows

STAGES = [
    {"name": "a", "data": "a.jsonl", "max_steps": 10},
    {"name": "b", "data": ["a.jsonl", "b.jsonl"], "max_steps": 25},
]


def written(folder, document):
    for name in ("a.jsonl", "b.jsonl"):
        (folder / name).write_text("")
    (folder / "c.yaml").write_text(document if isinstance(document, str) else yaml.safe_dump(document))
    return folder / "c.yaml"


def test_max_steps_are_cumulative(tmp_path):
    curriculum = load_curriculum(written(tmp_path, {"stages": STAGES}))
    assert curriculum.max_steps == 25
    assert curriculum.steps == (10, 15)
    assert curriculum.files == (tmp_path / "a.jsonl", tmp_path / "b.jsonl")


def test_data_root(tmp_path):
    (tmp_path / "sets").mkdir()
    path = written(tmp_path / "sets", {"stages": STAGES}).rename(tmp_path / "c.yaml")
    assert load_curriculum(path, tmp_path / "sets").files[0] == tmp_path / "sets/a.jsonl"
    path.write_text(yaml.safe_dump({"stages": STAGES, "data_root": "sets"}))
    assert load_curriculum(path).files[0] == tmp_path / "sets/a.jsonl"


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ("a: [", "c.yaml: cannot be read as a curriculum"),
        ("[" * 10_000, "c.yaml: cannot be read as a curriculum .nested too deeply"),
        ("9" * 5000, "c.yaml: cannot be read as a curriculum"),
        ("stages: 2001-99-99", "c.yaml: cannot be read as a curriculum"),
        ({"stages": [{**STAGES[0], "data": "x" * 5000}]}, "x does not exist"),
        ("[]", "c.yaml: must be a mapping, got list"),
        ("!!python/object/apply:os.getcwd []", "cannot be read as a curriculum"),
        ({"stages": []}, "stages: must be a list of stages"),
        ({"stages": STAGES, "stage": 1}, r"unknown key \['stage'\]"),
        ({"stages": [{**STAGES[0], "steps": 3}]}, r"stages\[0\]: unknown key \['steps'\]; known:"),
        ({"stages": [{**STAGES[0], "name": ""}]}, "name: must be a text"),
        ({"stages": [{**STAGES[0], "data": []}]}, "data: must be a file or a list of files"),
        ({"stages": [{**STAGES[0], "data": "none.jsonl"}]}, "none.jsonl does not exist"),
        ({"stages": [{**STAGES[0], "data": ["a.jsonl", "a.jsonl"]}]}, "a file is listed twice"),
        ({"stages": [{**STAGES[0], "max_steps": 0}]}, "max_steps: must be a positive integer, got 0"),
        ({"stages": [{**STAGES[0], "max_steps": True}]}, "max_steps: must be a positive integer, got True"),
        ({"stages": [STAGES[1], STAGES[0]]}, "max_steps is cumulative and must rise"),
    ],
)
def test_bad_curricula_are_named(tmp_path, document, message):
    with pytest.raises(ValueError, match=message):
        load_curriculum(written(tmp_path, document))


def test_the_shipped_curriculum_is_one(tmp_path):
    shipped = Path(load_curriculum.__code__.co_filename).parent / "configs/curriculum.yaml"
    for stage in yaml.safe_load(shipped.read_text())["stages"]:
        for name in [stage["data"]] if isinstance(stage["data"], str) else stage["data"]:
            (tmp_path / name).write_text("")
    assert load_curriculum(shipped, tmp_path).max_steps == 1600


@given(rows=st.integers(1, 20), count=st.integers(0, 70), seed=st.integers(0, 2**32))
def test_rows_are_drawn_evenly_and_again_the_same(rows, count, seed):
    pool = np.arange(100, 100 + rows)
    drawn = draw_rows(pool, count, (seed, 0))
    counts = np.bincount(drawn - 100, minlength=rows)
    assert len(drawn) == count
    assert counts.max() - counts.min() <= 1
    np.testing.assert_array_equal(drawn, draw_rows(pool, count, (seed, 0)))
    if count > rows:  # a longer run begins as the shorter one: resuming with more steps repeats nothing
        np.testing.assert_array_equal(draw_rows(pool, rows, (seed, 0)), drawn[:rows])


def test_ranks_take_turns():
    rows = np.arange(12)
    assert list(rank_rows(rows, rank=0, world_size=2, batch_size=3)) == [0, 1, 2, 6, 7, 8]
    assert list(rank_rows(rows, rank=1, world_size=2, batch_size=3)) == [3, 4, 5, 9, 10, 11]
