"""Overrides of the research notes, word for word: each composes, and reaches what it names."""

import re
import shlex
from pathlib import Path

import pytest
from hydra import compose
from test_configs import HOST
from test_experiments import MORE

PAGE = Path(__file__).parents[3] / "docs" / "mapanything-opv2v" / "notes-commands.md"


@pytest.fixture
def composed(host_configs):
    with host_configs({**HOST, **MORE, "distributed/default.yaml": "world_size: 1"}):
        yield lambda *overrides: compose("train", overrides=list(overrides))


def table():
    """Return (words of the notes, what they become here) of the page's table of overrides."""
    text = PAGE.read_text(encoding="utf-8").partition("## Overrides")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `([^`]+)` \| (.+) \|$", text, flags=re.MULTILINE)
    assert len(rows) == 9
    return rows


BASE = ("dataset=opv2v_coop_ft", "train_params=opv2v_coop_ft", "machine=opv2v")


@pytest.mark.parametrize("word", [word for word, _ in table()])
def test_each_word_of_the_table_composes(composed, word):
    base = [other for other in BASE if other.partition("=")[0] != word.partition("=")[0]]
    extra = ["+distributed=default"] if word.startswith("distributed") else []
    assert composed(*base, *extra, *shlex.split(word))


def test_the_names_of_the_machine_and_the_schedule(composed):
    config = composed("dataset=opv2v_cyl_coop", "train_params=opv2v_cyl_coop", "machine=local3090")
    ours = composed("dataset=opv2v_cyl_coop_ft", "train_params=opv2v_cyl_coop_ft", "machine=opv2v")
    assert config == ours


@pytest.mark.parametrize("name", ["opv2v_coop_ft", "opv2v_cyl_coop_ft"])
def test_cooperative_names_reach_the_dataset(composed, name):
    words = ["dataset.coop_min_agents=1", "dataset.coop_min_num_views=3", "dataset.coop_max_num_views=4"]
    config = composed(f"dataset={name}", f"train_params={name}", "machine=opv2v", *words)
    text = config.dataset.train_dataset
    assert "min_agents=1" in text and "min_num_views=3" in text and "max_num_views=4" in text
    plain = composed(f"dataset={name}", f"train_params={name}", "machine=opv2v").dataset.train_dataset
    assert "min_agents=2" in plain and "min_num_views" not in plain


@pytest.mark.parametrize("name", ["opv2v_ft", "opv2v_coop_ft", "opv2v_cyl_coop_ft"])
def test_sets_of_an_epoch(composed, name):
    words = ["dataset.max_sets_per_epoch=123", "dataset.val.max_sets_per_epoch=7"]
    config = composed(f"dataset={name}", f"train_params={name}", "machine=opv2v", *words)
    assert config.dataset.train_dataset.startswith("+ 123 @ ")
    assert "max_scenes=7" in config.dataset.test_dataset and "max_scenes" not in config.dataset.train_dataset


def test_output_dir_is_the_folder(composed):
    assert composed(*BASE, "output_dir=runs/mine").output_dir == "runs/mine"
