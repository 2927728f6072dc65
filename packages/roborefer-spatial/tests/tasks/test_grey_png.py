import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from roborefer_spatial.tasks.grey_png import decode_grey

LIMIT = 1 << 26


def chunk(kind, data, crc=None):
    return (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data) if crc is None else crc)
    )


def png(rows, *, header=None, packed=None, extra=b"", end=b""):
    """Return the file of (h, 1 + w) uint8 rows, each with its filter in front."""
    rows = np.asarray(rows, np.uint8)
    header = header or struct.pack(">IIBBBBB", rows.shape[1] - 1, rows.shape[0], 8, 0, 0, 0, 0)
    packed = zlib.compress(rows.tobytes()) if packed is None else packed
    body = chunk(b"IHDR", header) + extra + chunk(b"IDAT", packed) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body + end


def pillow(data):
    return np.asarray(Image.open(io.BytesIO(data)))


def test_filters_by_hand():
    data = png([[1, 5, 1, 255], [0, 7, 8, 9], [2, 1, 0, 250], [2, 1, 1, 1]])
    expected = [[5, 6, 5], [7, 8, 9], [8, 8, 3], [9, 9, 4]]
    assert decode_grey(data, LIMIT).tolist() == expected == pillow(data).tolist()


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32 - 1), st.booleans())
def test_any_rows_are_as_pillow_reads_them(width, height, seed, sparse):
    generator = np.random.default_rng(seed)
    rows = generator.integers(0, 256, (height, width + 1))
    rows[:, 1:] *= generator.random((height, 1)) < (0.3 if sparse else 1)
    rows[:, 0] = generator.integers(0, 3, height)
    np.testing.assert_array_equal(decode_grey(png(rows), LIMIT), pillow(png(rows)))


@pytest.mark.parametrize("optimize", [False, True])
def test_masks_that_pillow_writes(optimize):
    col, row = np.meshgrid(np.arange(640), np.arange(480))
    mask = np.where(((col - 300) / 120) ** 2 + ((row - 200) / 70) ** 2 < 1, 255, 0).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(mask).save(stream, "png", optimize=optimize)
    np.testing.assert_array_equal(decode_grey(stream.getvalue(), LIMIT), mask)


def test_several_idat_chunks_are_one_stream():
    packed = zlib.compress(bytes([0, 1, 2, 0, 3, 4]))
    data = png([[0, 1, 2], [0, 3, 4]], packed=packed[5:], extra=chunk(b"IDAT", packed[:5]))
    assert decode_grey(data, LIMIT).tolist() == [[1, 2], [3, 4]] == pillow(data).tolist()


ROWS = [[0, 1, 2], [0, 3, 4]]
STREAM = zlib.compress(bytes([0, 1, 2, 0, 3, 4]))


def kind(*numbers):
    return struct.pack(">IIBBBBB", 2, 2, *numbers)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"GIF89a" + png(ROWS), id="no PNG"),
        pytest.param(png(ROWS)[:-1], id="cut"),
        pytest.param(png(ROWS)[:-12], id="no IEND"),
        pytest.param(png(ROWS, end=b"x"), id="more behind the end"),
        pytest.param(png(ROWS, end=chunk(b"IEND", b"")), id="two ends"),
        pytest.param(png(ROWS, extra=chunk(b"tEXt", b"a\0b")), id="another chunk"),
        pytest.param(png(ROWS, extra=chunk(b"eXIf", b"")), id="EXIF"),
        pytest.param(png(ROWS, extra=chunk(b"IDAT", b"", crc=1)), id="wrong CRC"),
        pytest.param(png(ROWS, header=kind(4, 0, 0, 0, 0)), id="4 bits"),
        pytest.param(png(ROWS, header=kind(8, 3, 0, 0, 0)), id="palette"),
        pytest.param(png(ROWS, header=kind(8, 0, 1, 0, 0)), id="other compression"),
        pytest.param(png(ROWS, header=kind(8, 0, 0, 1, 0)), id="other filters"),
        pytest.param(png(ROWS, header=kind(8, 0, 0, 0, 1)), id="interlaced"),
        pytest.param(png(ROWS, header=kind(8, 0, 0, 0, 0) + b"x"), id="long header"),
        pytest.param(png(ROWS, header=struct.pack(">IIBBBBB", 2, 0, 8, 0, 0, 0, 0)), id="no pixels"),
        pytest.param(png([[0, 1, 2], [3, 3, 4]]), id="Average"),
        pytest.param(png([[4, 1, 2], [0, 3, 4]]), id="Paeth"),
        pytest.param(png(ROWS, packed=STREAM[:-1]), id="stream without its end"),
        pytest.param(png(ROWS, packed=STREAM[:-1] + b"x"), id="wrong Adler checksum"),
        pytest.param(png(ROWS, packed=STREAM + b"x"), id="more behind the stream"),
        pytest.param(png(ROWS, packed=b"no stream"), id="no stream"),
        pytest.param(png(ROWS, packed=zlib.compress(bytes(5))), id="too few rows"),
        pytest.param(png(ROWS, packed=zlib.compress(bytes(7))), id="too many rows"),
        pytest.param(png(ROWS, packed=zlib.compress(bytes(1 << 20))), id="far too many rows"),
    ],
)
def test_everything_else_is_left_to_pillow(data):
    assert decode_grey(data, LIMIT) is None


def test_a_large_image_is_left_to_pillow():
    assert decode_grey(png(ROWS), 4) is not None
    assert decode_grey(png(ROWS), 3) is None
