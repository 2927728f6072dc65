"""Small batches and predictions for the tests of the learning benchmark."""

import torch
from benchmark_files import FOLDER, load

load("geomean")
load("learning", FOLDER / "learning" / "__init__.py", submodule_search_locations=[str(FOLDER / "learning")])
from learning import data, network, settings  # noqa: E402

TINY = settings.Settings(
    steps=8, batch=2, points=256, room_points=1024, rooms=3, held_out=2, queries_per_instance=2, evaluations=2,
    width=16, encoder_width=8, heads=2, layers=1, voxel=0.4, min_points=10,
)  # fmt: skip
WEIGHTS = (0.5, 1.0, 1.0, 0.5)


def made_batch(seed=0, samples=2, points=60, instances=5, queries=9, classes=4):
    """All instances but the last are in every sample."""
    generator = torch.Generator().manual_seed(seed)
    segments = torch.randint(0, instances - 1, (samples, points), generator=generator)
    present = torch.arange(instances).expand(samples, -1) < instances - 1
    labels = torch.randint(0, classes, (samples, instances), generator=generator)
    seeds = torch.randint(0, points, (samples, queries), generator=generator)
    return data.Batch(torch.rand(samples, points, 6, generator=generator), segments, labels, present, seeds)


def made_layers(batch, count=3, classes=4, extra=0, seed=1):
    generator = torch.Generator().manual_seed(seed)
    samples, queries = batch.seeds.shape

    def leaf(*shape):
        return (2 * torch.randn(samples, queries + extra, *shape, generator=generator)).requires_grad_()

    return [network.Heads(leaf(classes + 1), leaf(batch.points.shape[1]), leaf(1)) for _ in range(count)]
