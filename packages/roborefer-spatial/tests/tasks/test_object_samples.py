import json
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from roborefer_spatial.answers import parse
from roborefer_spatial.images import pixel_of, read_rgb
from roborefer_spatial.sample import Sample
from roborefer_spatial.tasks.masks import sample_seed, to_mask
from roborefer_spatial.tasks.object_samples import BuildOptions, build_uid
from roborefer_spatial.tasks.scenes import scan


@pytest.fixture
def made(x3_tree, tmp_path):
    """Build the tree's first object; return (set name to samples, reasons of what was left out)."""

    def make(**options):
        result = build_uid(scan(x3_tree.root)[0], BuildOptions(out_dir=tmp_path / "out", **options))
        sets: dict[str, list[Sample]] = {}
        for name, visible, line, line_jsonl in result.rows:
            sample = Sample.from_row(json.loads(line_jsonl))
            assert Sample.from_row(json.loads(line)) == sample
            assert sample.visible == visible
            sets.setdefault(name, []).append(sample)
        return sets, [(skip.reason, skip.where) for skip in result.skipped]

    return make


def ids(samples):
    return [sample.id for sample in samples]


def test_the_tasks_of_an_object(x3_tree, made):
    x3_tree.uid(views=3, hidden=(3,))
    sets, skipped = made()
    assert skipped == []
    assert {name: ids(samples) for name, samples in sets.items()} == {
        "t1_train_multi": ["T1_MULTI_s1_uid1_A01000001_B02000002", "T1_MULTI_s1_uid1_A01000001_B03000003"],
        "t1_train_concat": ["T1_CONCAT_s1_uid1_A01000001_B02000002", "T1_CONCAT_s1_uid1_A01000001_B03000003"],
        "t2a_train_multi": ["T2A_MULTI_s1_uid1_A01000001_B03000003"],
        "t2b_train_multi": ["T2B_MULTI_s1_uid1_K01000001", "T2B_MULTI_s1_uid1_K02000002"],
    }


def test_a_multi_sample(x3_tree, made, tmp_path):
    folder = x3_tree.uid(views=2)
    (sample,) = made()[0]["t1_train_multi"]
    marked, query = sample.image
    assert Path(marked).parent == tmp_path / "out/marked/train/s1/uid_1"
    assert query == sample.query_original == str(folder / "02_000002_original.png")
    # the 6 x 3 mask at (6, 6) grows by one pixel: box (5..12, 5..9), whose centre (9, 7.5) is in pixel (9, 7)
    assert sample.answer == "[(0.396, 0.417)]"
    assert sample.answer_point == (9.5 / 24, 7.5 / 18)
    assert sample.ref_point == (9.5 / 24, 7.5 / 18)
    assert (sample.coord_frame, sample.concat, sample.query_size) == ("query", None, (24, 18))
    assert sample.mask_path == str(folder / "02_000002_mask.png")
    assert sample.mask_dilated_path == str(folder / "02_000002_mask_dialated.png")
    assert (sample.gt_mask, sample.split, sample.scene, sample.uid) == ("dilated", "train", "s1", "1")
    assert (sample.view_ref, sample.view_query) == ("01", "02")


def test_concat_answers_are_in_the_whole_images_frame(x3_tree, made):
    """The earlier builder gave B's own frame; half of these answers would lie in the left half."""
    x3_tree.uid(views=4, hidden=(3,))
    sets, _ = made()
    for multi, whole in zip(sets["t1_train_multi"], sets["t1_train_concat"]):
        assert whole.visible == multi.visible
        assert whole.ref_point == (multi.ref_point[0] / 2, multi.ref_point[1])
        assert f"[({whole.ref_point[0]:.3f}, {whole.ref_point[1]:.3f})]" in whole.prompt
        if whole.visible:
            assert whole.answer_point == (0.5 + multi.answer_point[0] / 2, multi.answer_point[1])
            assert parse(whole.answer).points[0][0] > 0.5


