"""Ways to break a valid file."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from typing import Any

Mutation = Callable[[random.Random, bytearray], None]

_WORDS = [
    value.to_bytes(size, order)
    for size in (1, 2, 4, 8)
    for order in ("little", "big")
    for value in (0, 1, (1 << 8 * size) - 1, (1 << 8 * size - 1) - 1, 1 << 8 * size - 1)
]
_TEXTS = [
    *(b"0", b"-1", b"1e999", b"-1e999", b"NaN", b"Infinity", b".nan", b"1e-320", b"2147483648", b"9223372036854775808"),
    *(
        b"9" * 400,
        b"9" * 5000,
        b"0x1F",
        b"1_0",
        b"null",
        b"true",
        b"~",
        b"[]",
        b"{}",
        b'""',
        b"\xff",
        b"\x00",
        b"\xe2\x80\xa8",
    ),
]
_NUMBER = re.compile(rb"-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")
ODD: list[Any] = [
    *(
        None,
        True,
        0,
        -1,
        1 << 31,
        1 << 63,
        1 << 64,
        10**400,
        0.5,
        -0.0,
        1e308,
        float("nan"),
        float("inf"),
        float("-inf"),
    ),
    *("", "\0", "..", "/", "a" * 5000, "\ud800", "9" * 400, [], {}, [[]], [None], {"": None}, [0] * 1000),
]
"""Values that stand where another one is expected."""


def any_bytes(rng: random.Random, seeds: Sequence[bytes]) -> bytes:
    """Return a seed after one to four changes that know nothing of its format."""
    data = bytearray(rng.choice(seeds))
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        rng.choice((_flip, _flip, _flip, _cut, _drop, _repeat, _word, _splice(seeds)))(rng, data)
    return bytes(data)


def any_text(rng: random.Random, seeds: Sequence[bytes]) -> bytes:
    """Return a seed after changes that know numbers, brackets and lines."""
    if rng.random() < 0.3:
        return any_bytes(rng, seeds)
    data = bytearray(rng.choice(seeds))
    for _ in range(rng.choice((1, 1, 2, 3))):
        rng.choice((_number, _number, _number, _insert, _nest, _cut, _repeat, _splice(seeds)))(rng, data)
    return bytes(data)


def any_tree(
    load: Callable[[bytes], Any], dump: Callable[[Any], bytes]
) -> Callable[[random.Random, Sequence[bytes]], bytes]:
    """Return what breaks a seed as text, or loads it, changes one value, and dumps it again."""

    def mutate(rng: random.Random, seeds: Sequence[bytes]) -> bytes:
        if rng.random() < 0.4:
            return any_text(rng, seeds)
        try:
            data = dump(value(rng, load(rng.choice(seeds))))
        except (RecursionError, ValueError):  # it cannot be written, so it cannot be met
            return any_text(rng, seeds)
        return any_bytes(rng, [data]) if rng.random() < 0.2 else data

    return mutate


def value(rng: random.Random, tree: Any) -> Any:
    """Return nested lists and dicts with one value, somewhere, replaced, removed, renamed or nested."""
    if isinstance(tree, dict | list) and tree and rng.random() < 0.85:
        keys: list[Any] = list(tree) if isinstance(tree, dict) else list(range(len(tree)))
        copy: Any = dict(tree) if isinstance(tree, dict) else list(tree)
        key, kind = rng.choice(keys), rng.random()
        if kind < 0.08:
            del copy[key]
        elif kind < 0.12 and isinstance(copy, dict):
            copy[rng.choice(["", "x", "error", "id"])] = copy.pop(key)
        elif kind < 0.15 and isinstance(copy, list):
            copy.append(copy[key])
        else:
            copy[key] = value(rng, copy[key])
        return copy
    if rng.random() < 0.03:
        for _ in range(rng.choice((50, 900))):
            tree = [tree]
        return tree
    return rng.choice(ODD)


def _place(rng: random.Random, data: bytearray) -> int:
    return rng.randrange(len(data) + 1)


def _flip(rng: random.Random, data: bytearray) -> None:
    for _ in range(rng.choice((1, 1, 2, 8))):
        if data:
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def _cut(rng: random.Random, data: bytearray) -> None:
    del data[_place(rng, data) :]


def _drop(rng: random.Random, data: bytearray) -> None:
    start = _place(rng, data)
    del data[start : start + rng.choice((1, 2, 8, 64))]


def _repeat(rng: random.Random, data: bytearray) -> None:
    start = _place(rng, data)
    data[start:start] = data[start : start + rng.choice((1, 8, 64, 512))] * rng.choice((1, 2, 20))


def _word(rng: random.Random, data: bytearray) -> None:
    word, start = rng.choice(_WORDS), _place(rng, data)
    data[start : start + len(word)] = word


def _splice(seeds: Sequence[bytes]) -> Mutation:
    def splice(rng: random.Random, data: bytearray) -> None:
        other = rng.choice(seeds)
        data[_place(rng, data) :] = other[rng.randrange(len(other) + 1) :]

    return splice


def _number(rng: random.Random, data: bytearray) -> None:
    found = list(_NUMBER.finditer(data))
    if found:
        start, stop = rng.choice(found).span()
        data[start:stop] = rng.choice(_TEXTS)


def _insert(rng: random.Random, data: bytearray) -> None:
    start = _place(rng, data)
    data[start:start] = rng.choice(_TEXTS)


def _nest(rng: random.Random, data: bytearray) -> None:
    start = _place(rng, data)
    data[start:start] = rng.choice((b"[", b'{"a":', b"(", b"- ", b"<")) * rng.choice((3, 200, 20_000))
