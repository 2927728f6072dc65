"""Read a pickle of plain containers without running anything it asks for.

A pickle may name any importable callable and have it called. Infos files come from other people's
machines, so only plain Python values are accepted, and numpy values by their four constructors,
which are replaced here: no numpy code runs on the file's bytes before they have been checked.
"""

from __future__ import annotations

import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np

from influencer_mmdet3d.files import foreign_content

_NUMERIC = "biuf"


class _Dtype:
    """Stands for numpy.dtype while a pickle is read."""

    def __init__(self, code: str) -> None:
        self.code = code

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        byteorder, subdtype, names = state[1], state[2], state[3]
        if subdtype is not None or names is not None:
            raise pickle.UnpicklingError("structured numpy types are not accepted in an infos file")
        if byteorder in ("<", ">"):
            self.code = byteorder + self.code.lstrip("<>|=")

    def numpy(self) -> np.dtype[Any]:
        """Return the numeric numpy type."""
        dtype = np.dtype(self.code)
        if dtype.kind not in _NUMERIC:
            raise pickle.UnpicklingError(f"numpy values of type {self.code!r} are not accepted in an infos file")
        return dtype


class PickledArray:
    """A numpy array found in a pickle; `values` is the array."""

    values: np.ndarray[Any, np.dtype[Any]]

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, fortran, data = state
        self.values = _array(data, dtype, shape, "F" if fortran else "C")


def _array(data: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray[Any, np.dtype[Any]]:
    """Build an array from checked parts; numpy refuses lengths that do not fit."""
    if not isinstance(data, bytes | bytearray) or not isinstance(dtype, _Dtype):
        raise pickle.UnpicklingError("only numeric numpy arrays are accepted in an infos file")
    if order not in ("C", "F"):
        raise pickle.UnpicklingError(f"unknown array order {order!r}")
    return np.frombuffer(bytes(data), dtype.numpy()).reshape(shape, order=order)


def _dtype(code: Any, *_: Any) -> _Dtype:
    """Replace numpy.dtype(code, align, copy)."""
    if not isinstance(code, str) or len(code) > 4:
        raise pickle.UnpicklingError(f"unknown numpy type {code!r}")
    return _Dtype(code)


def _reconstruct(*_: Any) -> PickledArray:
    """Replace numpy's empty array that a later state fills."""
    return PickledArray()


def _from_buffer(data: Any, dtype: Any, shape: Any, order: Any) -> PickledArray:
    """Replace numpy's protocol 5 constructor."""
    made = PickledArray()
    made.values = _array(data, dtype, shape, order)
    return made


def _scalar(dtype: Any, data: Any) -> bool | int | float:
    """Replace numpy's scalar constructor; gives a Python number."""
    return _array(data, dtype, (), "C").item()


def _encode(text: Any, encoding: Any) -> bytes:
    """Replace _codecs.encode, by which protocols below 3 write bytes."""
    if not isinstance(text, str) or encoding != "latin1":
        raise pickle.UnpicklingError("only latin1 text is accepted as bytes")
    return text.encode("latin1")


def _ndarray(*_: Any) -> None:
    """Stand for numpy.ndarray, which pickles name as an argument and must not call."""
    raise pickle.UnpicklingError("an infos file must not call numpy.ndarray")


def _ordered_dict(*items: Any) -> dict[Any, Any]:
    return OrderedDict(*items)


def _set(*items: Any) -> set[Any]:
    return set(*items)


def _no_bytes() -> bytes:
    """Replace bytes, which protocols below 3 call for empty ones only."""
    return b""


_REPLACED = {
    ("collections", "OrderedDict"): _ordered_dict,
    ("_codecs", "encode"): _encode,
    ("builtins", "set"): _set,
    ("__builtin__", "set"): _set,
    ("__builtin__", "bytes"): _no_bytes,
    ("numpy", "dtype"): _dtype,
    ("numpy", "ndarray"): _ndarray,
}
for _core in ("core", "_core"):  # numpy 1 and numpy 2 write different module names
    _REPLACED[f"numpy.{_core}.multiarray", "_reconstruct"] = _reconstruct
    _REPLACED[f"numpy.{_core}.multiarray", "scalar"] = _scalar
    _REPLACED[f"numpy.{_core}.numeric", "_frombuffer"] = _from_buffer


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _REPLACED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(
                f"it asks for {module}.{name}; an infos file holds dicts, lists, text, numbers and "
                f"numeric numpy arrays only"
            ) from None


def load_plain(path: Path) -> Any:
    """Return the content of a pickle made of plain containers.

    Parameters
    ----------
    path : Path
        The file. Nothing it names is imported or called.

    Returns
    -------
    object
        Dicts, lists, tuples, sets, text, bytes, numbers, None; numpy scalars become Python numbers,
        numpy arrays become `PickledArray`.

    Raises
    ------
    ValueError
        If the file is not such a pickle; the message says what was found in it.
    OSError
        If the file cannot be read.
    """
    with path.open("rb") as file:
        try:
            return _PlainUnpickler(file).load()
        except OSError:
            raise
        except Exception as error:  # a damaged or hostile pickle makes the reader raise nearly anything
            found = foreign_content(path)
            reason = f"it is {found}" if found else str(error) or type(error).__name__
            raise ValueError(f"{path.name} is not a readable infos file: {reason}") from error
