"""The picture of the README: one vehicle's panorama and its error in range, beside the earlier way, on ray-cast truth.

Usage: ``readme_picture.py OUT.png``.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import earlier_way
import numpy as np
from mapanything_opv2v import load_panorama, pictures, write_town
from mapanything_opv2v.files import write_bytes
from mapanything_opv2v.geometry import Cylinder
from mapanything_opv2v.rawdata import index_tree

CYLINDER = Cylinder(1008, 252)


def main(out: Path) -> None:
    """Write the picture."""
    with tempfile.TemporaryDirectory() as folder:
        truth = write_town(Path(folder) / "town", seed=1, frames=1, agents=3)
        agent = index_tree(truth.root).splits["train"][0].agents[0]
        split, sequence, frame = next(truth.jobs())
        true = truth.panorama(split, sequence, frame, agent.agent_id, CYLINDER)
        ours = load_panorama(agent, CYLINDER)
        color, range_m, covered = earlier_way.load(agent, CYLINDER)
    rows = [(f"this package: colour, {ours.covered.mean():.0%} covered", ours.color)]
    rows.append((f"crop, look up, average: colour, {covered.mean():.0%} covered", color))
    for name, found, known in (
        ("this package", ours.range_m, ours.has_range),
        ("crop, look up, average", range_m, range_m > 0),
    ):
        both = known & (true.range_m > 0)
        error = np.abs(found - true.range_m)
        median, mean = np.median(error[both]), error[both].mean()
        text = f"{name}: error in range, black 0 to white 1 m and more; median {median:.2f} m, mean {mean:.2f} m"
        rows.append((text, pictures.color_errors(error, both)))
    write_bytes(out, pictures.encode_png(pictures.sheet(rows)))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
