"""`import`: recordings of other rigs as an OPV2V tree."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from mapanything_opv2v.commands import options
from mapanything_opv2v.terminal import DONE, FAILED, progress

if TYPE_CHECKING:
    from mapanything_opv2v.rawdata.importing import ImportedFrame


_OPV2V_CAMERAS = (0, 1, 2, 3)


@dataclass(frozen=True)
class _Job:
    sequence: str
    number: int
    name: str
    """Of the frame, where it comes from."""
    make: Callable[[], ImportedFrame]


def add(commands: options.Commands) -> None:
    """Add the command."""
    parser = options.add_command(
        commands,
        "import",
        "write a recording of another rig as an OPV2V tree, which everything else reads: a rig.yaml, or an info file "
        "of nuScenes (.pkl or .json, as mmdetection3d makes it). Frames that are there are kept",
        "mapanything-opv2v import nuscenes_infos_val.pkl --data-root ~/nuscenes --out ~/nuscenes_tree",
        run_import,
    )
    parser.add_argument("source", type=Path, help="rig.yaml, or an info file of nuScenes")
    parser.add_argument("--data-root", type=Path, help="nuScenes: folder of `samples` (default: beside the info file)")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="tree to write")
    parser.add_argument("--split", default="test", help="of the tree: train, validate, test or test_culvercity")
    parser.add_argument("--agent-id", type=int, default=1, help="the vehicle's number in the tree")
    parser.add_argument("--max-frames", type=int, metavar="N", help="only the first so many")
    options.add_quiet(parser)


def run_import(args: argparse.Namespace) -> int:
    """Write the tree; 1 if frames failed."""
    from mapanything_opv2v.panorama.rig_file import is_rig_file
    from mapanything_opv2v.rawdata import importing

    options.positive(args.max_frames, "--max-frames")
    if args.agent_id < 0:
        raise ValueError(f"--agent-id {args.agent_id}: a vehicle's is not negative")
    jobs = (_rig_jobs if is_rig_file(args.source) else _nuscenes_jobs)(args)[: args.max_frames]
    written, kept, cameras = 0, 0, 0
    failed: dict[str, str] = {}
    for job in progress(jobs, description="import", unit="frame", quiet=args.quiet):
        folder = importing.agent_folder(args.out, args.split, job.sequence, args.agent_id)
        if (folder / f"{job.number:06d}.yaml").is_file():
            kept += 1
            continue
        try:
            frame = job.make()
            importing.write_frame(folder, job.number, frame)
            written, cameras = written + 1, len(frame.cameras)
        except ValueError as error:
            failed[f"{job.sequence} {job.name}"] = str(error)
    options.print_failed(failed)
    print(f"{args.out}: {written} frames written, {kept} were there, {len(failed)} failed")
    if cameras and cameras != len(_OPV2V_CAMERAS):
        ids = list(range(cameras))
        print(f"datasets take cameras 0 to 3 unless told: camera_ids={ids} (in configs dataset.opv2v.camera_ids)")
    return FAILED if failed else DONE


def _rig_jobs(args: argparse.Namespace) -> list[_Job]:
    """Return the frames of a rig file; it states no way, so the rig stands where it is."""
    import numpy as np

    from mapanything_opv2v.panorama.rig_file import load_rig_file
    from mapanything_opv2v.rawdata.importing import ImportedCamera, ImportedFrame

    rig = load_rig_file(args.source)

    def make(name: str) -> ImportedFrame:
        depths = rig.depths(name) if rig.has_depth else [None] * len(rig.cameras)
        cameras = [
            ImportedCamera(c.intrinsic, c.T_pano_cam, image, depth)
            for c, image, depth in zip(rig.rig.cameras, rig.images(name), depths)
        ]
        return ImportedFrame(cameras, np.eye(4))

    sequence = args.source.resolve().parent.name
    return [_Job(sequence, number, name, partial(make, name)) for number, name in enumerate(rig.frames)]


def _nuscenes_jobs(args: argparse.Namespace) -> list[_Job]:
    import numpy as np

    from mapanything_opv2v import photographs
    from mapanything_opv2v.rawdata import nuscenes
    from mapanything_opv2v.rawdata.importing import ImportedCamera, ImportedFrame

    root = args.data_root or args.source.parent

    def make(info: nuscenes.Info) -> ImportedFrame:
        names = [name for name in nuscenes.CAMERAS if name in info.cameras]
        if not names:
            raise ValueError(f"cameras {', '.join(info.cameras)}: none of {', '.join(nuscenes.CAMERAS)}")
        cameras = []
        for name in names:
            image = photographs.read(nuscenes.find_file(root, info.cameras[name].file, name))
            cameras.append(ImportedCamera(info.cameras[name].intrinsic, info.T_center_cam(name), np.asarray(image)))
        points = intensity = None
        if info.lidar_file:
            points, intensity = nuscenes.load_sweep(nuscenes.find_file(root, info.lidar_file, "LIDAR_TOP"))
        return ImportedFrame(cameras, info.T_world_center, points, intensity)

    jobs, numbers = [], Counter[str]()
    for info in nuscenes.load_infos(args.source):
        number = numbers[info.scene]
        numbers[info.scene] += 1
        jobs.append(_Job(info.scene, number, str(info.timestamp), partial(make, info)))
    return jobs
