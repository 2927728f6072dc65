"""From a raw tree to panoramas with true range, without data or host: python examples/mapanything-opv2v.py OUT

Ray-casts a town in OPV2V's format, checks it like a download, makes depth from LiDAR sweeps, builds every vehicle's
panorama from its four cameras, and compares the ranges with the ray-cast truth.
"""

import sys
from pathlib import Path

import numpy as np
from mapanything_opv2v import CheckOptions, Cylinder, check_tree, index_tree, load_panorama, write_depths, write_town
from PIL import Image


def main(out: Path) -> None:
    """Write town, depth maps and pictures below `out`."""
    town = write_town(out / "town", seed=1, frames=1, agents=2, depth_root=out / "dense", image_size=(400, 300))
    report = check_tree(
        index_tree(town.root, depth_root=town.depth_root), CheckOptions(need_depth=True), progress=False
    )
    print(f"checked {report.files} files of {report.scenes} frame: {len(report.problems)} problems")

    made = write_depths(index_tree(town.root), out / "lidar", progress=False)
    print(f"made {made.written} depth maps from LiDAR, {made.coverage:.1%} of their pixels known")

    cylinder = Cylinder(504, 126)
    split, sequence, frame = next(town.jobs())
    for name in ("dense", "lidar"):
        for agent in index_tree(town.root, depth_root=out / name).splits[split][0].agents:
            panorama = load_panorama(agent, cylinder)
            truth = town.panorama(split, sequence, frame, agent.agent_id, cylinder)
            both = panorama.has_range & (truth.range_m > 0)
            error = np.abs(panorama.range_m[both] - truth.range_m[both])
            print(
                f"vehicle {agent.agent_id}, {name} depth: {panorama.covered.mean():.0%} covered, "
                f"{panorama.has_range.mean():.0%} with range, median error {np.median(error):.3f} m"
            )
            Image.fromarray(panorama.color).save(out / f"panorama_{agent.agent_id}.png")
    print(f"look at {out}/panorama_*.png, or: mapanything-opv2v demo --out {out}/demo")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "example_out"))
