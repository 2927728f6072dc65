import numpy as np
import pytest
from PIL import Image
from roborefer_spatial.importing import layouts
from roborefer_spatial.importing.ply import read_vertices


def plain(folder, numbers, pose="1 0 0 0\n0 1 0 0\n0 0 1 0\n0 0 0 1\n"):
    folder.mkdir(parents=True)
    for number in numbers:
        stem = folder / f"frame-{number:06d}"
        Image.fromarray(np.zeros((4, 6, 3), np.uint8)).save(f"{stem}.color.png")
        Image.fromarray(np.zeros((4, 6), np.uint16)).save(f"{stem}.depth.png")
        (folder / f"frame-{number:06d}.pose.txt").write_text(pose)


def test_7_scenes_folders_are_found_and_one_room_keeps_its_name(tmp_path):
    plain(tmp_path / "chess" / "seq-01", [0, 25])
    plain(tmp_path / "chess" / "seq-02", [0])
    found = layouts.find(tmp_path)
    loaded = [layouts.load(folder, layout, "auto", tmp_path) for folder, layout in found]
    assert [(one.scene, one.room, len(one.frames)) for one in loaded] == [
        ("chess_seq-01", "chess", 2),
        ("chess_seq-02", "chess", 1),
    ]
    assert loaded[0].k_color[0, 0] == 585
    assert not loaded[0].has_instances


def test_frames_without_a_finite_pose_are_left_out(tmp_path):
    plain(tmp_path / "room", [0], "-inf -inf -inf -inf\n" * 4)
    with pytest.raises(ValueError, match="room: no frame with colour, depth and a finite pose"):
        layouts.load(tmp_path / "room", "7scenes", "auto", tmp_path)


def test_instances_that_are_not_there(tmp_path):
    plain(tmp_path / "room", [0])
    with pytest.raises(ValueError, match="--instances frames needs instance-filt/N.png or frame-N.instance.png"):
        layouts.load(tmp_path / "room", "7scenes", "frames", tmp_path)


@pytest.mark.parametrize("text", ["1 2\n3 4\n", "1 2 3\n4 5 x\n7 8 9\n"])
def test_a_matrix_that_is_none(tmp_path, text):
    (tmp_path / "k.txt").write_text(text)
    with pytest.raises(ValueError, match="expected a matrix of 3x3 numbers"):
        layouts.read_matrix(tmp_path / "k.txt", (3, 3))


PROPERTIES = "".join(f"property {name}\n" for name in ("float x", "float y", "double z", "uchar red"))
HEAD = "ply\nformat {}\ncomment x\nelement vertex 2\n" + PROPERTIES + "end_header\n"


def test_vertices_of_every_form(tmp_path):
    path, true = tmp_path / "a.ply", [[1, 2, 3], [4, 5, 6.5]]
    path.write_text(HEAD.format("ascii 1.0") + "1 2 3 255\n4 5 6.5 0\n")
    assert read_vertices(path).tolist() == true
    for order, name in (("<", "little"), (">", "big")):
        table = np.array(
            [(1, 2, 3, 9), (4, 5, 6.5, 9)], [("x", order + "f4"), ("y", order + "f4"), ("z", order + "f8"), ("r", "u1")]
        )
        path.write_bytes(HEAD.format(f"binary_{name}_endian 1.0").encode() + table.tobytes())
        assert read_vertices(path).tolist() == true
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match="ends before its last of 2 vertices"):
        read_vertices(path)
    path.write_text("ply\nformat ascii 1.0\nelement face 1\nend_header\n")
    with pytest.raises(ValueError, match="its first element is face, expected vertex"):
        read_vertices(path)
    path.write_text("obj")
    with pytest.raises(ValueError, match="not a PLY file"):
        read_vertices(path)
