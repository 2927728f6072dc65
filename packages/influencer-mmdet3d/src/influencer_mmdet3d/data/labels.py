"""Rules on the arrays of one scene: coordinates, colours, labels, instances, superpoints.

What the host does with each defect was found by feeding it to the host.
Shape letters: ``N`` points, ``K`` instances, ``C`` distinct labels.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from influencer_mmdet3d.data.formats import CLASS_FILE, Format, SceneReport

Labels = npt.NDArray[np.int64]

MAX_INSTANCES = 1000
"""The host's evaluator asserts fewer distinct ids than this in a scene."""
MAX_ID = 10_000_000
"""The host allocates a table of 8 bytes up to the largest id: 80 MB here."""
MAX_EXTENT = 200.0
"""Metres beyond which coordinates are most likely in another unit."""


def check_points(points: npt.NDArray[np.float32], report: SceneReport) -> None:
    """Check coordinates in metres and colours 0 to 255.

    Parameters
    ----------
    points : ndarray of float32, shape (N, 6)
        x, y, z, red, green, blue.
    report : SceneReport
        Receives the findings.
    """
    where = f"points/{report.name}"
    finite = np.isfinite(points).all(1)
    if not finite.all():
        rows = np.flatnonzero(~finite)
        report.error(
            "not-finite",
            where,
            f"{len(rows)} points with a value that is not finite, first at row {rows[0]}; one such coordinate "
            f"puts every point of the scene into the same voxel",
        )
        return
    extent = float(np.ptp(points[:, :3], axis=0).max())
    if extent > MAX_EXTENT:
        message = f"spans {extent:.0f} m; the host counts in metres: are these millimetres?"
        report.warning("extent", where, message)
    low, high = float(points[:, 3:].min()), float(points[:, 3:].max())
    if low < 0 or high > 255:
        message = f"colours lie between {low:g} and {high:g}; expected 0 to 255"
        report.error("colour-range", where, message)
    elif high <= 1:
        message = f"colours lie between {low:g} and {high:g}; expected 0 to 255: the host would see black only"
        report.error("colour-range", where, message)


def check_resolution(kind: Format, points: npt.NDArray[np.float32], instance: Labels, report: SceneReport) -> None:
    """Find what float32 or the voxels merge.

    Parameters
    ----------
    kind : Format
        Its voxel size counts.
    points : ndarray of float32, shape (N, 6)
        x, y, z in metres first.
    instance : ndarray of int64, shape (N,)
        As in the file.
    report : SceneReport
        Receives the findings.
    """
    where, xyz = f"points/{report.name}", points[:, :3]
    if not np.isfinite(xyz).all():
        return
    far = float(np.abs(xyz).max())
    step = float(np.spacing(np.float32(far)))
    if step > kind.voxel / 20:
        distinct = [len(np.unique(xyz[:, axis])) for axis in range(3)]
        message = (
            f"coordinates reach {far:,.0f}, where float32 counts in steps of {step:g} m: {len(xyz)} points have "
            f"{distinct[0]}, {distinct[1]} and {distinct[2]} distinct x, y and z left. Subtract an offset in float64 "
            f"before writing float32"
        )
        report.error("rounded-coordinates", where, message)
        return
    cells = np.floor((xyz.astype(np.float64) - xyz.min(0)) / kind.voxel).astype(np.int64)
    cells = np.ravel_multi_index(cells.T, cells.max(0) + 1) if cells.max() < 2**20 else np.arange(len(cells))
    voxels, of_point = np.unique(cells, return_inverse=True)
    ids, number = np.unique(instance, return_inverse=True)
    first, last = np.full(len(voxels), len(ids)), np.full(len(voxels), -1)
    np.minimum.at(first, of_point, number)
    np.maximum.at(last, of_point, number)
    kept = np.zeros(len(ids), dtype=bool)
    kept[first[first == last]] = True
    lost = ids[~kept & (ids >= 0)]
    if not len(lost):
        return
    message = (
        f"{len(lost)} of {int((ids >= 0).sum())} instances (ids {_listed(lost)}) have no voxel of {kind.voxel:g} m to "
        f"themselves in {len(voxels)} voxels: their mask is empty"
    )
    if 2 * len(lost) >= (ids >= 0).sum():
        report.error("merged-by-voxels", where, message + ". Are the coordinates in metres? Else set model.voxel_size")
    elif kind.name == "s3dis":
        report.note("merged-by-voxels", where, message)


