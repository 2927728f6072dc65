"""Tell what the cells of learn_towns.py found: means with 95 % intervals by town, paired differences, controls."""

from __future__ import annotations

import itertools
import json
import sys
from collections import defaultdict
from collections.abc import Iterator
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
    files = sorted(folder.glob("cells/*/start.judged.json"))
    starts = {path.parent.name: json.loads(path.read_text()) for path in files}
    lines = [*tell(cells), *tell_starts(starts)]
    print("\n".join(lines), flush=True)
    write_bytes(folder / "table.txt", ("\n".join(lines) + "\n").encode())
    if starts:
        draw_starts(folder / "starts.png", folder)
    if cells:
        draw(folder / "curves.png", cells)
    return 0


def draw(path: Path, cells: list[dict[str, Any]]) -> None:
    """Draw validation loss by epoch, and pose errors by distance and by what the main agent cannot see."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 5, figsize=(23, 4.2))
    arms = sorted({(cell["arm"], cell["towns"]) for cell in cells}, key=str)
    for number, key in enumerate(arms):
        group = [cell for cell in cells if (cell["arm"], cell["towns"]) == key]
        color, name = f"C{number % 10}", f"{key[0]}, {key[1]} towns"
        for cell in group:
            found = [
                (line["epoch"], v) for line in cell["log"] for k, v in line.items() if k.endswith("validate_loss_avg")
            ]
            axes[0].plot(*zip(*found), color=color, linewidth=1) if found else None
            seen = [(line["epoch"], line["m_near"]) for line in cell.get("curve", []) if "m_near" in line]
            axes[4].plot(*zip(*seen), color=color, linewidth=1) if seen else None
        rows = [row for cell in group for row in cell["rows"] if row["variant"] == "trained"]
        for axis, at, figure_name, edges in panels(axes):
            axis.plot(*binned(rows, at, figure_name, edges), "o-", color=color, label=name, linewidth=1)
    constants = [row for cell in cells for row in cell["rows"] if row["variant"] == "constant"]
    for axis, at, figure_name, edges in panels(axes):
        axis.plot(*binned(constants, at, figure_name, edges), "k--", label="constant")
        axis.set(xlabel=at.replace("_m", ", m").replace("_", " "), ylabel=figure_name.replace("_", " "), ylim=(0, None))
    axes[0].set(xlabel="epoch", ylabel="loss on validate", yscale="log")
    axes[4].set(xlabel="epoch", ylabel="position on validate, up to 40 m: error, m", ylim=(0, None))
    axes[1].legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path, dpi=70)
    pyplot.close(figure)


def panels(axes: Any) -> tuple[tuple[Any, str, str, tuple[float, ...]], ...]:
    """Return axis, what it goes by, figure and edges of bins of the panels after the first."""
    metres, shares = (5.0, 15.0, 25.0, 40.0, 55.0, 75.0), (0.0, 0.3, 0.5, 0.7, 0.85, 1.0)
    return (
        (axes[1], "distance_m", "translation_m", metres),
        (axes[2], "distance_m", "rotation_deg", metres),
        (axes[3], "unseen_share", "translation_m", shares),
    )


def binned(rows: list[dict[str, Any]], at: str, name: str, edges: tuple[float, ...]) -> tuple[list[float], list[float]]:
    """Return middle of each bin and mean of a figure there, where there are rows."""
    places, means = [], []
    for low, high in itertools.pairwise(edges):
        here = [row[name] for row in rows if row.get(name) is not None and low <= row.get(at, -1) < high]
        if here:
            places.append((low + high) / 2)
            means.append(float(np.mean(here)))
    return places, means


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
    for (arm, towns), group in sorted(groups.items(), key=lambda item: str(item[0])):
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
            lines += paired(group, name, "trained", other)
    return lines + list(between(groups))


def draw_starts(path: Path, folder: Path) -> None:
    """Draw the errors of the starts by step, on training pairs and on held-out towns near and far."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(11, 4.8))
    for number, file in enumerate(sorted(folder.glob("cells/*/start.jsonl"))):
        lines = [json.loads(text) for text in file.read_text().splitlines()]
        steps = [line["step"] for line in lines]
        for kind, style in (("train", ":"), ("near", "--"), ("far", "-")):
            for axis, name, unit in ((axes[0], "m", "position, m"), (axes[1], "deg", "heading, degrees")):
                label = file.parent.name if (name, kind) == ("m", "far") else None
                axis.plot(steps, [line[kind][name] for line in lines], style, color=f"C{number}", label=label)
                axis.set(xlabel="step", ylabel=f"mean error of the {unit}")
                axis.axhline(lines[0][kind][f"constant_{name}"], color="k", linestyle=style, linewidth=0.5)
    for kind, style in (
        ("training pairs, 5 to 40 m", ":"),
        ("held-out, 5 to 15 m", "--"),
        ("held-out, 15 to 40 m", "-"),
    ):
        axes[0].plot([], [], style, color="k", label=kind)
    for axis in axes:
        axis.set_ylim(0)
    figure.legend(fontsize=7, loc="lower center", ncols=4)
    figure.tight_layout(rect=(0, 0.14, 1, 1))
    figure.savefig(path, dpi=80)
    pyplot.close(figure)


