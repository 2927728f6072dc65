"""What is killed and what is fed here: the long jobs and the readers of this package."""

from __future__ import annotations

import json
import random
import re
import struct
import zlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import fuzz
import mutate
import yaml
from kills import Job, apart
from roborefer_spatial import answers, cli, curriculum, images, predictions, sample
from roborefer_spatial.host import checkpoints, model_folder
from roborefer_spatial.host.data import rows
from roborefer_spatial.predicting.store import Store
from roborefer_spatial.scoring import points
from roborefer_spatial.synthetic.tree import write_scenes
from roborefer_spatial.tasks.object_views import read_views
from roborefer_spatial.tasks.scenes import scan

SMALL = ("--size", "48", "36", "--views", "2", "--objects", "1")
TEXTS = (
    *(
        "[(0.512, 0.25)]",
        "(12, 30)",
        "<point>0.1, 0.2</point>",
        '{"point_2d": [101, 202]}',
        "NOT_VISIBLE",
        "x=0.1, y=0.9",
    ),
    *(
        '<points x1="45.1" y1="30.2" x2="3" y2="4">',
        "<loc0512><loc0001>",
        "<think>[0.1, 0.2]</think><answer>[3%, 4%]</answer>",
    ),
    *(
        "The object is not visible: [0.5, 0.5].",
        "I'm sorry, I cannot",
        "［（０．１，０．２）］",
        "[0.1, 0.2, 0.3, 0.4]",
    ),
)


def made(scratch: Path) -> tuple[Path, Path, Path]:
    """Return a tree, its sets, and an answer to every sample; written once."""
    tree, sets, given = scratch / "tree", scratch / "sets", scratch / "given.jsonl"
    if not given.exists():
        apart(lambda: _make(tree, sets, given))
    return tree, sets, given


def _make(tree: Path, sets: Path, given: Path) -> None:
    write_scenes(tree, scenes=2, seed=1, size_wh=(48, 36), views=3, objects=2)
    _command("build", "--data_root", tree, "--out_dir", sets)
    all_samples = sample.load_samples(sets / "t1_val_multi.json")
    lines = [predictions.Prediction(s.id, TEXTS[i % len(TEXTS)]).to_json() for i, s in enumerate(all_samples)]
    given.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _command(*words: object) -> int:
    return cli.main([str(word) for word in words])


def jobs(scratch: Path) -> list[Job]:
    """Return every long job, small enough that it ends within a second or two."""
    tree, sets, given = made(scratch)
    questions = ("--samples", sets / "t1_val_multi.json")
    both = (*questions, "--predictions", given, "--bootstrap", "200")
    build = ("build", "--data_root", tree, "--out_dir")

    def job(name: str, line: Callable[[Path], tuple[object, ...]], *growing: str) -> Job:
        return Job(name, lambda to: _command(*line(to)), (".unfinished.json", *growing), _timeless)

    return [
        job("synthetic", lambda to: ("synthetic", "--out", to / "x3", "--scenes", 2, *SMALL)),
        job("build", lambda to: (*build, to / "sets")),
        job("build-2-workers", lambda to: (*build, to / "sets", "--workers", 2)),
        job(
            "predict",
            lambda to: (
                "predict",
                *questions,
                "--out",
                to / "a.jsonl",
                "--backend",
                "file",
                "--answers",
                given,
                "--batch_size",
                1,
            ),
            "a.jsonl.part-*",
        ),
        job("score", lambda to: ("score", *both, "--out", to / "metrics.json", "--results", to / "rows.jsonl")),
        job("report", lambda to: ("report", *both, "--out", to / "page.html")),
        job("report-folder", lambda to: ("report", *both, "--out", to / "page.html", "--images", "folder")),
        job(
            "export-refspatial",
            lambda to: (
                "export",
                "--format",
                "refspatial",
                "--samples",
                sets / "t1_val_concat.json",
                "--out",
                to / "new",
            ),
        ),
        job("export-lmms-eval", lambda to: ("export", "--format", "lmms-eval", *questions, "--out", to / "new")),
    ]


def _timeless(name: str, data: bytes) -> bytes:
    """Take times, and what an earlier run has left to reuse, out of a manifest."""
    if name != "manifest.json":
        return data
    manifest = json.loads(data)
    return json.dumps({key: manifest[key] for key in manifest if key not in ("created", "seconds", "images")}).encode()