@pytest.mark.parametrize("concat_format", ["png", "jpg"])
def test_points_of_unequal_views_lie_on_the_object(x3_tree, made, concat_format):
    x3_tree.view(1, size_wh=(24, 18))
    x3_tree.view(2, size_wh=(61, 7))
    (sample,) = (
        made()[0]["t1_train_concat"] if concat_format == "png" else made(concat_format="jpg")[0]["t1_train_concat"]
    )
    assert sample.image[0].endswith(concat_format)
    whole = read_rgb(Path(sample.image[0]))
    assert whole.shape == (18, 85, 3)
    assert sample.answer_size == (85, 18)
    mask = np.asarray(to_mask(Image.open(sample.mask_dilated_path), "m"))
    col, row = sample.concat.right_pixel(*parse(sample.answer).points[0])
    assert mask[row, col]
    ref = pixel_of(*sample.ref_point, sample.answer_size)
    assert ref[0] < 24
    assert whole[ref[1], ref[0], 0] > 100  # 0.45 x 255 of red at least


@pytest.mark.parametrize("dilated", [True, False])
def test_every_answer_hits_the_mask_it_came_from(x3_tree, made, dilated):
    rng = np.random.default_rng(0)
    for number in range(1, 6):
        mask = rng.random((18, 24)) > 0.97  # scattered pixels: the centre is rarely set
        mask[3, number] = True
        x3_tree.view(number, mask=mask)
    sets, _ = made(mode="allpairs", use_dilated_mask=dilated)
    samples = [sample for group in sets.values() for sample in group]
    assert len(samples) == 20 + 20 + 5
    for sample in samples:
        path = sample.mask_dilated_path if dilated else sample.mask_path
        assert sample.gt_mask == ("dilated" if dilated else "raw")
        point = parse(sample.answer).points[0]
        pixel = sample.concat.right_pixel(*point) if sample.concat else pixel_of(*point, sample.query_size)
        assert to_mask(Image.open(path), path)[pixel[1], pixel[0]]


def test_one_pixel_objects_in_4k_are_hit(x3_tree, made):
    sizes = {1: (3840, 2160), 2: (4096, 2160), 3: (3837, 2161)}
    rng = np.random.default_rng(1)
    for number, (width, height) in sizes.items():
        mask = np.zeros((height, width), dtype=bool)
        mask[rng.integers(height), rng.integers(width)] = True
        stem = x3_tree.folder() / f"{number:02d}_{number:06d}"
        Image.new("RGB", (width, height), (90, 120, 150)).save(f"{stem}_original.png", compress_level=1)
        Image.fromarray(mask).save(f"{stem}_mask.png")
    sets, _ = made(use_dilated_mask=False, families=("t1",))
    assert [len(samples) for samples in sets.values()] == [2, 2]
    for sample in (*sets["t1_train_multi"], *sets["t1_train_concat"]):
        point = parse(sample.answer).points[0]
        pixel = sample.concat.right_pixel(*point) if sample.concat else pixel_of(*point, sample.query_size)
        with Image.open(sample.mask_path) as mask:
            assert mask.getpixel(pixel)


def test_task_2b_asks_about_the_inpainted_picture(x3_tree, made):
    folder = x3_tree.uid(views=1)
    sets, skipped = made()
    (sample,) = sets["t2b_train_multi"]
    assert sample.image == [str(folder / f"01_000001_{kind}.png") for kind in ("original", "inpainted")]
    assert sample.query_original == sample.image[1]
    assert sample.ref_point is None
    assert skipped == [("single_view", "train/s1/uid_1")]


def test_an_anchor_that_does_not_show_the_object_marks_nothing(x3_tree, made):
    x3_tree.uid(views=3, hidden=(1,))
    sets, skipped = made()
    assert set(sets) == {"t2b_train_multi"}
    assert skipped == [("anchor_not_visible", "train/s1/uid_1")]
    sets, skipped = made(mode="allpairs")
    assert [sample.view_ref for sample in sets["t1_train_multi"]] == ["02", "02", "03", "03"]
    assert skipped == [("anchor_not_visible", "train/s1/uid_1")]


def test_an_object_without_the_anchor_view_is_named(x3_tree, made):
    x3_tree.uid(views=3)
    assert made(anchor_k=4)[1] == [("no_anchor_view", "train/s1/uid_1")]
    assert [sample.view_ref for sample in made(anchor_k=2)[0]["t1_train_multi"]] == ["02", "02"]


