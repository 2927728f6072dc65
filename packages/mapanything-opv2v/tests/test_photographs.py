"""Folders of photographs as samples: order, size, rows of panoramas, errors that name the file."""

import numpy as np
import pytest
from mapanything_opv2v import photographs
from mapanything_opv2v.geometry import Cylinder
from PIL import Image


def save(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(image, np.uint8)).save(path)


def flat(width, height, value=100):
    return np.full((height, width, 3), value)


def test_a_folder_is_a_sample_in_natural_order(tmp_path):
    for name in ("image10.png", "image2.JPG", "notes.txt", ".hidden.png"):
        (
            save(tmp_path / "walk" / name, flat(20, 10))
            if not name.endswith("txt")
            else (tmp_path / "walk" / name).write_text("")
        )
    (folder,) = photographs.find_folders(tmp_path / "walk")
    assert folder.name == "walk" and [path.name for path in folder.paths] == ["image2.JPG", "image10.png"]
    save(tmp_path / "other" / "a.png", flat(20, 10))
    assert [folder.name for folder in photographs.find_folders(tmp_path)] == ["other", "walk"]


def test_what_is_no_sample_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no photographs"):
        photographs.find_folders(tmp_path)
    with pytest.raises(ValueError, match="not a folder"):
        photographs.find_folders(tmp_path / "nothing")
    save(tmp_path / "a.png", flat(20, 10))
    save(tmp_path / "sub" / "b.png", flat(20, 10))
    with pytest.raises(ValueError, match=r"in it and in its subfolders \(sub, \.\.\.\)"):
        photographs.find_folders(tmp_path)
    (tmp_path / "c.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"c\.png: not a readable image"):
        photographs.read(tmp_path / "c.png")


def test_photographs_are_scaled_and_cut_in_the_middle(tmp_path):
    image = flat(400, 100, 0)
    image[:, 100:300] = 200  # the middle square pair
    save(tmp_path / "a.png", image)
    save(tmp_path / "b.png", flat(30, 60, 50))
    made = photographs.load_photographs([tmp_path / "a.png", tmp_path / "b.png"], (28, 14))
    assert (
        made.shape == (2, 14, 28, 3) and np.abs(made[0, :, 2:-2].astype(int) - 200).max() <= 1 and (made[1] == 50).all()
    )
    assert photographs.load_photographs([tmp_path / "a.png"], None).shape == (1, 168, 518, 3)
    assert photographs.photograph_size(Image.new("RGB", (600, 800))) == (392, 518)


def test_the_camera_s_own_turn_is_undone(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned 90 degrees clockwise
    pixels = np.zeros((10, 20, 3), np.uint8)
    pixels[:, :10] = 255
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    upright = np.asarray(photographs.read(tmp_path / "a.png"))
    assert upright.shape == (20, 10, 3) and (upright[:10] == 255).all() and (upright[10:] == 0).all()


def test_rows_of_an_equirectangular_photograph_are_elevations(tmp_path):
    """A photograph whose brightness is its elevation: the cylinder's rows show theirs."""
    height = 180
    elevation = 90 - (np.arange(height) + 0.5) / height * 180
    save(tmp_path / "a.png", np.repeat((elevation + 90)[:, None, None], 360, axis=1).repeat(3, axis=2))
    cylinder = Cylinder(90, 36, vertical_fov_deg=60.0, elevation_center_deg=10.0)
    (made,) = photographs.load_panoramas([tmp_path / "a.png"], cylinder, equirectangular=True)
    wanted = np.degrees(cylinder.azimuth_elevation()[1]) + 90
    assert made.shape == (36, 90, 3) and np.abs(made[:, 5, 0] - wanted).max() < 1.0
    (whole,) = photographs.load_panoramas([tmp_path / "a.png"], cylinder, equirectangular=False)
    assert whole[0, 0, 0] > 170 and whole[-1, 0, 0] < 10


def test_an_equirectangular_photograph_is_twice_as_wide_as_high(tmp_path):
    save(tmp_path / "a.png", flat(100, 60))
    with pytest.raises(ValueError, match=r"a\.png: 100 x 60, an equirectangular photograph is twice as wide as high"):
        photographs.load_panoramas([tmp_path / "a.png"], Cylinder(90, 36), equirectangular=True)