def paired(group: list[dict[str, Any]], name: str, one: str, other: str) -> Iterator[str]:
    """Yield the differences of a figure between two variants, paired by town; poses also of pairs 5 to 40 m apart."""
    for near in (False, True) if name in ("translation_m", "rotation_deg") else (False,):
        a, b = (seeds_by_town(group, variant, name, near) for variant in (one, other))
        common = sorted(set(a) & set(b))
        if common:
            mean, low, high = interval([a[town] - b[town] for town in common])
            told = f"{name}{', 5 to 40 m' if near else ''}: {one} - {other} = {mean:+.3f} [{low:+.3f}, {high:+.3f}]"
            yield f"  paired, {told}, {len(common)} towns"


def tell_starts(starts: dict[str, list[dict[str, Any]]]) -> list[str]:
    """Return the lines of starts that were judged by themselves, by cell: seeds of an arm are averaged by town."""
    groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for cell, rows in starts.items():
        groups[cell.rpartition("-")[0]].append({"rows": rows})
    lines = []
    for name, group in groups.items():
        lines += ["", f"{name}, the start alone, {len(group)} seed(s)"]
        for figure, title in FIGURES[:2]:
            for near in (False, True):
                told = []
                for variant in ("trained", "constant", "shuffled"):
                    by = seeds_by_town(group, variant, figure, near)
                    mean, low, high = interval(list(by.values()))
                    told.append(f"{variant} {mean:.3f} [{low:.3f}, {high:.3f}], {len(by)} towns")
                lines.append(f"  {title + (', 5 to 40 m' if near else ''):<40} {'  '.join(told)}")
            lines += [line for other in ("constant", "shuffled") for line in paired(group, figure, "trained", other)]
    few = [name for name in groups if name.startswith("start-25")]
    for one, other in itertools.product(
        few, [name for name in groups if name.startswith("start-") and name not in few]
    ):
        lines.append(f"\n{one} less {other}, the starts alone; paired by town, 5 to 40 m")
        for figure, title in FIGURES[:2]:
            a, b = (seeds_by_town(groups[name], "trained", figure, True) for name in (one, other))
            mean, low, high = interval([a[town] - b[town] for town in sorted(set(a) & set(b))])
            lines.append(f"  {title:<40} {mean:+.3f} [{low:+.3f}, {high:+.3f}]")
    return lines


def between(groups: dict[tuple[str, int], list[dict[str, Any]]]) -> Iterator[str]:
    """Yield paired differences between arms: each against `coop`, or `started`, on as many towns; `coop` by towns."""
    pairs = [((arm, towns), (started(arm), towns)) for arm, towns in groups if arm not in ("coop", "started")]
    most = max((towns for arm, towns in groups if arm == "coop"), default=0)
    pairs += [(("coop", towns), ("coop", most)) for arm, towns in groups if arm == "coop" and towns != most]
    for one, other in sorted(pairs):
        if other not in groups:
            continue
        yield f"\n{one[0]}, {one[1]} towns, less {other[0]}, {other[1]} towns; paired by town"
        for name, title in FIGURES:
            for near in (False, True) if name in ("translation_m", "rotation_deg") else (False,):
                a, b = (seeds_by_town(groups[key], "trained", name, near) for key in (one, other))
                common = sorted(set(a) & set(b))
                if common:
                    mean, low, high = interval([a[town] - b[town] for town in common])
                    text = title + (", 5 to 40 m" if near else "")
                    yield f"  {text:<64} {mean:+.3f} [{low:+.3f}, {high:+.3f}], {len(common)} towns"


def started(arm: str) -> str:
    """Return the arm that another one is compared with: the same without what it changes."""
    return "started" if arm.startswith("started_") else "coop"


def seeds_by_town(group: list[dict[str, Any]], variant: str, name: str, near: bool) -> dict[str, float]:
    """Return the mean over seeds, by town."""
    each = [by_town([r for r in cell["rows"] if r["variant"] == variant], name, near) for cell in group]
    each = [found for found in each if found]
    towns = set.intersection(*(set(found) for found in each)) if each else set()
    return {town: float(np.mean([found[town] for found in each])) for town in sorted(towns)}


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
