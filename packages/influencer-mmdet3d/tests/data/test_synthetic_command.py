import pytest
from influencer_mmdet3d import cli
from influencer_mmdet3d.data import synthetic
from influencer_mmdet3d.data.synthetic import write_s3dis, write_scannet
from influencer_mmdet3d.files import filling

SMALL = ("--rooms", "1", "--points", "600", "--objects", "2", "4")


def files(root):
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_s3dis_is_what_the_module_writes(tmp_path, capsys):
    assert cli.main(["synthetic", str(tmp_path / "a"), *SMALL, "--seed", "3"]) == 0
    write_s3dis(
        tmp_path / "b",
        areas=range(1, 7),
        rooms_per_area=1,
        seed=3,
        points_per_room=600,
        objects=(2, 4),
        layout="spread",
    )
    assert files(tmp_path / "a") == files(tmp_path / "b")
    assert "s3dis_infos_Area_5.pkl" in capsys.readouterr().out


def test_scannet_is_what_the_module_writes(tmp_path):
    words = ("--format", "scannet", "--layout", "crowded")
    assert cli.main(["synthetic", str(tmp_path / "a"), *SMALL, *words]) == 0
    write_scannet(
        tmp_path / "b", scenes={"train": 1, "val": 1}, seed=0, points_per_scene=600, objects=(2, 4), layout="crowded"
    )
    assert files(tmp_path / "a") == files(tmp_path / "b")


def test_a_killed_run_goes_on(tmp_path):
    words = ["synthetic", str(tmp_path / "a"), *SMALL, "--seed", "3"]
    assert cli.main(words) == 0
    whole = files(tmp_path / "a")
    (tmp_path / "a" / "s3dis_infos_Area_2.pkl").unlink()
    chosen = {"format": "s3dis", "rooms": 1, "points": 600, "objects": [2, 4], "layout": "spread", "seed": 3}
    filling(tmp_path / "a", chosen).__enter__()  # ended without its end: a kill leaves the mark
    assert cli.main([*words[:-1], "4"]) == 2
    assert cli.main(words) == 0
    assert files(tmp_path / "a") == whole


def test_never_among_other_data(tmp_path, capsys):
    (tmp_path / "points").mkdir()
    assert cli.main(["synthetic", str(tmp_path), *SMALL]) == 2
    assert "not an empty folder" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    assert cli.main(["synthetic", str(tmp_path / "file"), *SMALL]) == 2


@pytest.mark.parametrize("words, message", [(("--rooms", "0"), "at least 1"), (("--points", "10"), "too few")])
def test_wrong_values(tmp_path, capsys, words, message):
    assert cli.main(["synthetic", str(tmp_path / "a"), *SMALL, *words]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("format", ["s3dis", "scannet"])
def test_what_help_promises_is_what_a_bare_command_writes(tmp_path, monkeypatch, capsys, format):
    called = {}
    monkeypatch.setattr(synthetic, f"write_{format}", lambda *_, **given: called.update(given) or [])
    assert cli.main(["synthetic", str(tmp_path / "a"), "--format", format, "--quiet"]) == 0
    assert capsys.readouterr().out == "" and called["quiet"]
    with pytest.raises(SystemExit):
        cli.main(["synthetic", "--help"])
    words = " ".join(capsys.readouterr().out.split())
    rooms = called.get("rooms_per_area") or called["scenes"]["train"]
    points = called.get("points_per_room") or called["points_per_scene"]
    low, high = called["objects"]
    promises = [
        f"each split (default: {rooms})",
        f"points in each room (default: {points})",
        f"ceiling and walls (default: {low} {high})",
        f"--seed SEED (default: {called['seed']})",
    ]
    for promise in promises:
        assert promise in words, promise


def test_an_empty_folder_and_a_killed_run_are_no_other_data(tmp_path, capsys):
    (tmp_path / "a").mkdir()
    assert cli.main(["synthetic", str(tmp_path / "a"), *SMALL]) == 0
    assert len(capsys.readouterr().out.split()) == 6
    assert cli.main(["synthetic", str(tmp_path / "a"), *SMALL]) == 2  # it is whole, so nothing is written over it
