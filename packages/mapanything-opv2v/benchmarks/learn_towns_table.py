"""Tell what the cells of learn_towns.py found: means with 95 % intervals by town, paired differences, controls."""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from mapanything_opv2v.files import write_bytes

FIGURES = (
    ("translation_m", "position of the partner, m"),
    ("rotation_deg", "heading of the partner, degrees"),
    ("depth_relative_main", "range, relative, main agent's views"),
    ("depth_relative_partner", "range, relative, partner's views"),
    ("unseen_distance_m", "unseen by the main agent: distance to the cloud, m (at most 10)"),
    ("unseen_within", "unseen by the main agent: share within 1 m"),
    ("bev_iou", "BEV IoU, cells of 2 m"),
    ("mask_iou", "mask IoU"),
)
VARIANTS = ("trained", "constant", "shuffled", "main_only", "untrained")
DRAWS = 2000


def main(folder: Path) -> int:
    """Print the tables and keep them."""
    cells = [json.loads(path.read_text()) for path in sorted(folder.glob("cells/*/judged.json"))]
    lines = list(tell(cells))
    print("\n".join(lines), flush=True)
    write_bytes(folder / "table.txt", ("\n".join(lines) + "\n").encode())
    return 0


def by_town(rows: list[dict[str, Any]], name: str, near: bool = False) -> dict[str, float]:
    """Return the mean of a figure by town; `near`: pairs 5 to 40 m apart only."""
    towns: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        if row.get(name) is not None and not (near and not 5 <= row.get("distance_m", 0) <= 40):
            towns[row["town"]].append(row[name])
    return {town: float(np.mean(values)) for town, values in towns.items()}


def interval(values: list[float]) -> tuple[float, float, float]:
    """Return mean and 95 % interval by drawing towns with replacement."""
    rng = np.random.default_rng(0)
    array = np.array(values)
    means = array[rng.integers(0, len(array), (DRAWS, len(array)))].mean(axis=1)
    return float(array.mean()), *(float(q) for q in np.quantile(means, (0.025, 0.975)))


def tell(cells: list[dict[str, Any]]) -> list[str]:
    """Return the report; seeds of an arm are averaged by town."""
    lines = []
    groups: dict[tuple[str, int], list[dict[str, Any]]] = defaultdict(list)
    for cell in cells:
        groups[cell["arm"], cell["towns"]].append(cell)
        steps = len([line for line in cell["log"] if "train_loss" in line])
        losses = [line[key] for line in cell["log"] for key in line if key.endswith("validate_loss_avg")]
        lines.append(
            f"{cell['arm']}-{cell['towns']}-{cell['seed']}: {cell['parameters'] / 1e6:.1f} M parameters, "
            f"{steps} epochs, {cell['seconds']:.0f} s, loss on validate {' '.join(f'{loss:.2f}' for loss in losses)}"
        )
    for (arm, towns), group in sorted(groups.items()):
        lines += ["", f"{arm}, {towns} towns, {len(group)} seed(s)"]
        for name, title in FIGURES:
            for near in (False, True) if name in ("translation_m", "rotation_deg") else (False,):
                told = []
                for variant in VARIANTS:
                    found = seeds_by_town(group, variant, name, near)
                    if found:
                        mean, low, high = interval(list(found.values()))
                        told.append(f"{variant} {mean:.3f} [{low:.3f}, {high:.3f}]")
                if told:
                    lines.append(f"  {title + (', 5 to 40 m' if near else ''):<64} {'  '.join(told)}")
        for name, other in (("translation_m", "constant"), ("rotation_deg", "constant"), ("translation_m", "shuffled"),
                            ("rotation_deg", "shuffled"), ("depth_relative_main", "shuffled"),
                            ("depth_relative_main", "main_only"), ("depth_relative_main", "constant"),
                            ("depth_relative_partner", "constant"), ("unseen_within", "main_only"),
                            ("unseen_distance_m", "main_only"), ("unseen_distance_m", "constant"),
                            ("unseen_distance_m", "shuffled")):  # fmt: skip
            a, b = (seeds_by_town(group, variant, name, False) for variant in ("trained", other))
            common = sorted(set(a) & set(b))
            if common:
                mean, low, high = interval([a[town] - b[town] for town in common])
                lines.append(
                    f"  paired, {name}: trained - {other} = {mean:+.3f} [{low:+.3f}, {high:+.3f}], {len(common)} towns"
                )
    return lines


def seeds_by_town(group: list[dict[str, Any]], variant: str, name: str, near: bool) -> dict[str, float]:
    """Return the mean over seeds, by town."""
    each = [by_town([r for r in cell["rows"] if r["variant"] == variant], name, near) for cell in group]
    each = [found for found in each if found]
    towns = set.intersection(*(set(found) for found in each)) if each else set()
    return {town: float(np.mean([found[town] for found in each])) for town in sorted(towns)}


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
