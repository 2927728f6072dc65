import os
from pathlib import Path

import pytest


def pytest_configure(config):
    root = Path(os.environ.get("ONEFORMER3D_ROOT", ""))
    if not (root / "oneformer3d" / "__init__.py").is_file():
        raise pytest.UsageError(
            "tests/host need the real host: set ONEFORMER3D_ROOT to a checkout of filaPro/oneformer3d "
            "(nox -s host-influencer-mmdet3d prints how to get it at its pin)"
        )
    os.environ["TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"] = "1"  # mmengine checkpoints hold more than tensors
    import cpu_host  # noqa: F401  before the host is imported


@pytest.fixture(scope="session")
def s3dis_root(tmp_path_factory):
    from influencer_mmdet3d.data.synthetic import write_s3dis

    root = tmp_path_factory.mktemp("s3dis")
    write_s3dis(root, areas=[1], rooms_per_area=4, seed=0, points_per_room=10_000, objects=(6, 12))
    return root


@pytest.fixture(scope="session")
def scannet_root(tmp_path_factory):
    from influencer_mmdet3d.data.synthetic import write_scannet

    root = tmp_path_factory.mktemp("scannet")
    write_scannet(root, scenes={"train": 4, "val": 1}, seed=0, points_per_scene=4_000, objects=(6, 12))
    return root
