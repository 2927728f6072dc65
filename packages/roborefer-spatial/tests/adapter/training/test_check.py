import json

import pytest
from roborefer_spatial import cli
from roborefer_spatial.host.data import preprocessing
from roborefer_spatial.training.check import OK


@pytest.fixture
def check(host, make, monkeypatch):
    """Run the command on the double, with its tokenizer and image sizes."""
    monkeypatch.setenv("ROBOREFER_ROOT", str(host.root))
    monkeypatch.setattr("roborefer_spatial.host.prepare.prepare", lambda host, options: [])
    monkeypatch.setattr(
        preprocessing, "stand_in_tokenizer",
        lambda *, model_max_length, depth: make.tokenizer(depth=depth, limit=model_max_length),
    )  # fmt: skip
    processor = make.data_args().image_processor
    settings = {"image_processor": processor, "num_image_tokens": 4, "s2_scales": [8, 16]}
    monkeypatch.setattr(preprocessing, "image_settings", lambda folder, mode: settings)
    return lambda path, *words: cli.main(["check", "--data", str(path), *map(str, words)])


def test_a_good_file_passes(check, make, tmp_path, capsys):
    assert check(make.rows(tmp_path, ["A", "NOT_VISIBLE"])) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "OK: one-batch dataloader check passed"
    assert lines[-2].startswith("batch: input_ids (2, ") and lines[-2].endswith("image 4 x (3, 8, 8)")
    row = next(line for line in lines if line.startswith("row 1: "))
    assert "2 image(s), tensors (2, 3, 8, 8), " in row and row.endswith("answer 'NOT_VISIBLE[end]'")
    assert "with the images" in row


@pytest.mark.parametrize(("mode", "media"), [("dynamic", 6), ("dynamic_s2", 6), ("pad", 2)])
def test_every_mode(check, make, tmp_path, capsys, mode, media):
    assert check(make.rows(tmp_path, ["A"]), "--image_aspect_ratio", mode) == 0
    assert f"image {media} x (3, 8, 8)" in capsys.readouterr().out


def test_a_set_that_the_sampler_drops_is_an_error(check, make, tmp_path, capsys):
    path = make.rows(tmp_path, ["A", "B"])
    assert check(path, "--global_batch_size", 2) == 0
    assert "rows: 2, of which RoboRefer's sampler takes 2" in capsys.readouterr().out
    assert check(path, "--global_batch_size", 3) == 1
    captured = capsys.readouterr()
    assert "takes more than the 2 row(s)" in captured.err
    assert OK not in captured.out


def test_json_says_what_the_text_says(check, make, tmp_path, capsys):
    path = make.rows(tmp_path, ["A", "B"])
    assert check(path, "--json", "--global-batch-size", 2) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["ok"] and found["problem"] is None
    assert [row["answer"] for row in found["rows"]] == ["A[end]", "B[end]"]
    assert found["batch"]["media"] == {"image": [4, 3, 8, 8]}
    assert found["used"] == {"rows": 2, "an_epoch": 2}
    assert check(path, "--json", "--global-batch-size", 3) == 1
    assert "takes more than the 2 row(s)" in json.loads(capsys.readouterr().out)["problem"]


def test_a_row_that_cannot_be_read_is_a_problem(check, make, tmp_path, capsys):
    path = make.rows(tmp_path, ["A"])
    (tmp_path / "t1_0_0.png").unlink(missing_ok=True)
    for picture in tmp_path.glob("*.png"):
        picture.unlink()
    assert check(path) == 1
    assert "problem: " in capsys.readouterr().err


def test_a_bad_file_is_an_error(check, tmp_path, capsys):
    assert check(tmp_path / "none.json") == 2
    assert "no such training file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda batch: batch.update(input_ids=batch["input_ids"][:1]), "the batch has 1 rows, 2 went in"),
        (lambda batch: batch["media"]["image"].pop(), "the batch has 3 image tensors, 4 went in"),
        (lambda batch: batch["labels"].fill_(-100), "row 0: 0 answer tokens in the batch, 6 in the sample"),
    ],
)
def test_what_gets_lost_in_the_collator_is_found(check, make, tmp_path, monkeypatch, capsys, break_it, message):
    from llava.data import collate

    honest = collate.DataCollator.__call__

    def broken(self, instances):
        batch = honest(self, instances)
        break_it(batch)
        return batch

    monkeypatch.setattr(collate.DataCollator, "__call__", broken)
    assert check(make.rows(tmp_path, ["A", "B"])) == 1
    assert message in capsys.readouterr().err


def test_turned_pictures_are_found_beyond_the_first_batch(check, make, tmp_path, capsys):
    from PIL import Image

    path = make.rows(tmp_path, ["A", "B", "C"])
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.suffix == ".jsonl" else None
    rows = rows or json.loads(path.read_text())
    last, tag = tmp_path / rows[-1]["image"][-1], Image.Exif()
    tag[0x0112] = 8
    picture = Image.open(last)
    picture.load()
    picture.save(last, exif=tag)
    assert check(path, "--batch-size", 1) == 1
    message = capsys.readouterr().err
    assert "1 of " in message and "pictures are to be turned by their EXIF orientation" in message
    assert last.name in message
