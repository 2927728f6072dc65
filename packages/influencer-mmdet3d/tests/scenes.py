"""Random inputs in the host's format, drawn from a generator."""

from __future__ import annotations

from types import SimpleNamespace

import torch


def make_masks(generator: torch.Generator, count: int, points: int) -> torch.Tensor:
    """(K, N) bool, exclusive rows, some points in none."""
    segments = torch.randint(0, count + 1, (points,), generator=generator)
    return torch.nn.functional.one_hot(segments, count + 1)[:, :count].t().bool()


def make_batch(
    seed: int = 0,
    *,
    queries=(12, 9),
    points=(60, 45),
    instances=(4, 3),
    layers: int = 3,
    classes: int = 13,
    dtype: torch.dtype = torch.float32,
    scores: bool = True,
    query_masks: bool = False,
    spread: float = 0.0,
):
    """Return (pred, insts) as the host passes them, every tensor a leaf that wants a gradient.

    `spread` sets the masks of queries apart, or over many points all queries cost nearly the same.
    """
    generator = torch.Generator().manual_seed(seed)

    def leaf(*shape: int, spread: float = 0.0) -> torch.Tensor:
        value = 2 * torch.randn(*shape, generator=generator)
        if spread:
            value += spread * torch.randn(shape[0], 1, generator=generator)
        return value.to(dtype).requires_grad_()

    def layer() -> dict:
        return {
            "cls_preds": [leaf(q, classes + 1) for q in queries],
            "masks": [leaf(q, n, spread=spread) for q, n in zip(queries, points)],
            "scores": [leaf(q, 1) if scores else None for q in queries],
        }

    aux = [layer() for _ in range(layers - 1)]
    pred = {**layer(), "aux_outputs": aux}
    insts = []
    for q, n, k in zip(queries, points, instances):
        inst = SimpleNamespace(
            sp_masks=make_masks(generator, k, n), labels_3d=torch.randint(0, classes, (k,), generator=generator)
        )
        if query_masks:
            inst.query_masks = make_masks(generator, k, q)
        insts.append(inst)
    return pred, insts


def leaves(pred: dict) -> dict[str, torch.Tensor]:
    """Name every tensor of a prediction."""
    found = {}
    for number, layer in enumerate([*pred.get("aux_outputs", []), pred]):
        for key in ("cls_preds", "masks", "scores"):
            for index, value in enumerate(layer[key]):
                if value is not None:
                    found[f"{number}.{key}.{index}"] = value
    return found


def moved(batch, device):
    """Return a batch of `make_batch` on a device, every tensor of the prediction a leaf again."""
    pred, insts = batch

    def heads(layer: dict) -> dict:
        return {
            key: [None if x is None else x.detach().to(device).requires_grad_() for x in layer[key]]
            for key in ("cls_preds", "masks", "scores")
        }

    there = {**heads(pred), "aux_outputs": [heads(layer) for layer in pred["aux_outputs"]]}
    if "groups" in pred:
        there["groups"] = pred["groups"]
    if "starts" in pred:
        there["starts"] = [x.to(device) for x in pred["starts"]]
    return there, [SimpleNamespace(**{key: x.to(device) for key, x in vars(inst).items()}) for inst in insts]
