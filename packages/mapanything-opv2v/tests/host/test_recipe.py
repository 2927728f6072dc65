"""The whole recipe on the real host, word for word: raw tree, training, predictions, evaluation, photographs."""

from __future__ import annotations

import itertools
import json
import shutil

import pytest
import recipe
from mapanything_opv2v import cli

SIZES = ("--num-views", "3", "--resolution", "56", "42", "--quiet")


@pytest.fixture(scope="module")
def work(small_town, launch, tmp_path_factory):
    """Return a folder with a raw tree, depth from LiDAR and a trained stage 2, made by the recipe's commands."""
    folder = tmp_path_factory.mktemp("recipe")
    shutil.copytree(small_town.root, folder / "OPV2V")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPV2V_ROOT", str(folder / "OPV2V"))
        patch.setenv("OPV2V_DEPTH_ROOT", str(folder / "depth"))
        patch.setenv("OPV2V_PANORAMAS", str(folder / "panoramas"))
        patch.chdir(folder)
        for words in recipe.commands("Data"):
            assert cli.main([*("1" if b == "--workers" else w for b, w in itertools.pairwise(words)), "--quiet"]) == 0
        for words in recipe.commands("Train"):
            assert words[:4] == ["python", "-m", "mapanything_opv2v.train", words[3]]
            stage = words[3].removeprefix("+experiment=opv2v_")
            done = launch(stage, folder / "experiments", roots=(folder / "OPV2V", folder / "depth"))
            assert done.returncode == 0, done.stderr[-3000:]
        yield folder


def test_predict_and_evaluate(work, tmp_path, capsys):
    for turns, (width, height) in (("photos", (80, 60)), ("turns", (128, 64))):
        make_photographs(work / turns, width, height)
    for words in recipe.commands("Predict and evaluate"):
        sizes = SIZES if "--root" in words else ("--resolution", "56", "42", "--quiet")
        if "--equirectangular" in words:
            sizes = ("--resolution", "112", "28", "--quiet")
        assert cli.main([*words[1:], *sizes]) == 0, capsys.readouterr().err
    summary = json.loads((work / "eval" / "summary.json").read_text())
    assert summary["frames"] == 4 and not summary["failed"] and summary["figures"]["depth_rmse_m"]["frames"] == 4
    assert len(list((work / "predictions").rglob("*.npz"))) == 4
    assert (work / "predicted/images/photos/000000_agent0.npz").is_file()
    assert (work / "around/images/turns/000000_agent0.npz").is_file()


def make_photographs(folder, width, height):
    import numpy as np
    from PIL import Image

    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(2):
        Image.fromarray(rng.integers(0, 255, (height, width, 3), dtype=np.uint8)).save(folder / f"{number}.jpg")
