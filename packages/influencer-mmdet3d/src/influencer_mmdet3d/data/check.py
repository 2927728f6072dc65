"""The ``check`` command: read every scene of a prepared dataset before training on it."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from influencer_mmdet3d.data.formats import (
    CLASS_FILE,
    FORMATS,
    SEVERITIES,
    Finding,
    Format,
    SceneReport,
    read_classes,
)
from influencer_mmdet3d.data.plain_pickle import load_plain
from influencer_mmdet3d.data.scenes import check_scene
from influencer_mmdet3d.files import write_whole
from influencer_mmdet3d.terminal import DONE, FAILED, progress

SHOWN = 10
"""Findings of one kind that are printed; the JSON file has all."""

DESCRIPTION = """Read every scene of a dataset that was prepared for OneFormer3D and list, in one go, what the
host would stop at, drop silently or learn wrongly: missing or short files, wrong types, labels out of
range, empty scenes, instances of several classes, superpoints that do not match, broken infos. Nothing
in the files is executed. Exit status: 0 nothing found or notes only, 1 errors or warnings,
2 wrong use. Own class names: a file classes.txt in ROOT, one name a line, or --config."""

EXAMPLE = "example: influencer-mmdet3d check data/s3dis --format s3dis"


@dataclass
class DatasetReport:
    """Findings and counts of a whole dataset."""

    root: Path
    kind: Format
    scenes: list[SceneReport] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    """Findings about infos files, which belong to no scene."""

    def all_findings(self) -> list[Finding]:
        """Return all findings, errors first."""
        found = [*self.findings, *(finding for scene in self.scenes for finding in scene.findings)]
        return sorted(found, key=lambda finding: SEVERITIES.index(finding.severity))

    def class_table(self) -> dict[str, dict[str, int]]:
        """Return points, instances and scenes of each class, in the order of the labels."""
        table = {}
        for name in [*self.kind.classes.values(), "unlabelled"]:
            having = [scene for scene in self.scenes if scene.class_points.get(name)]
            table[name] = {
                "points": sum(scene.class_points[name] for scene in having),
                "instances": sum(scene.class_instances.get(name, 0) for scene in having),
                "scenes": len(having),
            }
        return table


def check_dataset(
    root: Path, kind: Format, *, infos: list[str] | None = None, workers: int = 2, quiet: bool = False
) -> DatasetReport:
    """Check every scene that the infos files of a dataset name.

    Parameters
    ----------
    root : Path
        Folder that the config calls ``data_root``.
    kind : Format
        One of `influencer_mmdet3d.data.formats.FORMATS`.
    infos : list of str, optional
        Names or patterns of infos files in `root`; the format's usual names if not given.
    workers : int
        Threads that read scenes; a scene is held in memory by each.
    quiet : bool
        Show no progress.

    Returns
    -------
    DatasetReport

    Raises
    ------
    ValueError
        If `root` is not a folder or `workers` is not positive.
    """
    if not root.is_dir():
        raise ValueError(f"{root} is not a folder; expected the folder that the config calls data_root")
    if workers < 1:
        raise ValueError(f"workers must be at least 1, got {workers}")
    report = DatasetReport(root, kind)
    entries = list(_entries(report, list(infos or _usual_infos(root, kind))))
    with (
        ThreadPoolExecutor(workers) as pool,
        progress(description="checking scenes", unit="scene", total=len(entries), quiet=quiet) as bar,
    ):
        for scene in pool.map(lambda item: check_scene(root, kind, item[1], item[0]), entries):
            report.scenes.append(scene)
            bar.update()
    _check_listing(report, entries)
    _check_labels_of_all(report)
    return report


def format_of(root: Path, name: str) -> Format:
    """Return a format, with the classes that the data folder's own class file names, if there is one."""
    kind = FORMATS[name]
    path = root / CLASS_FILE
    return kind.with_classes(read_classes(path)) if path.is_file() else kind


def _check_listing(report: DatasetReport, entries: list[tuple[str, Any]]) -> None:
    """Find scenes that stand in the infos files more than once."""
    places: dict[str, list[str]] = {}
    for where, entry in entries:
        lidar = entry.get("lidar_points") if isinstance(entry, dict) else None
        path = lidar.get("lidar_path") if isinstance(lidar, dict) else None
        if isinstance(path, str):
            places.setdefault(path, []).append(where)
    for path, listed in places.items():
        files = dict.fromkeys(place.split("[")[0] for place in listed)
        if len(files) > 1:
            message = f"stands in {' and '.join(files)}: what is evaluated must not be trained on"
            report.findings.append(Finding("warning", "in-two-infos", path, message))
        if len(listed) > len(files):
            message = f"is listed {len(listed)} times ({', '.join(listed)}): it counts that often"
            report.findings.append(Finding("warning", "listed-twice", path, message))


def _check_labels_of_all(report: DatasetReport) -> None:
    """Find labels that are counted from 1, which single scenes cannot tell."""
    kind = report.kind
    seen = set().union(*(scene.labels for scene in report.scenes)) if report.scenes else set()
    if kind.labels[0] != 0 or not seen or 0 in seen or min(seen) < 0:
        return
    count = len(kind.classes)
    message = f"no point of any scene has label 0, {kind.classes[0]!r}: are labels counted from 1? They begin at 0"
    certain = max(seen) == count
    finding = Finding("error" if certain else "warning", "labels-from-1", str(report.root), message)
    if certain or (kind.own and len(seen) == count - 1):
        report.findings.append(finding)