def check_labels(kind: Format, semantic: Labels, instance: Labels, report: SceneReport) -> None:
    """Check the labels of one scene and count points and instances of each class.

    Parameters
    ----------
    kind : Format
        What labels mean.
    semantic, instance : ndarray of int64, shape (N,)
        Label and instance of each point, as in the files.
    report : SceneReport
        Receives findings and counts.
    """
    labels, of_label = np.unique(semantic, return_inverse=True)
    ids, of_instance = np.unique(instance, return_inverse=True)
    table = np.bincount(of_instance * len(labels) + of_label, minlength=len(ids) * len(labels))
    counts = table.reshape(len(ids), len(labels))
    report.labels.update(labels.tolist())
    names = [kind.classes.get(int(label), "unlabelled") for label in labels]
    for name, points in zip(names, counts.sum(0), strict=True):
        report.class_points[name] = report.class_points.get(name, 0) + int(points)
    _check_label_range(kind, labels, counts.sum(0), report)
    _check_ids(ids, counts.sum(1), report)
    if kind.name == "scannet":
        things = np.array([is_thing(kind, int(label)) for label in labels])
        if things.all() and ids[0] != -1:
            message = "has no wall, floor or unlabelled point: the host stops with an AssertionError"
            report.error("no-stuff", report.name, message)
        if not things.any():
            report.warning("no-instances", report.name, "has no point of an instance class")
        counts = counts * things
    _check_instances(kind, ids, counts, names, report)


def is_thing(kind: Format, label: int) -> bool:
    """Return whether points of this label form instances."""
    return label in kind.classes and not (kind.name == "scannet" and label in kind.stuff)


def _check_label_range(kind: Format, labels: Labels, points: Labels, report: SceneReport) -> None:
    bad = (labels < kind.labels[0]) | (labels > kind.labels[-1])
    if not bad.any():
        return
    shown = ", ".join(f"{label} ({count} points)" for label, count in zip(labels[bad][:5], points[bad][:5]))
    message = f"labels outside {kind.labels[0]} to {kind.labels[-1]}: {shown}; "
    if kind.name == "s3dis" or kind.own:
        spare = f"{kind.labels[-1]}, {kind.classes[kind.labels[-1]]}"
        message += (
            f"the host knows no ignored label here ({kind.labels[-1] + 1} included) and stops with 'Class values must "
            f"be non-negative' or 'smaller than num_classes'. "
            + ("Give such points a class of their own, e.g. 'other'" if kind.own else f"Use {spare}")
            + ("" if kind.own else f". Are these your own classes? Name them in {CLASS_FILE} or with --config")
        )
    else:
        message += "the host maps NYU40 ids and takes these for another class or stops with an IndexError"
    report.error("label-range", f"semantic_mask/{report.name}", message)


def _check_ids(ids: Labels, points: Labels, report: SceneReport) -> None:
    where = f"instance_mask/{report.name}"
    if ids[0] < -1:
        message = f"id {ids[0]} ({points[0]} points): the host mixes ids below -1 with other instances or stops"
        report.error("instance-id", where, message)
    if ids[-1] > MAX_ID:
        message = f"id {ids[-1]}: the host allocates a table up to the largest id; number instances from 0"
        report.error("instance-id", where, message)


