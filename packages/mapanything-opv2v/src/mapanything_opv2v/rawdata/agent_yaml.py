"""One agent's YAML of one frame, read without executing anything.

Real dumps carry numpy scalars and Python tuples as tags. Those two are understood, every other Python tag is
refused by name, so a hostile file cannot run code.
"""

from __future__ import annotations

import math
import reprlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from mapanything_opv2v.geometry import FloatArray

MAX_YAML_BYTES = 16 * 1024 * 1024
"""Larger files are refused: a frame with 200 vehicles has about 60 kB."""

MAX_NESTING = 50
"""Deeper files are refused; OPV2V's have 5 levels."""

MAX_NODES = 1_000_000
"""Files with more values (aliases written out) are refused; OPV2V's have some thousands."""

_SCALAR_KINDS = {"f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1"}
_PYTHON_TAG = "tag:yaml.org,2002:python/"


@dataclass(frozen=True)
class CameraMeta:
    """One camera of one agent at one frame.

    Attributes
    ----------
    cords : (6,) float64
        Camera pose in the CARLA map frame, ``[x, y, z, roll, yaw, pitch]``, metres and degrees.
    extrinsic : (4, 4) float64 or None
        The file's own transform from LiDAR to camera coordinates, both in CARLA axes.
    intrinsic : (3, 3) float64
        Pinhole matrix in the OpenCV convention: pixel centres at integers. CARLA measures from the image's
        corner (cx = width / 2), so this is the file's matrix with half a pixel taken off cx and cy.
    size_wh : (int, int) or None
        Width and height of the images it is for, where the file states `image_size` (OPV2V's do not).
    """

    cords: FloatArray
    extrinsic: FloatArray | None
    intrinsic: FloatArray
    size_wh: tuple[int, int] | None = None


@dataclass(frozen=True)
class Vehicle:
    """An annotated vehicle, CARLA map frame.

    Attributes
    ----------
    location : (3,) float64
        Actor origin, metres.
    center : (3,) float64
        Box centre relative to `location` in the vehicle's own axes, metres.
    extent : (3,) float64
        Half sizes along x, y, z, metres.
    angle : (3,) float64
        ``[roll, yaw, pitch]``, degrees.
    speed : float
        km/h; NaN where the file has none.
    """

    location: FloatArray
    center: FloatArray
    extent: FloatArray
    angle: FloatArray
    speed: float


@dataclass(frozen=True)
class AgentMeta:
    """Everything an agent's YAML says about one frame.

    Attributes
    ----------
    lidar_pose : (6,) float64
        ``[x, y, z, roll, yaw, pitch]``, CARLA map frame, metres and degrees.
    cameras : dict of int to CameraMeta
        By camera index.
    vehicles : dict of int to Vehicle
        By actor id.
    ego_speed : float
        km/h; NaN where the file has none (infrastructure).
    true_ego_pos : (6,) float64 or None
        Vehicle pose, as `lidar_pose`.
    """

    lidar_pose: FloatArray
    cameras: dict[int, CameraMeta]
    vehicles: dict[int, Vehicle]
    ego_speed: float
    true_ego_pos: FloatArray | None


def load_yaml(path: Path) -> Any:
    """Return the plain Python value of a YAML file (numpy scalars and tuples become Python's)."""
    size = path.stat().st_size
    if size > MAX_YAML_BYTES:
        raise ValueError(f"{path}: {size} bytes of YAML, expected at most {MAX_YAML_BYTES}; not an OPV2V file?")
    data = path.read_bytes()
    try:
        _check_structure(data, path)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not readable as YAML: {error}") from error
    try:
        return yaml.load(data, Loader=_Loader)
    except (yaml.YAMLError, ValueError, OverflowError) as error:  # no such date, a number of too many digits
        raise ValueError(f"{path}: not readable as YAML: {error}") from error


def _check_structure(data: bytes, path: Path) -> None:
    """Refuse files whose loading would not end well: deep nesting crashes the C loader, aliases multiply.

    Counts what the file stands for with every alias written out.
    """
    sizes: dict[str, int] = {}
    open_collections: list[tuple[str | None, int]] = []  # anchor, and size of everything before it
    size = 0
    for event in yaml.parse(data, Loader=_Loader):
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in sizes:
                raise ValueError(f"{path}: not readable as YAML: alias *{event.anchor} stands in or before its anchor")
            size += sizes[event.anchor]
        elif isinstance(event, yaml.CollectionStartEvent):
            open_collections.append((event.anchor, size))
            size += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = open_collections.pop()
            if anchor is not None:
                sizes[anchor] = size - before
        elif isinstance(event, yaml.ScalarEvent):
            size += 1
            if event.anchor is not None:
                sizes[event.anchor] = 1
        if len(open_collections) > MAX_NESTING or size > MAX_NODES:
            raise ValueError(
                f"{path}: not readable as YAML: more than {MAX_NESTING} levels or {MAX_NODES} values; "
                "not an OPV2V file?"
            )


def parse_agent(data: Any, where: str) -> AgentMeta:
    """Turn a loaded YAML value into an `AgentMeta`; `where` names the file in errors."""
    if not isinstance(data, Mapping):
        raise ValueError(f"{where}: expected a mapping at the top, got {type(data).__name__}")
    cameras = {}
    for key, value in data.items():
        name = str(key)
        if name.startswith("camera") and name[6:].isdecimal():
            cameras[int(name[6:])] = _camera(value, f"{where}: {name}")
    vehicles = data.get("vehicles") or {}
    if not isinstance(vehicles, Mapping):
        raise ValueError(f"{where}: vehicles: expected a mapping by id, got {type(vehicles).__name__}")
    ego = data.get("true_ego_pos")
    return AgentMeta(
        lidar_pose=_array(data, "lidar_pose", (6,), where),
        cameras=dict(sorted(cameras.items())),
        vehicles=dict(_vehicle(key, value, where) for key, value in vehicles.items()),
        ego_speed=_number(data, "ego_speed", where),
        true_ego_pos=None if ego is None else _array(data, "true_ego_pos", (6,), where),
    )


