"""What the four OPV2V datasets share: options, index, view 0, random streams, errors that stop the run."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from mapanything.datasets.base.base_dataset import BaseDataset

from mapanything_opv2v.host.data.epochs import EpochMulDataset, EpochResizedDataset, StepsChecked
from mapanything_opv2v.rawdata import SPLITS, AgentMeta, FrameRecord, Vehicle, index_tree
from mapanything_opv2v.rawdata.exclude import KNOWN
from mapanything_opv2v.samples import choose, scenes
from mapanything_opv2v.samples.loading import SampleError, load_meta

logger = logging.getLogger(__name__)

_HOST_OPTIONS = tuple(name for name in inspect.signature(BaseDataset.__init__).parameters if name != "self")
_DEFAULT_RETRIES = 5
_MAX_WORKERS = 1024


@dataclass(frozen=True)
class Draw:
    """One sample before its images are read.

    Attributes
    ----------
    number
        The frame's position in the split.
    frame
        The frame.
    main
        Id of the agent whose view is view 0.
    cameras
        What each agent that may appear offers.
    metas
        YAML contents by agent id, read on first use.
    rng
        The sample's random stream.
    """

    number: int
    frame: FrameRecord
    main: int
    cameras: choose.Cameras
    metas: LazyMetas
    rng: np.random.Generator

    def agent_index(self, agent_id: int) -> int:
        """Return the agent's number in the sample: 0 is the main agent, the others follow by ascending id."""
        return [self.main, *sorted(set(self.cameras) - {self.main})].index(agent_id)


class LazyMetas(dict[int, AgentMeta]):
    """YAML contents of a frame by agent id; an agent that is never asked for is never read."""

    def __init__(self, frame: FrameRecord) -> None:
        super().__init__()
        self.frame = frame

    def __missing__(self, agent_id: int) -> AgentMeta:
        """Read the agent's YAML and keep it."""
        self[agent_id] = load_meta(self.frame, agent_id)
        return self[agent_id]


