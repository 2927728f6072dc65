"""Superpoints: pieces of surface that ScanNet-like models classify as a whole.

The method is Felzenszwalb and Huttenlocher's graph segmentation ("Efficient Graph-Based Image Segmentation", IJCV
2004) on surface normals, as ScanNet's own segmentator applies it to meshes (github.com/ScanNet/ScanNet, folder
Segmentator): an edge costs 1 - cos of the angle between the normals of its ends, squared where the surface is convex;
edges are taken from the cheapest, and one joins two pieces if it costs no more than the dearest edge inside either
piece plus k over its size; pieces below a least size then join their cheapest neighbour. Written anew here.

A cloud without faces gets edges to its nearest neighbours and normals from the plane through them. Such normals have
no outside, so that convex and concave cannot be told apart: the cosine counts without its sign, and nothing is squared.
Shape letters: ``N`` points, ``F`` triangles, ``E`` edges.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

Array = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

METHODS = ("auto", "mesh", "graph")
"""How superpoints may be made; auto takes the mesh where there are faces."""
K = 0.01
"""Threshold of ScanNet's segmentator (kThresh): the larger, the larger the pieces."""
LEAST = 20
"""Points of the smallest piece of ScanNet's segmentator (segMinVerts)."""
NEIGHBOURS = 10
"""Edges of each point of a cloud without faces."""
PLANE = 16
"""Points that a normal is made from, the point itself among them."""
REACH = 6.0
"""An edge of a cloud without faces is at most this many times as long as the usual distance of neighbours."""


def superpoints(
    xyz: npt.NDArray[np.floating], faces: Indices | None = None, *, k: float = K, least: int = LEAST
) -> Indices:
    """Return the superpoint of each point, numbered from 0 without gaps.

    Parameters
    ----------
    xyz : ndarray, shape (N, 3)
        Metres, near the origin.
    faces : ndarray of int64, shape (F, 3), optional
        Triangles; without them a graph of nearest neighbours is made.
    k, least : float, int
        See `K` and `LEAST`.
    """
    if not len(xyz):
        return np.zeros(0, np.int64)
    places: Array = np.asarray(xyz, np.float64)
    ends, costs = _graph(places) if faces is None or not len(faces) else _mesh(places, faces)
    return segment(len(places), ends, costs, k=k, least=least)


def _mesh(xyz: Array, faces: Indices) -> tuple[Indices, Array]:
    """Return edges (E, 2) of a mesh and their costs."""
    a, b, c = (xyz[faces[:, corner]] for corner in range(3))
    of_face = np.cross(b - a, c - a)
    of_face /= np.maximum(np.linalg.norm(of_face, axis=1, keepdims=True), 1e-30)
    normals = np.zeros_like(xyz)  # the mean of the triangles around a point, each counting once, as in ScanNet
    for corner in range(3):
        for axis in range(3):
            normals[:, axis] += np.bincount(faces[:, corner], of_face[:, axis], len(xyz))
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-30)
    ends = np.unique(np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [0, 2]]]), 1), axis=0)
    ends = ends[ends[:, 0] != ends[:, 1]]
    first, second = ends.T
    cosine = np.einsum("ij,ij->i", normals[first], normals[second])
    towards = xyz[second] - xyz[first]
    convex = np.einsum("ij,ij->i", normals[second], towards) > 0
    costs = np.clip(1 - cosine, 0, 2)
    return ends, np.where(convex, costs**2, costs)


def _graph(xyz: Array) -> tuple[Indices, Array]:
    """Return edges (E, 2) between nearest neighbours and their costs."""
    count = min(max(NEIGHBOURS + 1, PLANE), len(xyz))
    if count < 2:
        return np.zeros((0, 2), np.int64), np.zeros(0)
    distance, near = cKDTree(xyz).query(xyz, k=count)
    normals = _normals(xyz, near[:, :PLANE])
    others, lengths = near[:, 1 : NEIGHBOURS + 1], distance[:, 1 : NEIGHBOURS + 1]
    first = np.repeat(np.arange(len(xyz)), others.shape[1])
    usual = float(np.median(lengths[:, 0]))
    close = (lengths.reshape(-1) <= REACH * usual) | (usual == 0)
    ends = np.unique(np.sort(np.stack([first[close], others.reshape(-1)[close]], 1), 1), axis=0)
    ends = ends[ends[:, 0] != ends[:, 1]]
    cosine = np.abs(np.einsum("ij,ij->i", normals[ends[:, 0]], normals[ends[:, 1]]))
    return ends, np.clip(1 - cosine, 0, 1)


def _normals(xyz: Array, near: Indices, chunk: int = 100_000) -> Array:
    """Return unit normals (N, 3): the direction in which the neighbours of a point spread least."""
    normals = np.empty_like(xyz)
    for start in range(0, len(xyz), chunk):
        around = xyz[near[start : start + chunk]]
        around = around - around.mean(1, keepdims=True)
        normals[start : start + chunk] = np.linalg.eigh(np.einsum("nki,nkj->nij", around, around))[1][:, :, 0]
    return normals


def segment(count: int, ends: Indices, costs: Array, *, k: float, least: int) -> Indices:
    """Felzenszwalb and Huttenlocher's segmentation of any graph.

    Parameters
    ----------
    count : int
        N.
    ends : ndarray of int64, shape (E, 2)
        Each edge once.
    costs : ndarray, shape (E,)
        Not negative.
    k, least : float, int
        See `K` and `LEAST`.

    Returns
    -------
    ndarray of int64, shape (N,)
        Numbered from 0 in the order of the points.
    """
    order = np.argsort(costs, kind="stable")
    first, second = ends[order, 0].tolist(), ends[order, 1].tolist()
    sorted_costs = costs[order].tolist()
    parent, size, limit = list(range(count)), [1] * count, [k] * count

    def root(point: int) -> int:
        while parent[point] != point:
            parent[point] = parent[parent[point]]
            point = parent[point]
        return point

    def join(one: int, other: int) -> int:
        if size[one] < size[other]:
            one, other = other, one
        parent[other] = one
        size[one] += size[other]
        return one

    for a, b, cost in zip(first, second, sorted_costs):
        one, other = root(a), root(b)
        if one != other and cost <= limit[one] and cost <= limit[other]:
            one = join(one, other)
            limit[one] = cost + k / size[one]
    for a, b in zip(first, second):
        one, other = root(a), root(b)
        if one != other and (size[one] < least or size[other] < least):
            join(one, other)
    roots = np.array([root(point) for point in range(count)], np.int64)
    _, number = np.unique(roots, return_inverse=True)
    return in_order(number.reshape(-1))


def in_order(labels: Indices) -> Indices:
    """Number labels from 0 in the order in which they first occur."""
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[inverse.reshape(-1)]


def read_superpoints(path: Path, count: int) -> Indices:
    """Read the superpoints of `count` points from the host's file, int64 for each point.

    Raises
    ------
    ValueError
        If there is no such file, it has another length, or a number below 0.
    """
    if not path.is_file():
        raise ValueError(f"{path} does not exist: `influencer-mmdet3d superpoints` writes it")
    if path.stat().st_size != 8 * count:
        raise ValueError(
            f"{path} has {path.stat().st_size} bytes, expected {8 * count}: int64 for each of {count} points"
        )
    labels = np.memmap(path, "<i8", "r") if count else np.zeros(0, np.int64)
    if labels.min(initial=0) < 0:
        raise ValueError(f"{path} has a superpoint {labels.min()}; they are numbered from 0")
    return labels
