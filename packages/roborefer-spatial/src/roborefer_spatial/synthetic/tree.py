"""Synthetic indoor scenes in the x3 layout: several cameras, true masks, and each object's removal.

Every scene is a furnished room (`rooms`) seen by the same cameras for each of its objects (`uid_*`). A mask
says exactly which pixels show the object; it is empty where the object is out of view or hidden. The
inpainted picture is the room rendered without the object, its shadow gone, too: no trace says where it stood.
Its sensor noise is new inside the dilated mask and the original's elsewhere, as inpainting leaves it.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from roborefer_spatial import files, terminal
from roborefer_spatial.files import write_bytes
from roborefer_spatial.synthetic.raycast import Camera
from roborefer_spatial.synthetic.rooms import Room, cameras, furnish, shoot
from roborefer_spatial.tasks.png import encode_png

_ATTEMPTS = 200
_PROBE_WIDTH = 80
_NOISE = 2.0
_DILATION = 0.02


@dataclass(frozen=True, slots=True)
class SyntheticTree:
    """What `write_scenes` wrote: the root, and its numbers of scenes, objects, views and empty masks."""

    root: Path
    scenes: int
    uids: int
    views: int
    empty: int


def write_scenes(
    root: Path,
    *,
    scenes: int,
    seed: int,
    size_wh: tuple[int, int] = (640, 480),
    views: int = 5,
    splits: Sequence[str] = ("train", "val"),
    objects: int = 3,
    progress: bool = False,
) -> SyntheticTree:
    """Render scenes into `root` in the x3 layout (`scenes` describes it).

    View 01 shows the object largest; in every scene at least one object is out of sight in some view.

    Parameters
    ----------
    root
        Folder of the tree; its split folders must not exist yet, unless an earlier run with the same arguments was
        killed: then this one goes on, and keeps the scenes that are there.
    scenes
        Number of scenes in each split.
    seed
        Decides everything; a scene depends on the seed, its split and its number, not on how many there are.
    size_wh
        (width, height) of the images in pixels, at least 32 each.
    views
        Cameras in each scene, at least 2.
    splits
        Names of the split folders.
    objects
        Objects (`uid_*`) in each scene, 1 to 5.
    progress
        Whether to show a progress bar.

    Raises
    ------
    ValueError
        A number is out of range, or a split folder exists.
    """
    if scenes < 1 or views < 2 or not 1 <= objects <= 5 or min(size_wh) < 32:
        raise ValueError(
            f"expected scenes >= 1, views >= 2, objects 1 to 5 and sides >= 32 pixels; "
            f"got scenes={scenes}, views={views}, objects={objects}, size {size_wh}"
        )
    root = Path(root)
    for split in splits:
        if (root / split).exists() and not files.is_unfinished(root):
            raise ValueError(f"{root / split} exists: scenes of two runs would mix; choose a new folder")
    jobs = [(split, number) for split in splits for number in range(scenes)]
    arguments = {"scenes": scenes, "seed": seed, "size": size_wh, "views": views, "splits": splits, "objects": objects}
    with files.filling(root, arguments):
        for split, number in terminal.progress(jobs, description="rendering scenes", unit="scene", quiet=not progress):
            folder = root / split / f"room_{split}_{number:03d}"
            if not folder.exists():
                rng = np.random.default_rng(list(hashlib.sha256(f"{seed}/{split}/{number}".encode()).digest()))
                _write_whole_scene(folder, root / ".scene.part", rng, _scene(rng, views, size_wh, objects))
        masks = [path for split in splits for path in (root / split).glob("*/uid_*/*_mask.png")]
        empty = sum(Image.open(path).getbbox() is None for path in masks)
    return SyntheticTree(root, len(jobs), len(jobs) * objects, len(masks), empty)


def _write_whole_scene(
    folder: Path, work: Path, rng: np.random.Generator, scene: tuple[Room, list[Camera], list[int]]
) -> None:
    """Write a scene into `work`, and move it to `folder` when it is whole."""
    if work.exists():  # of a run that was killed
        shutil.rmtree(work)
    _write_scene(work, rng, *scene)
    folder.parent.mkdir(exist_ok=True)
    work.replace(folder)


def _scene(
    rng: np.random.Generator, views: int, size_wh: tuple[int, int], objects: int
) -> tuple[Room, list[Camera], list[int]]:
    """Return a room, cameras, objects; each shows in two views (of two: in one), one of them not in all."""
    scale = min(1.0, _PROBE_WIDTH / size_wh[0])
    probe_wh = (max(round(size_wh[0] * scale), 1), max(round(size_wh[1] * scale), 1))
    for _ in range(_ATTEMPTS):
        room = furnish(rng, objects + int(rng.integers(2, 4)))
        seats = cameras(rng, room, views, size_wh)
        probes = [Camera(c.position, c.target, c.focal_px * scale, probe_wh) for c in seats]
        shown = np.stack([shoot(room, probe).compose()[1] for probe in probes])
        share = np.stack([(shown == index).mean(axis=(1, 2)) for index in range(len(room.things))])
        seen = (share > 0.004).sum(axis=1) >= min(2, views - 1)
        leaving = seen & (share == 0).any(axis=1)
        if seen.sum() >= objects and leaving.any():
            order = np.argsort(~leaving, kind="stable")
            return room, seats, [int(index) for index in order if seen[index]][:objects]
    raise ValueError(f"no room with {objects} objects for {views} views in {_ATTEMPTS} attempts: ask for fewer objects")


def _write_scene(folder: Path, rng: np.random.Generator, room: Room, seats: list[Camera], chosen: list[int]) -> None:
    """Render one scene and write its files."""
    pictures = []
    for seat in seats:
        shot = shoot(room, seat)
        rgb, shown = shot.compose()
        noise = rng.normal(0, _NOISE, (2, *rgb.shape)).astype(np.float32)
        pictures.append((shot, _to_bytes(rgb, noise[0]), shown, noise))
    frames = np.cumsum(rng.integers(10, 400, len(seats)))
    for index in chosen:
        masks = [shown == index for _, _, shown, _ in pictures]
        # the best view comes first, as anchors are taken from view 01; the others keep the cameras' order
        best = int(np.argmax([mask.sum() for mask in masks]))
        order = [best, *(camera for camera in range(len(seats)) if camera != best)]
        for number, camera in enumerate(order, 1):
            shot, original, _, noise = pictures[camera]
            mask, dilated = masks[camera], _dilate(masks[camera])
            # always rendered: an object out of view or hidden may shade a floor that is seen
            inpainted = _to_bytes(shot.compose(without=index)[0], np.where(dilated[..., None], noise[1], noise[0]))
            stem = folder / f"uid_{index + 1}" / f"{number:02d}_{frames[camera]:06d}"
            for kind, image in (("original", original), ("inpainted", inpainted)):
                write_bytes(stem.with_name(f"{stem.name}_{kind}.png"), encode_png(image))
            for kind, flags in (("mask", mask), ("mask_dialated", dilated)):
                write_bytes(stem.with_name(f"{stem.name}_{kind}.png"), _mask_png(flags))


def _to_bytes(rgb: NDArray[np.float32], noise: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return 8-bit colours of (h, w, 3) values in 0..1 with sensor noise in 8-bit steps."""
    return np.clip(np.rint(rgb * 255 + noise), 0, 255).astype(np.uint8)