class OPV2VBase(StepsChecked, BaseDataset):
    """An OPV2V or V2XSet split as MapAnything samples. Use one of the four subclasses.

    Parameters
    ----------
    ROOT : str or Path
        Tree with `{split}/{sequence}/{agent}/{frame}...` or `{split}/{sequence}/rig.yaml`, or one `rig.yaml`, which
        is the split that is asked for. Of rigs all cameras are used unless `camera_ids` says which.
    split : str
        `train`, `validate`, `test` or `test_culvercity`.
    depth_root : str or Path, optional
        Tree of depth maps; default `ROOT`.
    strict : bool
        True: missing files stop the construction and a bad sample stops the run, both by name. False: they
        are logged and counted (`substituted`), and another sample of as many views takes the place.
    index_cache : str or Path, optional
        Folder in which the tree's index is kept.
    exclude : str or list of str
        Sequences, frames and agents to leave out, or a file of them (`rawdata.exclude`); by default what is known to
        be broken in the published data. `none` leaves nothing out.
    png_units_per_m : float, optional
        Scale of this data set's 16-bit depth PNGs that state none.
    **options
        Fields of `choose.SampleOptions` (`camera_ids`, `include_agents`, `main_agent`,
        `main_agent_policy`, `min_agents`, `min_num_views`, `max_num_views`, `max_scenes`, `need_depth`) and the
        host's own
        (`num_views`, `variable_num_views`, `resolution`, `principal_point_centered`, `transform`,
        `data_norm_type`, `aug_crop`, `seed`, `max_num_retries`). `seed=None` draws anew every epoch; any
        integer, 0 too, fixes every sample.

    Raises
    ------
    ValueError
        Unknown or contradicting options (all known ones are named), no scene, a view count nobody offers.
    SampleError
        `strict=True` and files are missing.
    """

    cooperative: ClassVar[bool]
    """Whether a sample shows several vehicles."""
    layout: ClassVar[str]
    """`pinhole` (a view is a camera) or `panorama` (a view is a vehicle)."""
    time_offset: int = 0
    """Other vehicles' views are so many recorded frames older than the main one's (`samples.perturb`)."""
    only_split: ClassVar[str | None] = None
    """The one split that a class reads; None lets the caller choose."""

    def __init__(
        self,
        *,
        ROOT: str | Path,
        split: str | None = None,
        depth_root: str | Path | None = None,
        strict: bool = True,
        index_cache: str | Path | None = None,
        exclude: str | Sequence[str] | None = KNOWN,
        png_units_per_m: float | None = None,
        **options: Any,
    ) -> None:
        sample_names = choose.SampleOptions.names()
        choose.reject_unknown(options, self._known_options(), what=type(self).__name__)
        sample = {name: options.pop(name) for name in sample_names if name in options}
        sample.setdefault("min_agents", 2 if self.cooperative else 1)
        self.options = choose.SampleOptions(**sample)
        self.strict = strict
        split = self._checked_split(split)
        super().__init__(split=split, **self._host_options(options))
        self.num_views = choose.view_counts(
            options["num_views"],
            self.variable_num_views,
            self.options.min_num_views,
            self.options.max_num_views,
        )
        self.num_views_min = self.num_views if isinstance(self.num_views, int) else self.num_views[0]
        self.is_metric_scale = True
        self.is_synthetic = True
        self._epoch = 0
        self._substitutions = torch.zeros(_MAX_WORKERS, dtype=torch.int64).share_memory_()
        self.tree = index_tree(
            ROOT,
            depth_root=depth_root,
            splits=[split],
            cache_dir=index_cache,
            exclude=exclude,
            png_units_per_m=png_units_per_m,
        )
        for left in self.tree.excluded:
            logger.warning("%s: %s", type(self).__name__, left)
        if self.tree.rig_cameras:
            self.is_synthetic = False
            if "camera_ids" not in sample:
                self.options = replace(self.options, camera_ids=self.tree.rig_cameras)
        self._load_data()

    @classmethod
    def _known_options(cls) -> tuple[str, ...]:
        own = ("ROOT", "split", "depth_root", "strict", "index_cache", "exclude", "png_units_per_m")
        return tuple(dict.fromkeys((*own, *choose.SampleOptions.names(), *_HOST_OPTIONS)))

    def _checked_split(self, split: str | None) -> str:
        if self.only_split is not None and split not in (None, self.only_split):
            raise ValueError(f"{type(self).__name__} reads the split {self.only_split!r} only, got split={split!r}")
        chosen = self.only_split or split
        if chosen not in SPLITS:
            raise ValueError(f"split={chosen!r}: expected one of {', '.join(SPLITS)}")
        return chosen

    def _host_options(self, options: dict[str, Any]) -> dict[str, Any]:
        """Return the host's keyword arguments; what cannot act on OPV2V raises."""
        if options.get("covisibility_thres") is not None:
            raise ValueError("covisibility_thres: OPV2V has no covisibility matrices; leave it out")
        if "num_views" not in options:
            raise ValueError(f"{type(self).__name__}: num_views is missing; give the number of views of a sample")
        retries = options.get("max_num_retries")
        if self.strict and retries:
            raise ValueError(f"max_num_retries={retries} needs strict=False: strict=True stops at the first error")
        if retries is None:
            retries = 0 if self.strict else _DEFAULT_RETRIES
        return {**options, "max_num_retries": retries}

    def _load_data(self) -> None:
        """Index the split by names; the host's `scenes` are what an index stands for."""
        self.frames = self.tree.splits[self.split]
        self.index = scenes.resolve_scenes(
            self.frames,
            self.options,
            cooperative=self.cooperative,
            layout=self.layout,
            counts=self.num_views,
            on_missing=self._report_missing,
        )
        for reason, number in self.index.left_out.items():
            logger.info("%s: left out %d x %s", type(self).__name__, number, reason)
        self.scenes = self.index.scenes
        self.num_of_scenes = len(self.scenes)

    def _report_missing(self, number: int, first: list[str]) -> None:
        named = "; ".join(first)
        message = f"{type(self).__name__}: {number} files are missing in {self.tree.root}, first: {named}"
        if self.strict:
            raise SampleError(
                f"{message}. List all with `mapanything-opv2v check`, make depth maps with "
                "`mapanything-opv2v depth`, point depth_root at them (a rig.yaml names its own: `depth`), do without "
                "with need_depth=False (commands: --option need_depth=False), leave these out by name with "
                "exclude=[...], or all of them with strict=False"
            )
        logger.warning("%s; these views are left out", message)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose random choices are made where `seed` is None."""
        self._epoch = int(epoch)

    def __rmatmul__(self, factor: int) -> EpochResizedDataset:
        """Return `factor @ self` that knows its epoch."""
        return EpochResizedDataset(factor, self)

    def __rmul__(self, factor: int) -> EpochMulDataset:
        """Return `factor * self` that draws every repetition anew."""
        return EpochMulDataset(factor, self)

    def _draw(self, index: int, count: int) -> Draw:
        """Choose frame, main agent and random stream of a sample; reads no image."""
        scene = self.index.scene(index, count)
        frame = self.frames[scene.frame_number]
        varies = ("epoch", self._epoch) if self.seed is None else ("seed", int(self.seed))
        keys: tuple[object, ...] = (*varies, int(self._seed_offset), frame.name)
        metas = LazyMetas(frame)
        main = scene.main
        if main is None:
            policy = self.options.main_agent_policy
            assert policy is not None
            rng = choose.sample_rng(*keys, "main agent")
            main = choose.choose_main_agent(tuple(scene.cameras), policy, rng, metas.__getitem__)
        stands_in = None if self.index.scenes[index] is scene else int(index)
        cameras = scene.cameras if self.cooperative else {main: scene.cameras[main]}
        return Draw(scene.frame_number, frame, main, cameras, metas, choose.sample_rng(*keys, main, count, stands_in))

    def _draw_of(self, draw: Draw, agent_id: int) -> Draw:
        """Return what an agent's view is read from: the sample's frame, or an older one."""
        if not self.time_offset or agent_id == draw.main:
            return draw
        earlier = self._earlier(draw)
        if earlier is None:
            raise SampleError(f"{draw.frame.name}: its sequence has no frame {self.time_offset} before it")
        return replace(draw, frame=earlier, metas=LazyMetas(earlier))

    def _earlier(self, draw: Draw) -> FrameRecord | None:
        if draw.number < self.time_offset:
            return None
        earlier = self.frames[draw.number - self.time_offset]
        return earlier if earlier.sequence == draw.frame.sequence else None

    def reaches_back(self, index: int) -> bool:
        """Say whether every other vehicle of a sample has its views `time_offset` frames before; by names only."""
        draw = self._draw(index, self._counts()[0])
        earlier = self._earlier(draw)
        if earlier is None:
            return False
        there, _ = scenes.usable_cameras(earlier, self.options, self.layout)
        others = (agent_id for agent_id in draw.cameras if agent_id != draw.main)
        return all(set(draw.cameras[agent_id]) <= set(there.get(agent_id, ())) for agent_id in others)

    def vehicles(self, index: int, count: int | None = None) -> dict[int, Vehicle]:
        """Return the annotated vehicles of a sample's frame, by actor id, CARLA map frame.

        The lists of all agents that may appear in the sample are united; where two list the same vehicle, the
        main agent's entry stands, then that of the lowest id.
        """
        draw = self._draw(index, count or self._counts()[0])
        united: dict[int, Vehicle] = {}
        for agent_id in sorted(draw.cameras, key=draw.agent_index):
            for vehicle_id, vehicle in draw.metas[agent_id].vehicles.items():
                united.setdefault(vehicle_id, vehicle)
        return united

    def _counts(self) -> list[int]:
        return [self.num_views] if isinstance(self.num_views, int) else self.num_views

    def _parse_index(self, idx: int | tuple[int, ...]) -> tuple[int, int, int]:
        """Return (scene index, resolution number, view count) of what a sampler asks for.

        Raises
        ------
        ValueError
            If a plain integer is asked of a dataset with several resolutions or view counts.
        IndexError
            If there is no such scene.
        """
        counts = self._counts()
        if not isinstance(idx, tuple):
            if len(self._resolutions) > 1 or len(counts) > 1:
                raise ValueError(
                    f"index {idx!r}: a dataset of resolutions {self._resolutions} and view counts {counts} "
                    "is asked with (index, resolution number, view count number)"
                )
            idx = (int(idx), 0)
        index, resolution_number, *count_number = (int(part) for part in idx)
        if not 0 <= index < len(self):
            raise IndexError(f"index {index} of a dataset of {len(self)} scenes")
        return index, resolution_number, counts[count_number[0]] if count_number else counts[0]

    def sample_name(self, index: int) -> str:
        """Return `split/sequence/frame_agentID` of a sample with the smallest view count; reads no image."""
        draw = self._draw(index, self._counts()[0])
        return f"{draw.frame.name}_agent{draw.main}"

    def sample(self, index: int) -> list[dict[str, Any]]:
        """Return exactly this sample, of the smallest view count and the first resolution; never another one.

        Raises
        ------
        SampleError
            If it cannot be made, whatever `strict` says; names the frame.
        """
        idx = (index, 0) if isinstance(self.num_views, int) else (index, 0, 0)
        self._parse_index(idx)
        with self._naming(idx):
            return self._getitem_fn(idx)

    def typical_sample(self, index: int) -> list[dict[str, Any]]:
        """Return a sample that is like those of any epoch; what a constant is fitted on."""
        return self.sample(index)

    def __getitem__(self, idx: int | tuple[int, ...]) -> list[dict[str, Any]]:
        """Return the views of a sample; unlike the host's, never another sample without saying so."""
        self._parse_index(idx)  # what was asked is checked before what the files hold
        for attempt in range(self.max_num_retries + 1):
            try:
                with self._naming(idx):
                    return self._getitem_fn(idx)
            except SampleError as error:
                if attempt == self.max_num_retries:
                    raise
                idx = self._substitute(idx, attempt, error)
        raise AssertionError("the loop returns or raises")

    @contextmanager
    def _naming(self, idx: int | tuple[int, ...]) -> Iterator[None]:
        """Name the frame in errors that do not name it themselves (the host's assertions)."""
        try:
            yield
        except SampleError:
            raise
        except Exception as error:
            index, _, count = self._parse_index(idx)
            frame = self.frames[self.index.scene(index, count).frame_number]
            raise SampleError(
                f"{frame.name} (index {index}, {count} views): {type(error).__name__}: {error}"
            ) from error

    def _substitute(self, idx: int | tuple[int, ...], attempt: int, error: SampleError) -> int | tuple[int, ...]:
        """Log and count a bad sample and return the index that takes its place, with the same tail."""
        worker = torch.utils.data.get_worker_info()
        # one writer per slot, so that no count is lost
        slot = 0 if worker is None else 1 + worker.id % (_MAX_WORKERS - 1)
        self._substitutions[slot] += 1
        number = int(idx[0] if isinstance(idx, tuple) else idx)
        other = int(choose.sample_rng("substitute", number, attempt).integers(len(self)))
        logger.warning("bad sample, index %d is used instead of %d: %s", other, number, error)
        return (other, *idx[1:]) if isinstance(idx, tuple) else other

    @property
    def substituted(self) -> int:
        """Bad samples that were replaced so far, in this process and its loader workers (strict=False)."""
        return int(self._substitutions.sum())
