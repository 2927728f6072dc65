"""The page of one frame's pictures: colour, range and masks side by side, values under the pointer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mapanything_opv2v import pictures
from mapanything_opv2v.geometry import Cylinder
from mapanything_opv2v.views.figures import error_limit_m, range_error, shown_ends
from mapanything_opv2v.views.frame import Estimate, Frame, View
from mapanything_opv2v.views.html import encode, encode_picture, write_page
from mapanything_opv2v.views.stage import vehicle_name

_MASK_RGB = {
    "covered": pictures.COLOR_ONLY_RGB,
    "sky": pictures.SKY_RGB,
    "has_range": pictures.RANGE_RGB,
    "mask": pictures.RANGE_RGB,
    "filled": pictures.FILLED_RGB,
}
"""Masks in the order in which they are painted, later ones over earlier ones."""

_SOURCES = (("pred", "predicted "), ("gt", "true "))


def write_panels(path: Path, frame: Frame) -> None:
    """Write the page of a frame's views; the page chooses among them."""
    what = "Panorama" if all(isinstance(view.camera, Cylinder) for view in frame.views) else "Pictures"
    write_page(
        path,
        title=f"{what} · {frame.name} · {frame.made_by}",
        facts={"frame": frame.name, **frame.provenance},
        body="panels.html",
        scripts=("panels.js",),
        data={"views": [view_panels(view, several=len(frame.views) > 1) for view in frame.views]},
    )


def view_panels(view: View, *, several: bool) -> dict[str, Any]:
    """Return a view's pictures, values and masks for the page."""
    panels: list[dict[str, Any]] = [{"title": "colour", "picture": encode_picture(view.image)}]
    layers, flags, masks = [], [], []
    near, far = ends_m = shown_ends(view)
    for source, text in _SOURCES:
        estimate, text = view.known(source), text if view.pred is not None else ""
        if estimate is not None and estimate.range_m is not None:
            panels.append(
                {
                    "title": f"{text}range (log scale)",
                    "picture": encode_picture(pictures.color_ranges(estimate.range_m, ends_m=ends_m)),
                }
                | {"ends": [f"{near:g} m", f"{far:g} m", True]}
                | {"legend": _range_legend(estimate.range_m)}
            )
            layers.append(layer(f"{text}range", estimate.range_m, "m", zero="none", negative="sky"))
        if estimate is not None and estimate.masks:
            masks.append(_mask_panel(f"{text}masks", estimate))
            flags.append(flag(f"{text}mask", estimate.masks))
    error = range_error(view)
    if error is not None:
        worst_m = error_limit_m(*error)
        legend = [["0 m", (0, 0, 0)], [f"{worst_m:g} m and more", (255, 255, 255)], ["unknown", (20, 24, 48)]]
        picture = encode_picture(pictures.color_errors(*error, worst_m))
        panels.append({"title": "difference in range", "picture": picture, "legend": legend})
    panels += masks
    name = f"{vehicle_name(view.agent_id)} {view.name}" if several else view.label
    return {
        "name": name,
        "width": view.size_wh[0],
        "height": view.size_wh[1],
        "wrap": isinstance(view.camera, Cylinder),
        "columns": 1 if view.size_wh[0] > 2.5 * view.size_wh[1] else min(3, len(panels)),
        "axes": _axes(view),
        "panels": panels,
        "layers": layers,
        "flags": flags,
    }


def layer(
    name: str,
    values: npt.NDArray[Any],
    unit: str,
    *,
    zero: str | None = None,
    negative: str | None = None,
    digits: int = 3,
) -> dict[str, Any]:
    """Return values (H, W) that the page reads out under the pointer; `zero`, `negative`: what such values mean."""
    packed = encode(values.astype(np.float32))
    return {"name": name, "values": packed, "unit": unit, "zero": zero, "negative": negative, "digits": digits}


def flag(name: str, masks: Any) -> dict[str, Any]:
    """Return masks, one bit each, that the page names under the pointer."""
    if len(masks) > 8:
        raise ValueError(f"{len(masks)} masks, expected at most 8")
    bits = sum((mask.astype(np.uint8) << number for number, mask in enumerate(masks.values())), np.uint8(0))
    return {"name": name, "names": list(masks), "bits": encode(np.asarray(bits, np.uint8))}


def _range_legend(range_m: npt.NDArray[np.float32]) -> list[tuple[str, tuple[int, int, int]]]:
    """Return what the colours beside the scale mean, as far as they occur."""
    meanings = (("none", pictures.NOTHING_RGB, range_m == 0), ("sky", pictures.SKY_RGB, range_m < 0))
    return [(name, colour) for name, colour, where in meanings if where.any()]


def _mask_panel(title: str, estimate: Estimate) -> dict[str, Any]:
    shape = next(iter(estimate.masks.values())).shape
    picture = np.empty((*shape, 3), np.uint8)
    picture[:] = pictures.NOTHING_RGB
    legend: list[Sequence[Any]] = []
    for name in sorted(estimate.masks, key=list(_MASK_RGB).index):
        picture[estimate.masks[name]] = _MASK_RGB[name]
        legend.append([f"{name} {estimate.masks[name].mean():.1%}", _MASK_RGB[name]])
    return {"title": title, "picture": encode_picture(picture), "legend": legend}


def _axes(view: View) -> dict[str, Any] | None:
    if isinstance(view.camera, Cylinder):
        return {
            "kind": "cylinder",
            "verticalFovDeg": view.camera.vertical_fov_deg,
            "elevationCenterDeg": view.camera.elevation_center_deg,
        }
    if view.camera is None:
        return None
    return {"kind": "pinhole", "intrinsic": view.camera.intrinsic.tolist()}
