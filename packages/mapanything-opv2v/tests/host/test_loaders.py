"""The datasets in the real host's loaders: batches, counts, epochs, registration."""

from __future__ import annotations

import pytest
import torch
from mapanything_opv2v.samples.loading import SampleError


@pytest.fixture(scope="module")
def host(datasets):
    """`mapanything.datasets` with our names in it."""
    import mapanything.datasets as host
    from mapanything_opv2v.host.register import register

    register()
    return host


def text(name, town, **options):
    options = {
        "ROOT": str(town.root),
        "depth_root": str(town.depth_root),
        "transform": "imgnorm",
        "data_norm_type": "dinov2",
        **options,
    }
    return f"{name}({', '.join(f'{key}={value!r}' for key, value in options.items())})"


CASES = {
    "OPV2VDataset_train": {"num_views": 4, "resolution": [(56, 42), (56, 28)]},
    "OPV2VCoopDataset_train": {"num_views": 8, "resolution": (56, 42)},
    "OPV2VCoopCylindricalDataset_train": {"num_views": 4, "resolution": [(112, 28), (56, 14)]},
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("workers", [0, 2])
def test_every_batch_has_the_count_that_the_sampler_asked_for(host, small_town, name, workers):
    dataset = f"60 @ {text(name, small_town, variable_num_views=True, **CASES[name])}"
    loader = host.get_train_data_loader(dataset, max_num_of_imgs_per_gpu=8, num_workers=workers, pin_mem=False)
    seen = set()
    for epoch in range(2):
        loader.dataset.set_epoch(epoch)
        loader.batch_sampler.set_epoch(epoch)
        for batch in loader:
            count, size = len(batch), len(batch[0]["label"])
            assert size == max(1, 8 // count)
            seen.add(count)
            assert (batch[0]["agent_index"] == 0).all()
            for row in range(size):
                assert len({view["label"][row] for view in batch}) == 1
                assert len({view["instance"][row] for view in batch}) == count
    assert seen == set(range(2, CASES[name]["num_views"] + 1))


def test_epochs_differ_in_workers_and_repeat(host, small_town):
    dataset = f"12 @ {text('OPV2VCoopDataset_train', small_town, num_views=3, resolution=(56, 42))}"

    def epoch(number):
        loader = host.get_train_data_loader(dataset, max_num_of_imgs_per_gpu=6, num_workers=1, pin_mem=False)
        loader.dataset.set_epoch(number)
        loader.batch_sampler.set_epoch(3)  # the same order of frames each time
        return [tuple(tuple(view["instance"]) for view in batch) for batch in loader]

    assert epoch(0) == epoch(0)
    assert epoch(0) != epoch(1)


def test_validation_is_the_same_every_time_and_reads_its_split(host, small_town):
    dataset = text("OPV2VCoopDataset_validate", small_town, num_views=4, resolution=(56, 42), seed=777)
    loader = host.get_test_data_loader(dataset, batch_size=2, num_workers=1, pin_mem=False)

    def run(epoch):
        loader.dataset.set_epoch(epoch)
        return [
            (
                tuple(batch[0]["label"]),
                tuple(tuple(v["instance"]) for v in batch),
                batch[1]["img"].sum().item(),
            )
            for batch in loader
        ]

    first = run(0)
    assert first == run(1) and len(first) == 2
    assert all(label.startswith("validate/") for labels, *_ in first for label in labels)


def test_a_bad_sample_reaches_the_caller(host, own_town, small_town):
    root, depth_root = own_town
    for path in root.rglob("*.yaml"):
        path.write_text("nothing")
    dataset = text("OPV2VDataset_train", small_town, num_views=2, resolution=(56, 42))
    dataset = dataset.replace(str(small_town.root), str(root)).replace(str(small_town.depth_root), str(depth_root))
    loader = host.get_train_data_loader(dataset, max_num_of_imgs_per_gpu=4, num_workers=1, pin_mem=False)
    loader.batch_sampler.set_epoch(0)
    with pytest.raises(SampleError, match=r"train/.* agent .* yaml: "):
        next(iter(loader))


def test_variable_counts_come_from_every_frame_that_has_them(host, small_town):
    dataset = eval(
        text(
            "OPV2VCoopCylindricalDataset_train",
            small_town,
            num_views=4,
            variable_num_views=True,
            resolution=(56, 14),
        ),
        vars(host),
    )
    labels = [dataset[(index, 0, 2)][0]["label"] for index in range(len(dataset))]
    assert len(labels) == 4 and len(set(labels)) == 3  # one frame has three vehicles only


def test_losses_accept_the_views(host, small_town):
    """The host's factored loss is finite and zero for a perfect prediction, cylinder or not."""
    from mapanything.train.losses import (
        ExcludeTopNPercentPixelLoss,
        FactoredGeometryScaleRegr3D,
        RobustRegressionLoss,
    )

    for name, size, count in (
        ("OPV2VCoopDataset", (56, 42), 3),
        ("OPV2VCoopCylindricalDataset", (112, 28), 2),
    ):
        dataset = eval(text(f"{name}_train", small_town, num_views=count, resolution=size, seed=1), vars(host))
        batch = torch.utils.data.default_collate([dataset[0], dataset[1]])
        perfect = []
        first = batch[0]["camera_pose"]
        for view in batch:
            relative = torch.linalg.inv(first.double()) @ view["camera_pose"].double()
            points = view["pts3d_cam"].double()
            world = torch.einsum("bij,bhwj->bhwi", relative[:, :3, :3], points) + relative[:, None, None, :3, 3]
            perfect.append(
                {
                    "pts3d": world.float(),
                    "pts3d_cam": view["pts3d_cam"],
                    "ray_directions": view["ray_directions_cam"],
                    "depth_along_ray": view["depth_along_ray"],
                    "cam_trans": relative[:, :3, 3].float(),
                    "cam_quats": quaternions(relative[:, :3, :3]),
                    "metric_scaling_factor": torch.ones(2, 1),
                }
            )
        geometry_loss = FactoredGeometryScaleRegr3D(
            RobustRegressionLoss(alpha=0.5, scaling_c=0.05),
            norm_mode="avg_dis",
            depth_type_for_loss="depth_along_ray",
            loss_in_log=True,
            flatten_across_image_only=True,
        )
        criterion = ExcludeTopNPercentPixelLoss(geometry_loss, top_n_percent=5, loss_set_indices=[0, 1, 2])
        loss, details = criterion(batch, perfect)
        assert torch.isfinite(loss) and loss < 1e-3, (name, details)
        for view in perfect:
            view["depth_along_ray"] = view["depth_along_ray"] * 1.3
        worse, _ = criterion(batch, perfect)
        assert worse > loss + 1e-2, (name, worse)


def quaternions(rotations):
    from scipy.spatial.transform import Rotation

    return torch.from_numpy(Rotation.from_matrix(rotations.numpy()).as_quat()).float()