def readers(scratch: Path) -> list[fuzz.Reader]:
    """Return every reader with valid files."""
    tree, sets, given = made(scratch)
    lists = [
        json.dumps(json.loads((sets / f"{name}.json").read_bytes())[:3]).encode()
        for name in ("t1_val_multi", "t1_val_concat", "t2b_val_multi")
    ]
    lines = [_jsonl(json.loads(data)) for data in lists]
    model = {
        "llm_cfg": {},
        "image_encoder": {"_target_": "llava.model.encoders.ImageEncoder"},
        "architectures": ["LlavaLlamaModel"],
    }
    stages = {
        "stages": [{"name": "a", "data": "a.jsonl", "max_steps": 3}, {"name": "b", "data": ["a.jsonl"], "max_steps": 9}]
    }
    record = {"version": "0.1", "backend": "file", "options": {"answers": "a"}, "samples_sha256": "0" * 64}
    ready = [json.loads(line) for line in given.read_bytes().splitlines()]
    uid = next(tree.glob("train/*/uid_*"))
    pictures = [path.read_bytes() for path in sorted(uid.glob("*.png"))]
    masks = [path.read_bytes() for path in sorted(uid.glob("*mask*.png"))]
    json_ = mutate.any_tree(json.loads, _json)
    return [
        fuzz.Reader("samples.json", "s.json", lists, sample.load_samples, json_),
        fuzz.Reader("samples.jsonl", "s.jsonl", lines, sample.load_samples, mutate.any_tree(_from_jsonl, _jsonl)),
        fuzz.Reader("training-rows.json", "r.json", lists, rows.read_rows, json_),
        fuzz.Reader("training-rows.jsonl", "r.jsonl", lines, rows.read_rows, mutate.any_tree(_from_jsonl, _jsonl)),
        fuzz.Reader(
            "predictions.json", "p.json", [_json(ready), _json({"results": ready[:2]})], predictions.read, json_
        ),
        fuzz.Reader(
            "predictions.jsonl", "p.jsonl", [_jsonl(ready)], predictions.read, mutate.any_tree(_from_jsonl, _jsonl)
        ),
        fuzz.Reader(
            "unfinished-answers",
            "a.jsonl.part-00000",
            [_jsonl(ready)],
            lambda path: Store(path.with_name("a.jsonl")).rows(),
            mutate.any_text,
        ),
        fuzz.Reader("answer", "answer", [text.encode() for text in TEXTS], _answer, mutate.any_text),
        fuzz.Reader(
            "run-record", "a.jsonl.run.json", [_json(record)], partial(_claim, record), json_, called="a.jsonl"
        ),
        fuzz.Reader(
            "curriculum.yaml",
            "c.yaml",
            [yaml.safe_dump(stages).encode()],
            curriculum.load_curriculum,
            mutate.any_tree(yaml.safe_load, _yaml),
            _write_rows,
        ),
        fuzz.Reader(
            "model-config",
            "config.json",
            [_json(model)],
            lambda path: model_folder.open_model_folder(path.parent),
            json_,
            _model,
        ),
        fuzz.Reader("tokenizer-config", "llm/tokenizer_config.json", [_json({"chat_template": "x"})], _template, json_),
        fuzz.Reader(
            "trainer-state",
            "trainer_state.json",
            [_json({"global_step": 3})],
            lambda path: checkpoints.steps_done(path.parent),
            json_,
        ),
        fuzz.Reader("picture", "p.png", pictures, images.read_rgb, _png),
        fuzz.Reader("picture-size", "p.png", pictures, lambda path: images.probe(path.read_bytes(), path), _png),
        fuzz.Reader("mask", "m.png", masks, points.read_mask, _png),
        fuzz.Reader("tree", "x3/train/room/uid_1/01_000001_mask.png", masks, _views, _png, partial(_tree, uid)),
    ]


def _json(tree: Any) -> bytes:
    return json.dumps(tree).encode()


def _jsonl(tree: Any) -> bytes:
    return b"".join(_json(row) + b"\n" for row in tree) if isinstance(tree, list) else _json(tree)


def _from_jsonl(data: bytes) -> Any:
    return [json.loads(line) for line in data.splitlines()]


def _yaml(tree: Any) -> bytes:
    return yaml.safe_dump(tree, allow_unicode=True).encode() if len(repr(tree)) < 5000 else _json(tree)


def _png(rng: random.Random, seeds: Sequence[bytes]) -> bytes:
    """Break a PNG as a whole, or one of its chunks, whose checksum is then set right, or its pixels' bytes."""
    if rng.random() < 0.3:
        return mutate.any_bytes(rng, seeds)
    data = bytearray(rng.choice(seeds)[:8])
    source = rng.choice(seeds)
    chunks = [(m.start(), source[m.start() : m.end()]) for m in re.finditer(rb"IHDR|IDAT|IEND", source)]
    chosen = rng.randrange(len(chunks))
    for number, (start, kind) in enumerate(chunks):
        body = source[start + 4 : start + 4 + struct.unpack(">I", source[start - 4 : start])[0]]
        if number == chosen:
            packed = kind == b"IDAT" and rng.random() < 0.5
            broken = mutate.any_bytes(rng, [zlib.decompress(body) if packed else body])
            body = zlib.compress(broken, 1) if packed else broken
            kind = rng.choice((kind, kind, kind, b"tRNS", b"PLTE", b"iCCP", b"tEXt", b"zTXt", b"acTL"))
        data += struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    return bytes(data)


def _answer(path: Path) -> Any:
    text = path.read_text(encoding="utf-8", errors="replace")
    for units, order in (("normalized", "xy"), ("roborefer", "yx")):
        found = answers.parse(text, units=units, size_wh=(640, 480), point_order=order)  # type: ignore[arg-type]
    return found if found.ok else fuzz.Refused()


def _claim(record: dict[str, Any], path: Path) -> None:
    Store(path.with_name("a.jsonl")).check(record, restart=False)


def _write_rows(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "a.jsonl").write_bytes(b"{}\n")


def _model(folder: Path) -> None:
    for name in model_folder.PARTS:
        (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / name / "config.json").write_text("{}")


def _template(path: Path) -> bool:
    return model_folder.ModelFolder(path.parents[1], {}).has_chat_template()


def _tree(uid: Path, folder: Path) -> None:
    to = folder / "x3/train/room/uid_1"
    to.mkdir(parents=True, exist_ok=True)
    for path in uid.glob("01_*.png"):
        (to / f"01_000001_{path.name.split('_', 2)[2]}").write_bytes(path.read_bytes())


def _views(path: Path) -> Any:
    (uid,) = scan(path.parents[3])
    views, skipped = read_views(uid, use_dilated_mask=False, want_inpainted=True, seed=1)
    return fuzz.Refused() if skipped else [view.rgb for view in views]