def _camera(value: Any, where: str) -> CameraMeta:
    if not isinstance(value, Mapping):
        raise ValueError(f"{where}: expected a mapping, got {type(value).__name__}")
    intrinsic = _array(value, "intrinsic", (3, 3), where)
    if not (intrinsic[0, 0] > 0 and intrinsic[1, 1] > 0 and np.array_equal(intrinsic[2], (0, 0, 1))):
        raise ValueError(
            f"{where}: intrinsic: expected [[fx, s, cx], [0, fy, cy], [0, 0, 1]] with fx, fy > 0, "
            f"got {intrinsic.tolist()}"
        )
    intrinsic[:2, 2] -= 0.5  # from the image's corner to pixel centres at integers
    extrinsic = None if value.get("extrinsic") is None else _array(value, "extrinsic", (4, 4), where)
    size = None
    if value.get("image_size") is not None:
        width, height = _array(value, "image_size", (2,), where).tolist()
        if min(width, height) < 2 or width % 1 or height % 1:
            raise ValueError(f"{where}: image_size: expected [width, height] in pixels, got {[width, height]}")
        size = (int(width), int(height))
    return CameraMeta(_array(value, "cords", (6,), where), extrinsic, intrinsic, size)


def _vehicle(key: Any, value: Any, where: str) -> tuple[int, Vehicle]:
    where = f"{where}: vehicles: {key}"
    if not isinstance(value, Mapping):
        raise ValueError(f"{where}: expected a mapping, got {type(value).__name__}")
    try:
        number = int(key)
    except (TypeError, ValueError):
        raise ValueError(f"{where}: expected an integer actor id, got {reprlib.repr(key)}") from None
    vehicle = Vehicle(
        location=_array(value, "location", (3,), where),
        center=_array(value, "center", (3,), where),
        extent=_array(value, "extent", (3,), where),
        angle=_array(value, "angle", (3,), where),
        speed=_number(value, "speed", where),
    )
    return number, vehicle


def _array(data: Mapping[Any, Any], key: str, shape: tuple[int, ...], where: str) -> FloatArray:
    if key not in data:
        known = ", ".join(sorted(map(str, data))[:12]) or "none"
        raise ValueError(f"{where}: no key {key!r}; keys there: {known}")
    try:
        array = np.array(data[key], dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{where}: {key}: expected numbers of shape {shape}, got {reprlib.repr(data[key])}") from None
    if array.shape != shape:
        raise ValueError(f"{where}: {key}: expected shape {shape}, got {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"{where}: {key}: expected finite numbers, got {array.tolist()}")
    return array


def _number(data: Mapping[Any, Any], key: str, where: str) -> float:
    value = data.get(key)
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"{where}: {key}: expected a number, got {reprlib.repr(value)}")
    if isinstance(value, int) and abs(value) > sys.float_info.max:
        raise ValueError(f"{where}: {key}: expected a number that fits 64 bits, got {reprlib.repr(value)}")
    return float(value)


class _DType(str):
    """A numpy type code met in a YAML file."""

    __slots__ = ()


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """PyYAML's safe loader that also understands numpy scalars and tuples."""


def _tuple(loader: yaml.SafeLoader, node: yaml.SequenceNode) -> tuple[Any, ...]:
    return tuple(loader.construct_sequence(node, deep=True))


def _dtype(loader: yaml.SafeLoader, node: yaml.Node) -> _DType:
    # {args: [code, align, copy], state: (version, byte order, ...)}: code and byte order are all that matter
    if not isinstance(node, yaml.MappingNode):
        raise yaml.constructor.ConstructorError(None, None, "expected a numpy.dtype mapping", node.start_mark)
    value = loader.construct_mapping(node, deep=True)
    args, state = value.get("args"), value.get("state") or (3, "|")
    code = args[0] if isinstance(args, list) and args else None
    order = state[1] if isinstance(state, tuple) and len(state) > 1 else None
    if code not in _SCALAR_KINDS or order not in ("<", ">", "|", "="):
        raise yaml.constructor.ConstructorError(
            None,
            None,
            f"numpy.dtype of code {code!r}, byte order {order!r} is not a plain number",
            node.start_mark,
        )
    return _DType(order + code)


def _scalar(loader: yaml.SafeLoader, node: yaml.Node) -> Any:
    # [dtype, bytes]
    value = loader.construct_sequence(node, deep=True) if isinstance(node, yaml.SequenceNode) else None
    if not (isinstance(value, list) and len(value) == 2):
        raise yaml.constructor.ConstructorError(None, None, "expected [dtype, bytes]", node.start_mark)
    dtype, data = value
    if not isinstance(dtype, _DType) or not isinstance(data, bytes) or len(data) != np.dtype(dtype).itemsize:
        raise yaml.constructor.ConstructorError(None, None, "malformed numpy scalar", node.start_mark)
    return np.frombuffer(data, dtype=np.dtype(dtype))[0].item()


_Loader.add_constructor(_PYTHON_TAG + "tuple", _tuple)
_Loader.add_constructor(_PYTHON_TAG + "object/apply:numpy.dtype", _dtype)
for _module in ("numpy.core.multiarray", "numpy._core.multiarray"):
    _Loader.add_constructor(f"{_PYTHON_TAG}object/apply:{_module}.scalar", _scalar)