def _dilate(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Grow a mask by 2 % of the image's width (at least 1 pixel) in every direction."""
    reach = max(round(_DILATION * mask.shape[1]), 1)
    for _ in range(2):  # columns, then (transposed) rows: a window holds the mask if its running sum grows
        total = np.cumsum(np.pad(mask, ((0, 0), (reach + 1, reach))), axis=1, dtype=np.int32)
        mask = (total[:, 2 * reach + 1 :] > total[:, : -2 * reach - 1]).T
    return mask


def _mask_png(mask: NDArray[np.bool_]) -> bytes:
    """Return an 8-bit greyscale PNG, 255 where the mask is set."""
    stream = io.BytesIO()
    Image.fromarray(mask.astype(np.uint8) * 255).save(stream, "PNG", compress_level=1)
    return stream.getvalue()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `roborefer-spatial synthetic`."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = "example:\n  roborefer-spatial synthetic --out x3 --scenes 4 --seed 1"
    parser.add_argument("--out", type=Path, required=True, help="root of the new tree")
    parser.add_argument("--scenes", type=int, default=2, help="scenes in each split (default: %(default)s)")
    parser.add_argument("--objects", type=int, default=3, help="objects in each scene (default: %(default)s)")
    parser.add_argument("--views", type=int, default=5, help="cameras in each scene (default: %(default)s)")
    parser.add_argument(
        "--size", type=int, nargs=2, default=(640, 480), metavar=("WIDTH", "HEIGHT"), help="default: 640 480"
    )
    parser.add_argument("--seed", type=int, default=0, help="decides every scene (default: %(default)s)")
    parser.add_argument("--quiet", action="store_true", help="show no progress")


def run(args: argparse.Namespace) -> int:
    """Write the tree and say what is in it."""
    tree = write_scenes(
        args.out,
        scenes=args.scenes,
        seed=args.seed,
        size_wh=tuple(args.size),
        views=args.views,
        objects=args.objects,
        progress=not args.quiet,
    )
    print(
        f"{tree.root}: {tree.scenes} scenes, {tree.uids} objects, {tree.views} views, "
        f"{tree.empty} of them without the object"
    )
    return terminal.DONE
