"""What our decoders tell the criterion beside the host's own output: groups, starts and pilots.

Shape legend: B samples, G groups, Q queries of a group, N points (voxels or superpoints), K instances, S known starts.

The host's wrappers hand the decoder's dict on as it is, so three more keys reach the criterion:

* ``groups``: G; the rows of every output are G query sets of the same size, one after the other, each of which is
  supervised as if it were alone. Only the first one predicts.
* ``starts``: B x (S,) int64, the point at which each of the last S queries starts. The first G Q - S queries are those
  that the host chose itself: its `query_masks` speak of them.
* ``pilots``: an output like the decoder's own of denoising queries, number k of which is for instance k.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


def group_count(pred: Mapping[str, Any]) -> int:
    """Return G, 1 where the decoder says nothing; raises ValueError unless it is a positive integer."""
    groups = pred.get("groups", 1)
    if isinstance(groups, bool) or not isinstance(groups, int) or groups < 1:
        raise ValueError(f"pred['groups'] must be a positive integer, got {groups!r}")
    return groups


def query_masks(
    pred: Mapping[str, Any], given: Tensor | None, targets: Tensor, index: int, rows: int, groups: int
) -> Tensor | None:
    """Return which queries may answer for which instance, (K, rows) bool, or None where nothing restricts them.

    A query may answer for the instance that it starts in; where no query of a group starts in an instance, all of the
    group may. What the host says of its own queries stays as it is.

    Parameters
    ----------
    pred : mapping
        The decoder's output.
    given : Tensor, optional
        The host's `query_masks`, (K, rows - S).
    targets : Tensor
        (K, N) bool.
    index : int
        Number of the sample, for messages.
    rows, groups : int
        Queries of all groups, and G.
    """
    if rows % groups:
        raise ValueError(f"sample {index}: {rows} queries do not divide into {groups} groups")
    if pred.get("starts") is None:
        return given
    starts, size = pred["starts"][index], rows // groups
    if starts.ndim != 1 or starts.dtype != torch.int64 or len(starts) > rows or len(starts) % size:
        raise ValueError(
            f"sample {index}: pred['starts'] must hold int64 numbers of points for whole groups of {size} out of "
            f"{rows} queries, got {starts.dtype} {tuple(starts.shape)}"
        )
    inside = targets[:, starts].unflatten(1, (-1, size)) if len(starts) else targets[:, :0].unsqueeze(2)
    inside = (inside | ~inside.any(2, keepdim=True)).flatten(1)
    known = rows - len(starts)
    if given is None:
        given = inside.new_ones(len(targets), known)
    elif given.shape != (len(targets), known):
        raise ValueError(
            f"sample {index}: query_masks must have shape {(len(targets), known)}, got {tuple(given.shape)}"
        )
    return torch.cat([given, inside], 1)


def own_instance_only(instances: int, pilots: int, device: torch.device) -> Tensor:
    """Return the (K, pilots) `query_masks` of denoising queries: number k may answer for instance k alone."""
    return torch.eye(instances, pilots, dtype=torch.bool, device=device)
