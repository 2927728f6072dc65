"""The voxel size stands twice in the host's configs: both must agree."""

import pytest
from influencer_mmdet3d.host.voxels import check_voxels


def pipeline(size, keys=("points", "elastic_coords")):
    return [dict(type="Load"), dict(type="ElasticTransfrom", voxel_size=size), dict(type="Pack", keys=list(keys))]


def config(dataset, size=0.1):
    return dict(model=dict(voxel_size=size), train_dataloader=dict(dataset=dataset))


@pytest.mark.parametrize(
    "cfg",
    [
        config(dict(pipeline=pipeline(0.1))),
        config(dict(pipeline=pipeline(0.02, keys=("points",)))),  # these voxels never reach the model
        config(dict(pipeline=[dict(type="Load")])),
        config(dict(pipeline=pipeline(0.02)), None),
        dict(model=dict(voxel_size=0.1)),
        dict(),
    ],
)
def test_what_is_fine(cfg):
    check_voxels(cfg)


@pytest.mark.parametrize(
    ("dataset", "place"),
    [
        (dict(pipeline=pipeline(0.02)), "train_dataloader.dataset.pipeline.1"),
        (
            dict(datasets=[dict(pipeline=pipeline(0.1)), dict(dataset=dict(pipeline=pipeline(0.02)))]),
            "train_dataloader.dataset.datasets.1.dataset.pipeline.1",
        ),
    ],
)
def test_two_sizes_are_refused_with_the_options_that_mend_it(dataset, place):
    with pytest.raises(ValueError, match="model.voxel_size is 0.1 m and") as caught:
        check_voxels(config(dataset))
    assert f"{place}.voxel_size (ElasticTransfrom) is 0.02 m" in str(caught.value)
    assert f"--cfg-options model.voxel_size=0.1 {place}.voxel_size=0.1" in str(caught.value)