def _check_instances(
    kind: Format, ids: Labels, counts: npt.NDArray[np.int64], names: list[str], report: SceneReport
) -> None:
    """Check instances on `counts` (K, C), the points of each id and label."""
    where = f"instance_mask/{report.name}"
    sizes = counts.sum(1)
    evaluated = (sizes > 0) & ((ids >= 0) | (kind.name == "s3dis"))  # there, id -1 reaches the evaluator too
    if int(evaluated.sum()) >= MAX_INSTANCES:
        message = f"{int(evaluated.sum())} instances: the host's evaluator asserts fewer than {MAX_INSTANCES}"
        report.error("too-many-instances", where, message)
    mixed = np.flatnonzero(evaluated & ((counts > 0).sum(1) > 1))
    if len(mixed):
        shown = "; ".join(f"id {ids[row]}: {_shares(counts[row], names)}" for row in mixed[:3])
        message = f"{len(mixed)} instances have points of several classes ({shown}): the host's evaluator stops"
        report.error("mixed-classes", where, message)
    single = ids[(sizes == 1) & (ids >= 0)]
    if len(single):
        message = f"{len(single)} instances of one point (ids {_listed(single)}): nothing is learnt from them"
        report.note("one-point-instance", where, message)
    for row in np.flatnonzero((sizes > 0) & (ids >= 0)):
        name = names[int(counts[row].argmax())]
        if name != "unlabelled":
            report.class_instances[name] = report.class_instances.get(name, 0) + 1


def _shares(counts: Labels, names: list[str]) -> str:
    return ", ".join(f"{counts[column]} {names[column]}" for column in np.flatnonzero(counts)[:4])


def _listed(ids: Labels) -> str:
    return ", ".join(map(str, ids[:5])) + (", ..." if len(ids) > 5 else "")


def check_superpoints(
    kind: Format, superpoint: Labels, semantic: Labels, instance: Labels, report: SceneReport
) -> None:
    """Check the superpoints of one scene.

    Parameters
    ----------
    kind : Format
        What labels mean.
    superpoint, semantic, instance : ndarray of int64, shape (N,)
        Superpoint, label and instance of each point, as in the files.
    report : SceneReport
        Receives the findings.
    """
    where = f"super_points/{report.name}"
    ids, of_point, sizes = np.unique(superpoint, return_inverse=True, return_counts=True)
    if ids[0] < 0:
        message = f"id {ids[0]}: the host indexes with it and stops; number superpoints from 0"
        report.error("superpoint-id", where, message)
        return
    if len(ids) != ids[-1] + 1:
        note = report.error if ids[-1] + 1 > 2 * len(ids) else report.warning
        note(
            "superpoint-gaps",
            where,
            f"{len(ids)} superpoints have ids {ids[0]} to {ids[-1]}; expected 0 to {len(ids) - 1}: each missing id "
            f"becomes an empty superpoint, a query and memory. Renumber with numpy.unique(return_inverse=True)",
        )
    thing_labels = [label for label in kind.classes if is_thing(kind, label)]
    thing = np.isin(semantic, thing_labels) & (instance >= 0)
    names, of_thing = np.unique(np.where(thing, instance, -1), return_inverse=True)
    pairs, counts = np.unique(of_point * len(names) + of_thing, return_counts=True)
    majority = counts * 2 > sizes[pairs // len(names)]
    own = np.zeros(len(names), dtype=bool)
    own[pairs[majority] % len(names)] = True
    lost = names[~own & (names >= 0)]
    if len(lost):
        message = f"{len(lost)} instances (ids {_listed(lost)}) are the majority of no superpoint: their mask is empty"
        report.warning("lost-instance", where, message)
    agreement = counts[majority].sum() / len(superpoint)
    if agreement < 0.7:
        message = (
            f"only {agreement:.0%} of the points lie in a superpoint of mostly their own instance: do these "
            f"superpoints belong to this scene, in this order of points?"
        )
        report.warning("superpoint-mismatch", where, message)
