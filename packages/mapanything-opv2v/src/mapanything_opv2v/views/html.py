"""One self-contained HTML file: template, style, scripts and data, with nothing loaded from elsewhere.

Names from data sets and checkpoints are untrusted: in markup they are escaped, in data they cannot end the
script element, scripts use them as text only, and a content security policy admits no other script.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cache
from html import escape
from importlib.resources import files as package_files
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mapanything_opv2v import pictures
from mapanything_opv2v.files import write_bytes

PALETTE = ((86, 180, 233), (230, 159, 0), (0, 190, 140), (213, 94, 0), (204, 121, 197), (240, 228, 66), (120, 140, 255))
"""Colours of vehicles (Okabe and Ito's, brightened for dark ground), RGB; the eighth vehicle has the first's."""


SCENE_SCRIPTS = ("shapes.js", "input.js", "scene.js", "controls.js")
"""What every page with a scene runs before its own script."""


def write_page(
    path: Path,
    *,
    title: str,
    facts: Mapping[str, str],
    body: str,
    scripts: Sequence[str],
    data: Mapping[str, Any],
    kind: str = "",
) -> None:
    """Write a page, whole or not at all.

    Parameters
    ----------
    path : Path
        HTML file.
    title : str
        Untrusted text.
    facts : mapping of str to str
        What stands under the title: label and value, untrusted text.
    body : str
        Name of the HTML asset between header and data.
    scripts : sequence of str
        Names of the assets that run, in order, after ``base.js``.
    data : mapping
        For the scripts; arrays through `encode`. NaN is refused.
    kind : str
        Class of the body element.
    """
    style, script = _asset("base.css"), "\n".join(map(_asset, ("base.js", *scripts)))
    parts = {
        "policy": escape(
            f"default-src 'none'; img-src data:; style-src {_hash(style)}; script-src {_hash(script)}", quote=True
        ),
        "title": escape(title),
        "facts": " &middot; ".join(f"{escape(label)} <b>{escape(value)}</b>" for label, value in facts.items()),
        "css": style,
        "kind": kind,
        "body": _asset(body),
        "data": _json({"turbo": encode(_turbo()), **data}),
        "script": script,
    }
    first, *pieces = _asset("base.html").split("{{")
    text = first + "".join(parts[name] + rest for name, _, rest in (piece.partition("}}") for piece in pieces))
    write_bytes(path, text.encode())


def encode(array: npt.NDArray[Any]) -> str:
    """Return an array's bytes, little endian, as base64."""
    little = array.astype(array.dtype.newbyteorder("<"), copy=False)
    return base64.b64encode(np.ascontiguousarray(little).tobytes()).decode()


def encode_picture(picture: pictures.Picture) -> str:
    """Return an RGB picture as a data URI."""
    return f"data:image/png;base64,{base64.b64encode(pictures.encode_png(picture)).decode()}"


def _turbo() -> npt.NDArray[np.uint8]:
    """Return the colours of ranges (256, 3), from low to high values."""
    share = np.linspace(1, 0, 256)  # pictures have near, the low end, red; errors and heights have it blue
    ranges = pictures.NEAR_M * (pictures.FAR_M / pictures.NEAR_M) ** share
    return pictures.color_ranges(ranges[None])[0]


@cache
def _asset(name: str) -> str:
    return (package_files("mapanything_opv2v") / "views" / "assets" / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _json(value: Any) -> str:
    """Return JSON that cannot end the script element it stands in."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
