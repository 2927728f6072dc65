from __future__ import annotations

import importlib.util
import shutil
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import yaml
from mapanything_opv2v import predictions
from mapanything_opv2v.synthetic import write_town


def load_double():
    path = Path(__file__).with_name("host_double.py")
    spec = importlib.util.spec_from_file_location("opv2v_host_double", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its classes can be pickled
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def small_town(tmp_path_factory):
    """Three splits of 80 x 60 images: two sequences of two frames with three cars and a mast.

    The first frame of each split's second sequence has lost its last car: frames offer different view counts.
    """
    root = tmp_path_factory.mktemp("town")
    truth = write_town(
        root / "opv2v",
        seed=5,
        sequences=2,
        frames=2,
        agents=3,
        infrastructure=1,
        splits=("train", "validate", "test"),
        depth_root=root / "depth",
        image_size=(80, 60),
        lidar_size=(24, 256),
    )
    for split in truth.splits:
        for tree in (truth.root, truth.depth_root):
            for path in (tree / split / truth.sequences[1] / str(truth.agents[-1])).glob(f"{truth.frames[0]}*"):
                path.unlink()
    return truth


@pytest.fixture
def own_town(small_town, tmp_path):
    """Return (root, depth_root): a copy of the town that a test may damage."""
    shutil.copytree(small_town.root, tmp_path / "opv2v")
    shutil.copytree(small_town.depth_root, tmp_path / "depth")
    return tmp_path / "opv2v", tmp_path / "depth"


@pytest.fixture
def double_host(monkeypatch):
    """Return `mapanything_opv2v.host.datasets`, imported against the double of the host."""
    double = load_double()
    double.clear()
    for name, module in double.modules().items():
        monkeypatch.setitem(sys.modules, name, module)
    from mapanything_opv2v.host import datasets

    yield datasets
    double.clear()


@pytest.fixture
def host_configs(tmp_path, double_host, small_town, monkeypatch):
    """Return a context in which Hydra composes from given files of the host, our plugin being active."""
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    @contextmanager
    def entered(files):
        for name, text in files.items():
            path = tmp_path / "configs" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(yaml.safe_dump(yaml.safe_load(text)))
        monkeypatch.setenv("OPV2V_ROOT", str(small_town.root))
        monkeypatch.setenv("OPV2V_DEPTH_ROOT", str(small_town.depth_root))
        GlobalHydra.instance().clear()
        with initialize_config_dir(str(tmp_path / "configs"), version_base=None):
            yield

    return entered


@pytest.fixture(scope="session")
def town_yaml(small_town):
    """Return the YAML of the lowest vehicle at the first test frame: three cars and a mast."""
    sequence, agent = small_town.sequences[0], min(agent for agent in small_town.agents if agent >= 0)
    return small_town.root / "test" / sequence / str(agent) / f"{small_town.frames[0]}.yaml"


@pytest.fixture(scope="session")
def town_predictions(small_town, town_yaml, tmp_path_factory):
    """Return a file of predictions of two cars' cameras 0 and 3, wrong in a known way.

    Ranges are 1.1 times the true ones, views after the first stand 0.5 m too far to the right, the model's world is
    view 0's camera.
    """
    from mapanything_opv2v.views.sources import RawOptions, load_raw_frame

    agents = sorted(agent for agent in small_town.agents if agent >= 0)[:2]
    options = RawOptions(depth_root=small_town.depth_root, agents=agents, camera_ids=[0, 3])
    frame = load_raw_frame(town_yaml, options)
    true = np.stack([view.true.T_world_cam for view in frame.views])
    pred = np.linalg.inv(true[0]) @ true
    pred[1:, :3, 3] += (0.5, 0, 0)
    range_true = np.stack([np.maximum(view.true.range_m, 0) for view in frame.views])
    meta = predictions.FrameMeta(
        split="test",
        sequence=small_town.sequences[0],
        frame=small_town.frames[0],
        layout="pinhole",
        agents=tuple(view.agent_id for view in frame.views),
        cameras=(0, 3, 0, 3),
        checkpoint="checkpoint-best.pth",
        config="opv2v_coop_ft",
        commit="f7ebafb",
    )
    made = predictions.FramePredictions(
        meta=meta,
        image=np.stack([view.image for view in frame.views]),
        range_m=(1.1 * range_true).astype(np.float32),
        rays=np.stack([view.true.rays for view in frame.views]).astype(np.float32),
        mask=range_true > 0,
        pose_world_cam_pred=pred,
        metric_scale=2.5,
        range_m_true=range_true.astype(np.float32),
        mask_true=range_true > 0,
        pose_world_cam_true=true,
        intrinsics_true=np.stack([view.camera.intrinsic for view in frame.views]),
        boxes_world_true=np.stack(list(frame.boxes.values())),
        box_ids=np.array(list(frame.boxes)),
    )
    return predictions.save_predictions(tmp_path_factory.mktemp("predictions"), made)
