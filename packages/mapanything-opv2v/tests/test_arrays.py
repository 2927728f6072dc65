"""Arrays of damaged files."""

import io
import zipfile

import numpy as np
import pytest
from mapanything_opv2v.arrays import load_npy, load_npz

GOOD = np.arange(6, dtype=np.float32).reshape(2, 3)


def npy(array, **changes):
    """Return a .npy file, words of its header replaced by others of the same length."""
    stream = io.BytesIO()
    np.save(stream, array)
    data = stream.getvalue()
    for old, new in changes.values():
        data = data.replace(old, new)
    return data


@pytest.mark.parametrize("array", [GOOD, np.asfortranarray(GOOD), np.array(3.0), np.zeros((0, 4)), np.array("text")])
def test_what_numpy_writes_is_read(tmp_path, array):
    np.save(tmp_path / "a.npy", array)
    np.savez(tmp_path / "a.npz", first=array, second=GOOD)
    archive = load_npz(tmp_path / "a.npz")
    assert list(archive) == ["first", "second"]
    for found in (load_npy(tmp_path / "a.npy"), archive["first"]):
        assert found.dtype == array.dtype and found.shape == array.shape and (found == array).all()
    archive["second"][0, 0] = 7  # may be written to


BROKEN = [
    (npy(GOOD)[:-1], r"23 bytes for float32 \(2, 3\); truncated\?"),
    (npy(GOOD, a=(b"(2, 3)", b"(2,9**")), "no header of a .npy array"),
    (npy(GOOD, a=(b"(2, 3), ", b"(9999999")), "no header of a .npy array|truncated"),
    (npy(GOOD, a=(b"(2, 3), }", b"(-2,-3),}")), "truncated"),
    (npy(GOOD, a=(b"{", b"(")), "no header of a .npy array"),
    (b"", "no header of a .npy array"),
    (npy(GOOD, a=(b"\x93NUMPY\x01", b"\x93NUMPY\x09")), "no header of a .npy array"),
]


@pytest.mark.parametrize(("data", "message"), BROKEN)
def test_damaged_arrays_are_value_errors(tmp_path, data, message):
    (tmp_path / "a.npy").write_bytes(data)
    with pytest.raises(ValueError, match=message):
        load_npy(tmp_path / "a.npy")
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("a.npy", data)
    with pytest.raises(ValueError, match=f"no whole .npz archive: .*({message})"):
        load_npz(tmp_path / "a.npz")


def test_damaged_archives_are_value_errors(tmp_path):
    np.savez_compressed(tmp_path / "good.npz", a=np.zeros(1000))
    good = (tmp_path / "good.npz").read_bytes()
    for place in range(0, len(good), 7):
        (tmp_path / "a.npz").write_bytes(good[:place] + b"\xff\xff\xff" + good[place + 3 :])
        try:
            load_npz(tmp_path / "a.npz")
        except ValueError as error:
            assert str(error).startswith("no whole .npz archive: ")


def test_objects_are_refused(tmp_path):
    np.savez(tmp_path / "a.npz", a=np.array([{}], dtype=object))
    with pytest.raises(ValueError, match="an array of Python objects, which are never unpickled here"):
        load_npz(tmp_path / "a.npz")
