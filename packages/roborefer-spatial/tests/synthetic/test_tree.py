import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from roborefer_spatial import cli
from roborefer_spatial.files import filling
from roborefer_spatial.synthetic import tree as tree_module
from roborefer_spatial.synthetic.rooms import shoot
from roborefer_spatial.synthetic.tree import write_scenes
from roborefer_spatial.tasks.object_views import read_views
from roborefer_spatial.tasks.scenes import scan

SMALL = {"size_wh": (96, 72), "views": 4, "objects": 2}


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    return write_scenes(tmp_path_factory.mktemp("synthetic") / "x3", scenes=3, seed=5, **SMALL)


def array(path):
    return np.asarray(Image.open(path))


def test_the_tree_is_what_it_says(tree):
    uids = scan(tree.root)
    assert (tree.scenes, tree.uids, tree.views) == (6, len(uids), sum(len(uid.views) for uid in uids)) == (6, 12, 48)
    assert {uid.split for uid in uids} == {"train", "val"}
    empty = 0
    for uid in uids:
        views, skipped = read_views(uid, use_dilated_mask=True, want_inpainted=True, seed=0)
        assert skipped == []
        assert all(view.size_wh == (96, 72) for view in views)
        empty += sum(view.pixel is None for view in views)
    assert tree.empty == empty > 0


def test_every_scene_has_an_object_that_leaves_and_pairs_that_show_it(tree):
    scenes: dict[str, list[list[int]]] = {}
    for uid in scan(tree.root):
        areas = [int((array(view.mask) > 0).sum()) for view in uid.views]
        assert areas[0] == max(areas) > 0
        assert sum(area > 0 for area in areas) >= 2
        scenes.setdefault(uid.scene, []).append(areas)
    assert len(scenes) == 6
    assert all(any(0 in areas for areas in objects) for objects in scenes.values())


def test_inpainted_pictures_have_the_mask_and_what_the_object_shades_changed(tree):
    for uid in scan(tree.root):
        for view in uid.views:
            original, inpainted = array(view.original).astype(int), array(view.inpainted).astype(int)
            raw, dilated = array(view.mask) > 0, array(view.mask_dilated) > 0
            assert (dilated >= raw).all()
            # the same noise outside: what changed there can only have become lighter
            assert (original[~dilated] <= inpainted[~dilated]).all()
            if raw.sum() > 50:
                assert dilated.sum() > raw.sum()
                assert (np.abs(original - inpainted).max(-1)[raw] > 12).mean() > 0.5


def test_inpainted_pictures_are_the_room_without_the_object(tmp_path, monkeypatch):
    """Independent oracle, without noise: the same room, furnished without the object, rendered from the same camera."""
    monkeypatch.setattr(tree_module, "_NOISE", 0.0)
    rng = np.random.default_rng(3)
    room, seats, chosen = tree_module._scene(rng, 4, (96, 72), 2)
    tree_module._write_scene(tmp_path, rng, room, seats, chosen)

    def picture(things, camera):
        return np.rint(shoot(replace(room, things=things), camera).compose()[0] * 255).astype(np.uint8)

    beside = hidden = 0
    for index in chosen:
        rest = [thing for thing in room.things if thing is not room.things[index]]
        paths = sorted((tmp_path / f"uid_{index + 1}").glob("*_original.png"))
        assert len(paths) == len(seats)
        for path in paths:
            original = array(path)
            (camera,) = [seat for seat in seats if np.array_equal(picture(room.things, seat), original)]
            inpainted = array(path.with_name(path.name.replace("original", "inpainted")))
            np.testing.assert_array_equal(inpainted, picture(rest, camera))
            changed = (inpainted != original).any(-1)
            mask = array(path.with_name(path.name.replace("original", "mask_dialated"))) > 0
            beside += int(changed[~mask].sum())
            hidden += bool(changed.any() and not mask.any())
    assert beside > 0  # shadows reach beyond the masks
    assert hidden > 0  # and into pictures that do not show the object


def test_dilation_is_a_square_of_two_percent():
    from roborefer_spatial.synthetic.tree import _dilate

    mask = np.zeros((72, 100), dtype=bool)
    mask[10, 20] = mask[71, 99] = True
    expected = np.zeros_like(mask)
    expected[8:13, 18:23] = expected[69:, 97:] = True
    np.testing.assert_array_equal(_dilate(mask), expected)


def test_one_seed_one_tree_and_more_scenes_change_none(tree, tmp_path):
    write_scenes(tmp_path / "again", scenes=1, seed=5, splits=("train",), **SMALL)
    paths = sorted(path.relative_to(tmp_path / "again") for path in (tmp_path / "again").rglob("*.png"))
    assert len(paths) == 2 * 4 * 4
    for path in paths:
        assert (tmp_path / "again" / path).read_bytes() == (tree.root / path).read_bytes()
    write_scenes(tmp_path / "other", scenes=1, seed=6, splits=("train",), **SMALL)
    first = sorted((tmp_path / "other").rglob("*_original.png"))[0]
    assert all(first.read_bytes() != (tmp_path / "again" / path).read_bytes() for path in paths)


@pytest.mark.parametrize("wrong", [{"scenes": 0}, {"views": 1}, {"objects": 0}, {"objects": 6}, {"size_wh": (31, 100)}])
def test_numbers_out_of_range(tmp_path, wrong):
    with pytest.raises(ValueError, match="expected scenes >= 1, views >= 2, objects 1 to 5 and sides >= 32"):
        write_scenes(tmp_path, **{"scenes": 1, "seed": 0, **SMALL, **wrong})


def test_trees_do_not_mix(tree):
    with pytest.raises(ValueError, match="scenes of two runs would mix; choose a new folder"):
        write_scenes(tree.root, scenes=1, seed=9, **SMALL)


def test_a_run_that_was_killed_goes_on(tree, tmp_path):
    """A folder as a kill leaves it: the mark, a whole scene, a half one."""
    write_scenes(tmp_path, scenes=3, seed=5, **SMALL)
    first, second, third = (tmp_path / "train" / f"room_train_00{number}" for number in range(3))
    kept = next(first.rglob("*.png")).stat().st_mtime_ns
    third.rename(tmp_path / ".scene.part")
    for path in (second, tmp_path / "val"):
        shutil.rmtree(path)
    arguments = {"scenes": 3, "seed": 5, "splits": ("train", "val"), "objects": 3, **SMALL}
    arguments["size"] = arguments.pop("size_wh")
    filling(tmp_path, arguments).__enter__()
    again = write_scenes(tmp_path, scenes=3, seed=5, **SMALL)
    assert (again.uids, again.views, again.empty) == (tree.uids, tree.views, tree.empty)
    paths = [path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()]
    assert len(paths) == sum(path.is_file() for path in tree.root.rglob("*"))
    assert all((tmp_path / path).read_bytes() == (tree.root / path).read_bytes() for path in paths)
    assert next(first.rglob("*.png")).stat().st_mtime_ns == kept


def test_the_command(tmp_path, capsys):
    arguments = ["--scenes", "1", "--objects", "1", "--views", "2", "--size", "48", "36", "--seed", "3"]
    assert cli.main(["synthetic", "--out", str(tmp_path / "x3"), *arguments]) == 0
    assert "2 scenes, 2 objects, 4 views" in capsys.readouterr().out
    assert cli.main(["synthetic", "--out", str(tmp_path / "x3")]) == 2
    assert "choose a new folder" in capsys.readouterr().err