def _usual_infos(root: Path, kind: Format) -> tuple[str, ...]:
    """Return the format's names of infos files; those of `prepare` where the folder has its own classes."""
    own = ("infos_train.pkl", "infos_val.pkl")
    return own if kind.own and all((root / name).is_file() for name in own) else kind.infos


def _entries(report: DatasetReport, patterns: list[str]) -> Iterator[tuple[str, Any]]:
    """Yield a name and the content of every entry of every infos file, noting what is wrong with the files."""
    for pattern in patterns:
        paths = sorted(report.root.glob(pattern))
        if not paths:
            report.findings.append(Finding("error", "no-infos", pattern, f"no such infos file in {report.root}"))
        for path in paths:
            yield from _file_entries(report, path)


def _file_entries(report: DatasetReport, path: Path) -> Iterator[tuple[str, Any]]:
    def note(code: str, message: str) -> None:
        report.findings.append(Finding("error", code, path.name, message))

    try:
        content = load_plain(path)
    except (OSError, ValueError) as error:
        note("infos-unreadable", str(error))
        return
    if isinstance(content, list):
        note("infos-old", "is a list, the format of mmdet3d 0.x; convert it with the host's update_infos_to_v2.py")
        return
    if not isinstance(content, dict) or not isinstance(content.get("data_list"), list):
        note("infos-keys", "has no list 'data_list'; expected {'metainfo': {...}, 'data_list': [...]}")
        return
    if not isinstance(content.get("metainfo"), dict):
        note("infos-keys", "has no dict 'metainfo': the host stops with a ValueError")
    if not content["data_list"]:
        note("infos-empty", "names no scene: the host stops with 'need at least one array to concatenate'")
    for number, entry in enumerate(content["data_list"]):
        yield f"{path.name}[{number}]", entry


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``check``."""
    parser.description, parser.epilog = DESCRIPTION, EXAMPLE
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("root", type=Path, metavar="ROOT", help="folder that the config calls data_root")
    parser.add_argument("--format", required=True, choices=sorted(FORMATS), help="how the dataset was prepared")
    parser.add_argument("--infos", nargs="+", metavar="NAME", help="infos files in ROOT, if not the usual names")
    parser.add_argument("--workers", type=int, default=2, metavar="N", help="threads that read scenes (default 2)")
    parser.add_argument(
        "--json", nargs="?", const="-", metavar="FILE",
        help="print all findings and counts as JSON instead of the summary; with FILE, write them there as well",
    )  # fmt: skip
    parser.add_argument("--quiet", action="store_true", help="show no progress and no summary, only the exit status")
    parser.add_argument("--allow-warnings", action="store_true", help="exit with 0 when there are only warnings")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run ``check``; return its exit status."""
    return check_and_print(args, format_of(args.root, args.format))


def check_and_print(args: argparse.Namespace, kind: Format) -> int:
    """Check the data of the command line as `kind`; return the exit status."""
    report = check_dataset(
        args.root, kind, infos=args.infos, workers=args.workers, quiet=args.quiet or args.json == "-"
    )
    if args.json == "-":
        print(as_json(report))
    elif args.json:
        write_whole(Path(args.json), as_json(report))
    if not args.quiet and args.json != "-":
        print(summary(report))
    found = {finding.severity for finding in report.all_findings()}
    return FAILED if "error" in found or ("warning" in found and not args.allow_warnings) else DONE


def summary(report: DatasetReport) -> str:
    """Return what is printed: counts of each class, then the findings, grouped by rule."""
    points = sum(scene.points for scene in report.scenes)
    lines = [f"{len(report.scenes)} scenes, {points:,} points in {report.root}", ""]
    lines.append(f"{'class':<16}{'points':>14}{'instances':>11}{'scenes':>8}")
    for name, row in report.class_table().items():
        lines.append(f"{name:<16}{row['points']:>14,}{row['instances']:>11,}{row['scenes']:>8,}")
    groups: dict[tuple[str, str], list[Finding]] = {}
    for finding in report.all_findings():
        groups.setdefault((finding.severity, finding.code), []).append(finding)
    for (severity, code), found in groups.items():
        lines += ["", f"{severity} {code} ({len(found)})"]
        lines += [f"  {_printable(finding.where)}: {_printable(finding.message)}" for finding in found[:SHOWN]]
        if len(found) > SHOWN:
            lines.append(f"  and {len(found) - SHOWN} more; --json lists all")
    severities = [finding.severity for finding in report.all_findings()]
    totals = f"{severities.count('error')} errors, {severities.count('warning')} warnings"
    totals += f", {severities.count('note')} notes" if "note" in severities else ""
    lines += ["", totals if severities else "nothing found"]
    return "\n".join(lines)


def _printable(text: str) -> str:
    """Keep names from foreign files from steering the terminal."""
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)


def as_json(report: DatasetReport) -> str:
    """Return all findings and counts as JSON."""
    content = {
        "root": str(report.root),
        "format": report.kind.name,
        "scenes": len(report.scenes),
        "points": sum(scene.points for scene in report.scenes),
        "classes": report.class_table(),
        "findings": [asdict(finding) for finding in report.all_findings()],
    }
    return json.dumps(content, indent=1)