def test_no_usable_view(x3_tree, made):
    x3_tree.view(1, without=("mask_dialated",))
    sets, skipped = made()
    assert sets == {}
    assert [reason for reason, _ in skipped] == ["no_dilated_mask", "no_views"]


def test_tasks_can_be_chosen(x3_tree, made):
    x3_tree.uid(views=3, hidden=(2,))
    assert set(made(families=("t2a",))[0]) == {"t2a_train_multi"}
    assert set(made(families=("t2b",))[0]) == {"t2b_train_multi"}
    assert set(made(families=("t1",), concat_format=None)[0]) == {"t1_train_multi"}


def test_limits_and_ratios(x3_tree, made):
    x3_tree.uid(views=5, hidden=(3, 4))
    assert len(made(mode="allpairs")[0]["t1_train_multi"]) == 12
    assert len(made(mode="allpairs", max_pairs_per_uid=5)[0]["t1_train_multi"]) == 5
    sets, _ = made(mode="allpairs", neg_ratio=0)
    assert all(sample.visible for sample in sets["t1_train_multi"])
    assert len(sets["t1_train_multi"]) == len(sets["t1_train_concat"]) == 6
    assert len(sets["t2a_train_multi"]) == 6


def test_relative_paths_lead_from_the_output_folder(x3_tree, made, tmp_path):
    x3_tree.uid(views=2)
    (sample,) = made(relative_paths=True)[0]["t1_train_multi"]
    for path in (*sample.image, sample.query_original, sample.mask_path, sample.mask_dilated_path):
        assert not Path(path).is_absolute()
        assert (tmp_path / "out" / path).is_file()


def test_the_seed_moves_drawn_answers_only(x3_tree, made):
    ring = np.zeros((18, 24), dtype=bool)
    ring[2:16, 2:22] = True
    ring[4:14, 4:20] = False
    x3_tree.view(1)
    x3_tree.view(2, mask=ring)
    x3_tree.view(3)
    drawn, fixed = zip(*[made(seed=seed)[0]["t1_train_multi"] for seed in range(6)])
    assert len({sample.answer for sample in drawn}) > 1
    assert len({sample.answer for sample in fixed}) == 1
    assert len({sample.seed for sample in fixed}) == 6


def test_a_picture_with_sound_checksums_that_does_not_decode(x3_tree, made):
    """Its CRCs are right, so reading the size finds nothing; the object goes on without the view."""
    x3_tree.uid(views=3)
    path = x3_tree.folder() / "02_000002_original.png"
    data = path.read_bytes()
    start = data.index(b"IDAT")
    length = int.from_bytes(data[start - 4 : start], "big")
    broken = b"IDAT" + bytes(length)
    path.write_bytes(data[:start] + broken + zlib.crc32(broken).to_bytes(4, "big") + data[start + 4 + length + 4 :])
    sets, skipped = made()
    assert skipped == [("unreadable", "train/s1/uid_1/02")]
    assert [sample.view_query for sample in sets["t1_train_multi"]] == ["03"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"out_dir": Path("out")}, "out_dir is out: expected an absolute path"),
        ({"mode": "some"}, "mode is 'some': expected one of anchor, allpairs"),
        ({"anchor_k": -1}, "anchor_k is -1"),
        ({"alpha": 0}, "alpha is 0: expected 0 < alpha <= 1"),
        ({"alpha": float("nan")}, "alpha is nan"),
        ({"concat_format": "gif"}, "concat_format is 'gif': expected png or jpg"),
        ({"max_pairs_per_uid": 0}, "max_pairs_per_uid is 0"),
        ({"neg_ratio": -0.5}, "neg_ratio is -0.5"),
        ({"neg_ratio": float("inf")}, "neg_ratio is inf"),
        ({"families": ()}, r"tasks are \[\]: expected some of t1, t2a, t2b"),
        ({"families": ("t3",)}, r"tasks are \['t3'\]"),
    ],
)
def test_options_that_cannot_act_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        BuildOptions(**{"out_dir": Path("/out"), **options})


def test_the_recorded_seed_is_the_one_of_the_query_view(x3_tree, made):
    x3_tree.uid(views=2)
    [sample] = made(seed=7)[0]["t1_train_multi"]
    assert sample.seed == sample_seed(7, "s1", "1", "02_000002")


