"""RefSpatial-Bench in the layout of the hub: Parquet files as the library `datasets` writes them."""

import io
import json
import sys

import numpy as np
import pytest
from PIL import Image
from roborefer_spatial.importing import benchmarks
from roborefer_spatial.importing.parquet import picture, read_parquet

pyarrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
parquet = pytest.importorskip("pyarrow.parquet")
WIDTH, HEIGHT = 64, 48


def png(array):
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, "PNG")
    return stream.getvalue()


def mask(seed):
    found = np.zeros((HEIGHT, WIDTH), np.uint8)
    x, y = np.random.default_rng(seed).integers(0, (WIDTH - 20, HEIGHT - 20))
    found[y : y + 20, x : x + 20] = 255
    return found


def rows(count, start=0):
    """Rows with the columns that the published files have."""
    return [
        {
            "id": start + index,
            "image": {"bytes": png(np.full((HEIGHT, WIDTH, 3), index, np.uint8)), "path": f"{index}.png"},
            "mask": {"bytes": png(mask(start + index)), "path": f"{index}_mask.png"},
            "object": "cup",
            "prompt": f"Point at cup {index}.",
            "suffix": "Answer as [(x, y)].",
            "step": 2,
        }
        for index in range(count)
    ]


def write(path, table):
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pyarrow.Table.from_pylist(table), path)
    return path


def as_json(folder, table):
    """The same questions as RefSpatial-Bench's raw files."""
    listed = []
    for row in table:
        for kind in ("image", "mask"):
            (folder / kind).mkdir(parents=True, exist_ok=True)
            (folder / kind / f"{row['id']}.png").write_bytes(row[kind]["bytes"])
        paths = {"rgb_path": f"image/{row['id']}.png", "mask_path": f"mask/{row['id']}.png"}
        listed.append({**{key: row[key] for key in ("id", "object", "prompt", "suffix", "step")}, **paths})
    (folder / "question.json").write_text(json.dumps(listed))
    return folder


def test_the_hubs_files_equal_the_raw_ones(tmp_path):
    datasets = pytest.importorskip("datasets", reason="datasets is not installed")
    table = rows(40)
    kinds = {"id": "int64", "object": "string", "prompt": "string", "suffix": "string", "step": "int64"}
    features = datasets.Features(
        {name: datasets.Value(kind) for name, kind in kinds.items()}
        | {"image": datasets.Image(), "mask": datasets.Image()}
    )
    (tmp_path / "hub/data").mkdir(parents=True)
    made = datasets.Dataset.from_list(table, features=features)
    made.to_parquet(tmp_path / "hub/data/location-00000-of-00001.parquet")
    raw = benchmarks.read(as_json(tmp_path / "Location", table))
    for place in ("hub", "hub/data", "hub/data/location-00000-of-00001.parquet"):
        found = benchmarks.read(tmp_path / place)
        assert [question.id for question in found] == [question.id for question in raw] == [str(n) for n in range(40)]
        assert [question.prompt for question in found] == [question.prompt for question in raw]
        assert {question.group for question in found} == {"location"}
        for one, other, row in zip(found, raw, table):
            assert np.array_equal(one.mask, other.mask) and one.images == (row["image"]["bytes"],)
    texts = {str(n): f"[({n / 40:.3f}, 0.5), (0.4, {n / 40:.3f})]" for n in range(40)}
    assert benchmarks.score(found, texts)["all"] == benchmarks.score(raw, texts)["all"]
    assert 0 < benchmarks.score(found, texts)["all"]["accuracy"] < 1


def test_splits_are_groups_and_shards_are_joined(tmp_path):
    for name, start in (("unseen-00000-of-00001", 0), ("location-00001-of-00002", 3), ("location-00000-of-00002", 0)):
        write(tmp_path / f"data/{name}.parquet", rows(3, start))
    (tmp_path / "README.md").write_text("a clone has other files too")
    found = benchmarks.read(tmp_path)
    assert [q.id for q in found] == [*(f"location/{n}" for n in range(6)), *(f"unseen/{n}" for n in range(3))]
    assert [q.group for q in found] == ["location"] * 6 + ["unseen"] * 3
    as_json(tmp_path / "Location", rows(2))  # a whole clone has both: the raw files are read
    assert [q.group for q in benchmarks.read(tmp_path)] == ["Location"] * 2


def test_a_picture_beside_the_table(tmp_path):
    table = rows(1)
    (tmp_path / "m.png").write_bytes(table[0]["mask"]["bytes"])
    table[0]["mask"] = {"bytes": None, "path": "m.png"}
    (question,) = benchmarks.read(write(tmp_path / "location.parquet", table))
    assert np.array_equal(question.mask, mask(0) > 0) and question.group == "location"
    (tmp_path / "m.png").unlink()
    with pytest.raises(ValueError, match=r"location.parquet, row 0, mask: m.png cannot be read: No such file"):
        benchmarks.read(tmp_path / "location.parquet")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda table: [row.pop("mask") for row in table], "has no column 'mask'; its columns: id, image, object"),
        (lambda table: table[1].update(mask=None), "row 1, mask: expected a picture as {'bytes', 'path'}"),
        (lambda table: [row.update(mask=b"abc") for row in table], "row 0, mask: expected a picture .* got b'abc'"),
        (lambda table: table[1]["mask"].update(bytes=b"no picture"), "row 1, mask"),
        (lambda table: table[1].update(id=0), "two questions have the id '0'"),
        (lambda table: table[1].update(id=None), "row 1: its id is empty"),
        (lambda table: table[0].update(prompt=None), "row 0: its prompt is empty"),
        (lambda table: table.clear(), "has no column 'id'"),
    ],
)
def test_what_is_refused(tmp_path, change, message):
    table = rows(2)
    change(table)
    with pytest.raises(ValueError, match=message):
        benchmarks.read(write(tmp_path / "location-00000-of-00001.parquet", table))


def test_a_table_without_rows(tmp_path):
    path = tmp_path / "location.parquet"
    parquet.write_table(pyarrow.Table.from_pylist(rows(1)).slice(0, 0), path)
    with pytest.raises(ValueError, match="no questions"):
        benchmarks.read(path)


def test_files_that_are_no_parquet(tmp_path):
    path = write(tmp_path / "location.parquet", rows(3))
    whole = path.read_bytes()
    for data in (whole[:-20], b"", b"PAR1 and no more", whole[:200] + bytes(200) + whole[400:]):
        path.write_bytes(data)
        with pytest.raises(ValueError, match=r"location.parquet(: cannot be read as Parquet from row|, row \d, )"):
            benchmarks.read(tmp_path)
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 18800000\n")
    with pytest.raises(ValueError, match="only the pointer to a file that Git LFS keeps; fetch it: git lfs pull"):
        benchmarks.read(tmp_path)


def test_without_pyarrow(tmp_path, monkeypatch):
    path = write(tmp_path / "location.parquet", rows(1))
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ValueError, match=r"needs the library pyarrow: pip install 'roborefer-spatial\[parquet\]'"):
        list(read_parquet(path, ["id"]))


def test_only_the_asked_columns(tmp_path):
    path = write(tmp_path / "a.parquet", rows(70))
    found = list(read_parquet(path, ["step", "id"]))
    assert found[69] == ("a.parquet, row 69", {"step": 2, "id": 69})
    assert picture({"bytes": b"x", "path": None}, "here", tmp_path) == b"x"
