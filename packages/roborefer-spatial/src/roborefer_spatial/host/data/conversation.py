"""Media tokens of a conversation: one rule for training and for prediction."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

IMAGE_TOKEN = "<image>"
DEPTH_TOKEN = "<depth>"
_MEDIA = re.compile(rf"(?:{IMAGE_TOKEN}|{DEPTH_TOKEN})\n?")

Turn = dict[str, str]


def media_prefix(images: int, *, with_depth: bool = False) -> str:
    """Return the tokens that open a prompt: one line for each image."""
    return (f"{IMAGE_TOKEN} {DEPTH_TOKEN}\n" if with_depth else f"{IMAGE_TOKEN}\n") * images


def with_media_tokens(text: str, images: int, *, with_depth: bool = False) -> str:
    """Return `text` with exactly one token line per image in front and none elsewhere.

    Tokens already in the text are dropped first, wherever they stand, and white space around the text with
    them, so that the result does not depend on how the sample was written.

    Examples
    --------
    >>> with_media_tokens("<image>Where is it?", 2)
    '<image>\\n<image>\\nWhere is it?'
    """
    return media_prefix(images, with_depth=with_depth) + _MEDIA.sub("", text).strip()


def opened_conversation(turns: Sequence[Mapping[str, str]], images: int, *, with_depth: bool = False) -> list[Turn]:
    """Return a copy of a conversation whose first turn opens with the media tokens and no other turn has any.

    Parameters
    ----------
    turns : sequence of {"from": str, "value": str}
        The conversation, human first.
    images : int
        Number of images of the sample.
    with_depth : bool
        Whether every image is followed by its depth map.
    """
    first, *rest = turns
    opened = [{**first, "value": with_media_tokens(first["value"], images, with_depth=with_depth)}]
    return opened + [{**turn, "value": _MEDIA.sub("", turn["value"]).strip()} for turn in rest]


def check_opening(prompt: str, images: int, *, with_depth: bool = False) -> None:
    """Assert that a prompt begins with exactly the tokens of its images.

    Raises
    ------
    AssertionError
        Showing the prompt, if a token is missing, surplus, or not at the beginning.
    """
    prefix = media_prefix(images, with_depth=with_depth)
    found = prompt.count(IMAGE_TOKEN)
    if not prompt.startswith(prefix) or _MEDIA.search(prompt[len(prefix) :]):
        raise AssertionError(
            f"a prompt of {images} image(s) must begin with exactly {prefix!r}, and has {found} "
            f"{IMAGE_TOKEN} "
            f"token(s): {prompt!r}"
        )


def media_opening(prompt: str) -> str:
    """Return a prompt up to and with its last media token; empty without one."""
    ends = [match.start() + len(match.group().rstrip("\n")) for match in _MEDIA.finditer(prompt)]
    return prompt[: max(ends, default=0)]
