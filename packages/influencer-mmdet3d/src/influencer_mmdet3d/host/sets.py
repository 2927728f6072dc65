"""Query sets that do not see each other, in a host decoder that knows of one set alone.

Shape legend: B samples, G groups, Q queries of a group, P pilots, D channels.

The host's decoder treats every query by itself but in self-attention. So all sets go through it side by side, as the
rows of one long set, and `SetsDecoder` takes them apart before self-attention and joins them after: nothing is masked,
and points are projected to keys and values once for all sets. The host's loop, heads and parameters serve unchanged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from mmengine.logging import print_log
from torch import Tensor, nn

_HEADS = ("cls_preds", "masks", "scores")


class Scene(NamedTuple):
    """What our models tell the decoder before they call it; one entry for each sample, or None.

    Attributes
    ----------
    coordinates : list of Tensor, optional
        B x (N, 3) of the voxels whose features the decoder gets.
    instances : list of Tensor, optional
        B x (K, N) bool, in training.
    """

    coordinates: list[Tensor] | None = None
    instances: list[Tensor] | None = None


class Rows(NamedTuple):
    """How the rows of a sample are put together.

    Attributes
    ----------
    sizes : list of int
        Rows of each piece, in their order.
    sets : list of list of int
        Numbers of the pieces that see each other; every piece is in one set.
    known : Tensor, optional
        (P, N) bool, what the last P rows look at instead of their own masks.
    """

    sizes: list[int]
    sets: list[list[int]]
    known: Tensor | None = None


class SetsDecoder(nn.Module):
    """Mixed into a host's decoder, before it in the bases; call `set_up` at the end of the constructor."""

    groups: int
    pilots: bool
    pilot_noise: float
    scene: Scene
    _rows: list[Rows] | None

    def set_up(self, groups: int, pilots: bool, pilot_noise: float) -> None:
        """Take the options and look into the host's self-attention."""
        name = type(self).__name__
        if isinstance(groups, bool) or not isinstance(groups, int) or groups < 1:
            raise ValueError(f"{name}: groups must be a positive integer, got {groups!r}")
        if not isinstance(pilots, bool):
            raise ValueError(f"{name}: pilots must be True or False, got {pilots!r}")
        if not 0 <= pilot_noise < 1:
            raise ValueError(f"{name}: pilot_noise must be in [0, 1), got {pilot_noise!r}")
        self.groups, self.pilots, self.pilot_noise = groups, pilots, float(pilot_noise)
        self.scene, self._rows = Scene(), None
        if groups > 1 or pilots:
            print_log(f"{name}: training with groups={groups}, pilots={pilots}; prediction as without", "current")
        for layer in self.self_attn_layers:  # type: ignore[union-attr]
            layer.register_forward_pre_hook(self._apart)
            layer.register_forward_hook(self._together)

    def _apart(self, layer: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...] | None:
        """Hand the layer every set as if it were a sample."""
        if self._rows is None:
            return None
        sets = []
        for rows, queries in zip(self._rows, inputs[0]):
            pieces = queries.split(rows.sizes)
            sets += [torch.cat([pieces[number] for number in members]) for members in rows.sets]
        return (sets,)

    def _together(self, layer: nn.Module, inputs: tuple[Any, ...], output: list[Tensor]) -> list[Tensor] | None:
        """Join the sets of every sample again, in the order of its rows."""
        if self._rows is None:
            return None
        joined, sets = [], iter(output)
        for rows in self._rows:
            pieces: list[Tensor | None] = [None] * len(rows.sizes)
            for members in rows.sets:
                parts = next(sets).split([rows.sizes[number] for number in members])
                for number, part in zip(members, parts):
                    pieces[number] = part
            joined.append(torch.cat(pieces))  # type: ignore[arg-type]
        return joined

    def _forward_head(self, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        """The host's heads; pilots look at what is known of their instance."""
        found: tuple[Any, ...] = super()._forward_head(*args, **kwargs)  # type: ignore[misc]
        unseen = found[-1]
        if self._rows is not None and unseen is not None:
            for rows, mask in zip(self._rows, unseen):
                if rows.known is not None:
                    mask[-len(rows.known) :] = ~rows.known & rows.known.any(1, keepdim=True)
        return found

    def run(self, x: Sequence[Tensor], queries: Any, rows: list[Rows], keep: Sequence[int]) -> dict[str, Any]:
        """Let the host's decoder run over all sets; return its output without what only serves inside.

        Parameters
        ----------
        x, queries
            For the host's `forward`.
        rows : list of Rows
            B entries.
        keep : sequence of int
            B numbers of first rows that the criterion gets.
        """
        self._rows = rows
        try:
            out: dict[str, Any] = super().forward(x, queries)
        finally:
            self._rows = None
        layers = [*out.get("aux_outputs", []), out]
        pilots = None
        if rows[0].known is not None:
            counts = [-len(row.known) for row in rows if row.known is not None]
            listed = [_cut(layer, [slice(count, None) for count in counts]) for layer in layers]
            pilots = {**listed[-1], "aux_outputs": listed[:-1]}
        for layer in layers:
            layer.update(_cut(layer, [slice(None, count) for count in keep]))
        if self.groups > 1:
            out["groups"] = self.groups
        if pilots is not None:
            out["pilots"] = pilots
        return out

    def draw_pilots(self, masks: Sequence[Tensor] | None, model: str) -> list[Tensor]:
        """Return the instances of this step; raises ValueError where the model does not hand them over."""
        if masks is None:
            raise ValueError(
                f"{type(self).__name__}: pilots=True needs the instances of a training step, which the host's model "
                f"does not hand to its decoder: set model.type to {model!r}"
            )
        return list(masks)

    def take_scene(self) -> Scene:
        """Return what the model has said, once."""
        scene, self.scene = self.scene, Scene()
        return scene


def _cut(layer: Mapping[str, Any], rows: Sequence[slice]) -> dict[str, list[Any]]:
    """Return some rows of the heads of a layer, a slice for each sample."""
    return {key: [None if value is None else value[part] for value, part in zip(layer[key], rows)] for key in _HEADS}