@pytest.mark.parametrize(("a", "b", "places"), [(24, 1200, 4), (1200, 24, 3)])
def test_decimals_are_those_of_the_image_answered_about(x3_tree, made, a, b, places):
    x3_tree.view(1, size_wh=(a, 18))
    x3_tree.view(2, size_wh=(b, 18))
    [sample] = made()[0]["t1_train_multi"]
    assert len(sample.answer.split(",")[0].partition(".")[2]) == places


def test_the_mark_has_the_notes_opacity_unless_told():
    import argparse

    from roborefer_spatial.tasks import build

    parser = argparse.ArgumentParser()
    build.add_arguments(parser)
    args = parser.parse_args(["--data-root", "a", "--out-dir", "b"])
    assert args.alpha == BuildOptions(out_dir=Path("/b")).alpha == 0.45


def test_turned_pictures_get_upright_copies_that_every_reader_sees_alike(x3_tree, made, tmp_path):
    """A phone's picture: stored lying, with a tag. Samples name an upright copy, and points lie on the object."""
    x3_tree.view(1)
    stem = x3_tree.view(2)
    upright = np.asarray(Image.open(f"{stem}_original.png"))
    tag = Image.Exif()
    tag[0x0112] = 6
    for kind in ("original", "inpainted", "mask", "mask_dialated"):
        path = f"{stem}_{kind}.png"
        Image.fromarray(np.rot90(np.asarray(Image.open(path))).copy()).save(path, exif=tag)
    sets, skipped = made()
    assert skipped == []
    (sample,) = sets["t1_train_multi"]
    copy = Path(sample.query_original)
    assert copy.parent == tmp_path / "out/upright/train/s1/uid_1"
    assert copy == Path(sample.image[1])
    assert np.array_equal(read_rgb(copy), upright)
    assert Image.open(copy).getexif().get(0x0112, 1) == 1
    assert sample.query_size == (24, 18)
    assert sample.answer == "[(0.396, 0.417)]"
    assert to_mask(Image.open(sample.mask_dilated_path), "m")[7, 9]
    assert Image.open(sample.mask_dilated_path).getexif().get(0x0112, 1) == 1
    difference = next(sample for sample in sets["t2b_train_multi"] if "K02" in sample.id)
    assert [Path(path).parent.parent.parent.parent.name for path in difference.image] == ["upright", "upright"]
    (whole,) = sets["t1_train_concat"]
    assert np.array_equal(read_rgb(Path(whole.image[0]))[:, 24:], upright)


def test_a_turned_picture_is_refused_by_whoever_reads_samples(tmp_path):
    tag = Image.Exif()
    tag[0x0112] = 3
    Image.new("RGB", (4, 3)).save(tmp_path / "x.jpg", exif=tag)
    with pytest.raises(ValueError, match=r"x\.jpg: EXIF orientation 3: some readers turn such a picture"):
        read_rgb(tmp_path / "x.jpg")


def test_options_at_their_limits(tmp_path):
    options = BuildOptions(out_dir=tmp_path, anchor_k=0, alpha=1.0)
    assert (options.anchor_k, options.alpha, options.seed) == (0, 1.0, 42)
    for alpha in (0.0, -0.1, 1.5):
        with pytest.raises(ValueError, match="expected 0 < alpha <= 1"):
            BuildOptions(out_dir=tmp_path, alpha=alpha)
    with pytest.raises(ValueError, match="anchor_k is -1: expected a view number"):
        BuildOptions(out_dir=tmp_path, anchor_k=-1)
    with pytest.raises(ValueError, match="names is 'old': expected today or notes"):
        BuildOptions(out_dir=tmp_path, names="old")


def test_a_single_image_is_text_in_json_and_a_list_in_jsonl(x3_tree, tmp_path):
    x3_tree.uid(views=2, scene="küche")
    result = build_uid(scan(x3_tree.root)[0], BuildOptions(out_dir=tmp_path / "out"))
    rows = {name: (json.loads(line), json.loads(jsonl)) for name, _, line, jsonl in result.rows}
    assert [type(row["image"]) for row in rows["t1_train_concat"]] == [str, list]
    assert [type(row["image"]) for row in rows["t1_train_multi"]] == [list, list]
    assert all("küche" in line and "küche" in jsonl for _, _, line, jsonl in result.rows)  # as people write it
