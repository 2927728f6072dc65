"""Cameras that overlap show the same thing; files in the wrong order do not."""

import itertools
import os
from pathlib import Path

import numpy as np
import pytest
from mapanything_opv2v import panorama, rawdata
from mapanything_opv2v.geometry import Cylinder
from mapanything_opv2v.synthetic import write_town

REAL = Path(os.environ.get("OPV2V_FRAME", "nowhere"))
THRESHOLD = 0.75


def agreements(yaml_path):
    """Return the weakest agreement of the right order, and of every wrong one."""
    agent = rawdata.agent_beside(yaml_path)
    images = [rawdata.load_image(path) for path in agent.camera_paths.values()]
    meta = rawdata.load_agent_yaml(agent.yaml_path)
    rig = panorama.Rig.from_agent(meta, [(image.shape[1], image.shape[0]) for image in images])
    return {
        order: min(panorama.overlap_agreement(rig, [images[k] for k in order]).values())
        for order in itertools.permutations(range(len(images)))
    }


@pytest.mark.skipif(not REAL.is_file(), reason="set OPV2V_FRAME to the YAML of a real frame")
def test_a_real_frame_fits_together_and_no_other_order_does():
    found = agreements(REAL)
    right = found.pop((0, 1, 2, 3))
    assert right > THRESHOLD
    assert max(found.values()) < THRESHOLD


@pytest.mark.skipif(not REAL.is_file(), reason="set OPV2V_FRAME to the YAML of a real frame")
def test_the_seams_of_the_real_frame_do_not_show():
    """Blending lowers the step of brightness that a hard cut leaves between two cameras."""
    agent = rawdata.agent_beside(REAL)
    blended = panorama.load_panorama(agent, Cylinder(1008, 252), with_depth=False)
    cut = panorama.load_panorama(agent, Cylinder(1008, 252), panorama.PanoramaOptions(feather_deg=0), with_depth=False)
    rows = slice(120, 200)
    for column in (112, 896):  # around -140 and +140 degrees, where left and back, and right and back, meet
        columns = range(column - 12, column + 12)
        steps = [
            max(np.abs(np.diff(made.color[rows, c : c + 2].astype(int), axis=1)).mean() for c in columns)
            for made in (blended, cut)
        ]
        assert steps[0] < steps[1]


def test_a_synthetic_frame_fits_together_and_swapped_rear_cameras_do_not(tmp_path):
    truth = write_town(tmp_path, seed=3, agents=1, image_size=(400, 300))
    frame = rawdata.index_tree(truth.root).splits["train"][0]
    found = agreements(frame.agents[0].yaml_path)
    assert found[0, 1, 2, 3] > 0.7
    assert found[0, 2, 1, 3] < 0.5 and found[0, 1, 3, 2] < 0.5


def test_plain_overlaps_and_single_cameras():
    rig = panorama.Rig(
        tuple(
            panorama.RigCamera(np.array([[50.0, 0, 49.5], [0, 50, 49.5], [0, 0, 1]]), np.eye(4), (100, 100))
            for _ in range(2)
        )
    )
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (100, 100, 3), dtype=np.uint8)
    assert panorama.overlap_agreement(rig, [image, image])[0, 1] == pytest.approx(1, abs=1e-6)
    assert panorama.overlap_agreement(rig, [image, 255 - image])[0, 1] < 0.5
    assert panorama.overlap_agreement(rig, [image, image * 0])[0, 1] == 0
    assert panorama.overlap_agreement(panorama.Rig(rig.cameras[:1]), [image]) == {}
