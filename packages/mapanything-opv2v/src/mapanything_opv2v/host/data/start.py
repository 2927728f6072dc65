"""Panoramas of near vehicles first: the samples of a start (`+experiment=opv2v_start`)."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from mapanything_opv2v.host.data.base import Draw, LazyMetas
from mapanything_opv2v.host.data.cylindrical import CylindricalBase
from mapanything_opv2v.samples import choose
from mapanything_opv2v.samples.scenes import usable_cameras

_FRAMES_TRIED = 8
"""Frames in which a near partner is looked for, the one that was asked for included."""

_FRAMES_REMEMBERED = 256
"""Frames whose YAML contents a process keeps: of small panoramas from a cache, reading YAML is most of the time."""

_OPTIONS = ("partner_near_m", "partner_far_m", "partner_widen_epochs", "partner_same")


class StartBase(CylindricalBase):
    """As `OPV2VCoopCylindricalDataset`, with other vehicles that are near at first, and farther with the epochs.

    The limit grows from `partner_near_m` to `partner_far_m` over `partner_widen_epochs` epochs. Where a frame has no
    partner within the limit, up to seven frames drawn at random take its place; where none of them has one, and for a
    share of the samples at first, the main agent's own panorama is the partner: with `panorama_roll`, a turn without
    a movement. View 0's vehicle is the only one whose choice is that of the other datasets.

    Parameters
    ----------
    partner_near_m : float
        Largest distance of a partner in the first epoch, metres.
    partner_far_m : float, optional
        Largest distance at the end; None takes partners at any distance from the first epoch on.
    partner_widen_epochs : float
        Epochs until then; 0 begins with `partner_far_m`.
    partner_same : float
        Share of partners that are the main agent itself in the first epoch; none when the limit has grown.
    **options
        See `CylindricalBase`.

    Raises
    ------
    ValueError
        If an option could not act.
    """

    cooperative = True

    def __init__(
        self,
        *,
        partner_near_m: float = 8.0,
        partner_far_m: float | None = None,
        partner_widen_epochs: float = 0.0,
        partner_same: float = 0.4,
        **options: Any,
    ) -> None:
        name = type(self).__name__
        if not 0 < partner_near_m <= (math.inf if partner_far_m is None else partner_far_m):
            raise ValueError(f"{name}: {partner_near_m=}, {partner_far_m=}: expected metres, the first not the larger")
        if not 0 <= partner_widen_epochs < math.inf:
            raise ValueError(f"{name}: {partner_widen_epochs=}, expected a number of epochs, 0 or more")
        if not 0 <= partner_same <= 1:
            raise ValueError(f"{name}: {partner_same=}, expected a share from 0 to 1")
        if partner_far_m is None and partner_widen_epochs:
            raise ValueError(f"{name}: {partner_widen_epochs=} needs partner_far_m, up to which the distance grows")
        self._partner = (float(partner_near_m), partner_far_m, float(partner_widen_epochs), float(partner_same))
        self._places: dict[int, dict[int, np.ndarray]] = {}
        self._metas: dict[int, LazyMetas] = {}
        self._whole = False
        super().__init__(**options)

    @classmethod
    def _known_options(cls) -> tuple[str, ...]:
        return (*super()._known_options(), *_OPTIONS)

    def typical_sample(self, index: int) -> list[dict[str, Any]]:
        """Return a sample as the last epochs show it."""
        self._whole = True
        try:
            return self.sample(index)
        finally:
            self._whole = False

    def schedule(self) -> tuple[float, float]:
        """Return the largest distance of a partner, metres, and the share of the main agent itself, of this epoch."""
        near, far, epochs, same = self._partner
        if far is None:
            return math.inf, 0.0
        grown = 1.0 if self._whole or not epochs else min(1.0, self._epoch / epochs)
        return near + (far - near) * grown, same * (1 - grown)

    def _get_views(self, idx: int, num_views_to_sample: int, resolution: tuple[int, int]) -> list[dict[str, Any]]:
        draw = self._remembered(self._draw(idx, num_views_to_sample))
        self._rng = draw.rng
        draw, partners = self._with_partners(draw, num_views_to_sample - 1)
        cylinder = self._cylinder(resolution)
        agent_ids = (draw.main, *partners)
        return [self._panorama_view(self._draw_of(draw, agent_id), agent_id, cylinder) for agent_id in agent_ids]

    def _with_partners(self, draw: Draw, count: int) -> tuple[Draw, list[int]]:
        """Return the draw, or that of another frame, and so many partners: near vehicles, or the main agent."""
        limit, same = self.schedule()
        others: list[int] = []
        for attempt in range(_FRAMES_TRIED if same < 1 else 0):
            found = draw if attempt == 0 else self._elsewhere(draw)
            others = self._near(found, limit)
            if others:
                draw = found
                break
        rng = draw.rng
        ordered = [others[i] for i in rng.permutation(len(others))[:count]]
        ordered += [draw.main] * (count - len(ordered))
        return draw, [draw.main if rng.random() < same else agent_id for agent_id in ordered]

    def _elsewhere(self, draw: Draw) -> Draw:
        """Return the draw of another frame and main agent, with the same random stream."""
        scene = self.scenes[int(draw.rng.integers(len(self.scenes)))]
        frame, main = self.frames[scene.frame_number], scene.main
        metas = LazyMetas(frame)
        if main is None:
            policy = self.options.main_agent_policy
            assert policy is not None
            main = choose.choose_main_agent(tuple(scene.cameras), policy, draw.rng, metas.__getitem__)
        there = replace(draw, number=scene.frame_number, frame=frame, main=main, cameras=scene.cameras, metas=metas)
        return self._remembered(there)

    def _remembered(self, draw: Draw) -> Draw:
        """Return the draw with what is known of its frame's YAML files, and remember those of the first frames."""
        if len(self._metas) < _FRAMES_REMEMBERED:
            self._metas.setdefault(draw.number, draw.metas)
        return replace(draw, metas=self._metas.get(draw.number, draw.metas))

    def _near(self, draw: Draw, limit_m: float) -> list[int]:
        """Return the agents of a draw within metres of the main one, by ascending id."""
        if math.isinf(limit_m):
            return [agent_id for agent_id in sorted(draw.cameras) if agent_id != draw.main]
        if draw.number not in self._places:
            usable, _ = usable_cameras(draw.frame, self.options, self.layout)
            self._places[draw.number] = {a: np.asarray(draw.metas[a].lidar_pose[:3]) for a in usable}
        at = self._places[draw.number]
        return [
            agent_id
            for agent_id in sorted(draw.cameras)
            if agent_id != draw.main and np.linalg.norm(at[agent_id] - at[draw.main]) <= limit_m
        ]
