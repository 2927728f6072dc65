import sys

import numpy as np
import pytest
from roborefer_spatial.importing.inpainting import inpainter

PICTURE = np.full((40, 60, 3), (90, 120, 150), np.uint8)
MASK = np.zeros((40, 60), bool)
MASK[10:20, 20:30] = True
SCENE = np.where(MASK[..., None], 255, PICTURE).astype(np.uint8)


def test_opencv_fills_from_around_and_leaves_the_rest():
    filled = inpainter("opencv")(SCENE, MASK)
    assert (filled[~MASK] == SCENE[~MASK]).all()
    assert np.abs(filled[MASK].astype(int) - PICTURE[MASK]).max() <= 2


def command(text):
    return f"{sys.executable} -c '{text}' {{image}} {{mask}} {{out}}"


def test_a_command_of_ones_own():
    paint = 'a = Image.open(sys.argv[1]); Image.new("RGB", a.size, (7, 7, 7)).save(sys.argv[3])'
    grey = command(f"import sys; from PIL import Image; {paint}")
    filled = inpainter(grey)(SCENE, MASK)
    assert (filled[MASK] == 7).all()
    assert (filled[~MASK] == SCENE[~MASK]).all()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("raise SystemExit(3)", "ended with status 3 and wrote no picture: it printed nothing"),
        ('import sys; from PIL import Image; Image.new("RGB", (3, 3)).save(sys.argv[3])', r"wrote \(3, 3\) pixels"),
    ],
)
def test_a_command_that_fails(text, message):
    with pytest.raises(ValueError, match=message):
        inpainter(command(text))(SCENE, MASK)


def test_a_program_that_is_not_there():
    with pytest.raises(ValueError, match="--inpainter cannot be started"):
        inpainter("no_such_program {image} {mask} {out}")(SCENE, MASK)
