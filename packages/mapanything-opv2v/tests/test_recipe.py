"""The data commands of the recipe, word for word, on a raw tree without depth maps."""

import itertools

import pytest
import recipe
from mapanything_opv2v import cli, rawdata


@pytest.fixture
def raw(own_town, tmp_path, monkeypatch):
    root, _ = own_town
    monkeypatch.setenv("OPV2V_ROOT", str(root))
    monkeypatch.setenv("OPV2V_DEPTH_ROOT", str(tmp_path / "made"))
    monkeypatch.setenv("OPV2V_PANORAMAS", str(tmp_path / "panoramas"))
    monkeypatch.chdir(tmp_path)
    return root


def run(words):
    assert words[0] == "mapanything-opv2v"
    # other processes would import everything anew, once a worker: one is enough here
    return cli.main([*("1" if before == "--workers" else word for before, word in itertools.pairwise(words))])


def test_the_data_commands_work_in_their_order(raw, tmp_path, capsys):
    commands = recipe.commands("Data")
    assert [words[1] for words in commands] == ["check", "depth", "prebuild"]
    for words in commands:
        assert run(words) == 0, capsys.readouterr().out
    out = capsys.readouterr().out
    assert "180 depth maps written" in out and "45 panoramas built, 0 were there, 0 failed" in out
    index = rawdata.index_tree(raw, depth_root=tmp_path / "made")
    assert all(len(a.depth_paths) == len(a.camera_paths) for f in index.splits["test"] for a in f.agents)


def test_prebuild_says_which_splits_have_no_depth_before_it_builds(raw, tmp_path, capsys):
    depth, prebuild = recipe.commands("Data")[1:]
    assert run([*depth, "--splits", "train", "validate"]) == 0
    capsys.readouterr()
    assert run(prebuild) == 2
    said = capsys.readouterr().err
    assert "no depth maps of test in" in said and "--splits train validate" in said and "--no-depth" in said
    assert not (tmp_path / "panoramas").exists()
    assert run([*prebuild, "--splits", "train", "validate"]) == 0
