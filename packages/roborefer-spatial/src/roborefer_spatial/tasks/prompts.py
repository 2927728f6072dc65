"""The questions of the tasks. No `<image>` tokens: whoever feeds a model puts in one for each image."""

from __future__ import annotations

from roborefer_spatial.answers import NOT_VISIBLE

SPLIT = " Answer with one point as "
"""What stands between the question and how it is to be answered."""

VERSION = 1
"""Recorded in manifests; raise it when a text changes."""

_FORMAT = (
    "Answer with one point as [(x, y)], where x runs from 0 at the left edge to 1 at the right edge and y "
    "from 0 at the top to 1 at the bottom of {frame}."
)
_OR_NOT_VISIBLE = f" If the object cannot be seen in {{query}}, answer exactly {NOT_VISIBLE}."

CORRESPONDENCE = (
    "The first image shows a scene in which one object is tinted red. The second image shows the same scene "
    "from another viewpoint, without any marking. Find the same object in the second image and point to it. "
    + _FORMAT.format(frame="the second image")
    + _OR_NOT_VISIBLE.format(query="the second image")
)
"""Task 1 (multi) and Task 2A: images [A marked, B]."""

DIFFERENCE = (
    "The two images show the same view. An object of the first image has been removed from the second one. "
    "Point to the place in the second image where it has been removed. " + _FORMAT.format(frame="the second image")
)
"""Task 2B: images [original, inpainted]."""


def correspondence_side_by_side(ref_point: str) -> str:
    """Return the question of Task 1 (concat): A marked left, B right, in one image.

    Parameters
    ----------
    ref_point
        A point of the object in A, formatted as an answer, in fractions of the whole image.
    """
    return (
        "The image shows two views of the same scene side by side. In the left one an object is tinted red; "
        f"the point {ref_point} of the whole image lies on it. The right view shows the scene from another "
        "viewpoint, without any marking. Find the same object in the right view and point to it. "
        + _FORMAT.format(frame="the whole image, both views together")
        + _OR_NOT_VISIBLE.format(query="the right view")
    )
