"""Conversations with images for trainers: LLaMA-Factory, ms-swift, TRL; and VLMEvalKit's table.

All paths inside start at the exported folder, into which the pictures and masks are copied, so it can move. Every row
of the trainers' formats has `sample`, the whole sample as JSON, which rewards need.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from roborefer_spatial import files
from roborefer_spatial.predicting.profiles import Profile
from roborefer_spatial.sample import Sample

IMAGE_TOKEN = "<image>"


class _Copies:
    """Copies files into a folder, each content once, and says where they are from there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, source: str | None, kind: str) -> str | None:
        if source is None:
            return None
        path = Path(source)
        try:
            digest = hashlib.sha256(path.read_bytes()).hexdigest()[:20]
            target = self.folder / kind / f"{digest}{path.suffix.lower()}"
            target.parent.mkdir(parents=True, exist_ok=True)
            if not target.exists():
                shutil.copyfile(path, target)
        except OSError as error:
            raise ValueError(f"{source}: cannot be copied: {error.strerror or error}") from error
        return f"{kind}/{target.name}"


def moved(folder: Path, sample: Sample) -> dict[str, Any]:
    """Return the sample's row with its files copied into `folder` and its paths from there."""
    copies = _Copies(folder)
    row = sample.to_row()
    row["image"] = [copies(path, "images") for path in sample.image]
    row["query_original"] = copies(sample.query_original, "images")
    for key in ("mask_path", "mask_dilated_path"):
        row[key] = copies(row[key], "masks")
    if sample.depth is not None:
        row["depth"] = [copies(path, "depth") for path in sample.depth]
    return row


def _answers_as_built(profile: Profile) -> None:
    """Raise ValueError for a profile that asks in another form than the answers that are written."""
    if not profile.asks_as_built:
        raise ValueError(
            f"--profile {profile.name}: this format trains on the answers as built, fractions in [(x, y)], which that "
            "profile's question does not ask for: leave --profile out"
        )


def write_llamafactory(folder: Path, final: Path, name: str, samples: Sequence[Sample], profile: Profile) -> str:
    """Write `{name}.json` (ShareGPT) and its entry in `dataset_info.json`: give the folder as `dataset_dir`."""
    _answers_as_built(profile)
    rows = []
    for sample in samples:
        row = moved(folder, sample)
        human = {"from": "human", "value": IMAGE_TOKEN * len(row["image"]) + sample.prompt}
        talk = [human, {"from": "gpt", "value": sample.answer}]
        rows.append({"conversations": talk, "images": row["image"], "id": sample.id, "sample": _text(row)})
    files.write_json(folder / f"{name}.json", rows)
    info = folder / "dataset_info.json"
    entries = files.read_json_object(info) if info.exists() else {}
    entries[name] = {
        "file_name": f"{name}.json",
        "formatting": "sharegpt",
        "columns": {"messages": "conversations", "images": "images"},
    }
    files.write_json(info, entries)
    return f"{name}: {len(rows)} conversations; llamafactory-cli train ... dataset_dir={final} dataset={name}"


def write_swift(folder: Path, final: Path, name: str, samples: Sequence[Sample], profile: Profile) -> str:
    """Write `{name}.jsonl` with `messages` and `images`, as ms-swift reads it; run swift in the folder."""
    _answers_as_built(profile)
    with files.atomic_open(folder / f"{name}.jsonl") as stream:
        for sample in samples:
            row = moved(folder, sample)
            user = {"role": "user", "content": IMAGE_TOKEN * len(row["image"]) + sample.prompt}
            talk = [user, {"role": "assistant", "content": sample.answer}]
            line = {"messages": talk, "images": row["image"], "id": sample.id, "sample": _text(row)}
            stream.write((json.dumps(line, ensure_ascii=False) + "\n").encode())
    return f"{name}: {len(samples)} conversations; cd {final} && swift sft ... --dataset {name}.jsonl"


def write_trl(folder: Path, final: Path, name: str, samples: Sequence[Sample], profile: Profile) -> str:
    """Write `{name}.parquet`: `prompt` and `completion` in chat form, `images` inside, `sample` for rewards.

    Raises
    ------
    ValueError
        Without the library `datasets`, or for files that cannot be read.
    """
    try:
        import datasets
    except ImportError as error:
        raise ValueError("this format needs the library datasets: pip install 'roborefer-spatial[export]'") from error
    _answers_as_built(profile)
    part = {"type": datasets.Value("string"), "text": datasets.Value("string")}
    talk = [{"role": datasets.Value("string"), "content": [part]}]
    features = datasets.Features(
        {
            "id": datasets.Value("string"),
            "prompt": talk,
            "completion": talk,
            "images": datasets.Sequence(datasets.Image()),
            "sample": datasets.Value("string"),
        }
    )
    rows = []
    for sample in samples:
        row = moved(folder, sample)
        pictures = [{"type": "image", "text": None} for _ in row["image"]]
        asked = {"role": "user", "content": [*pictures, {"type": "text", "text": sample.prompt}]}
        said = {"role": "assistant", "content": [{"type": "text", "text": sample.answer}]}
        images = [{"bytes": (folder / path).read_bytes(), "path": Path(path).name} for path in row["image"]]
        rows.append({"id": sample.id, "prompt": [asked], "completion": [said], "images": images, "sample": _text(row)})
    with files.atomic_open(folder / f"{name}.parquet") as stream:
        datasets.Dataset.from_list(rows, features=features).to_parquet(stream)
    return f"{name}: {len(rows)} conversations; load_dataset('parquet', data_files={str(final / name)!r} + '.parquet')"


def write_vlmevalkit(folder: Path, final: Path, name: str, samples: Sequence[Sample], profile: Profile) -> str:
    """Write `{name}.tsv`: index, image (base64; several as a list), image_path, question, answer, category, id.

    VLMEvalKit decodes the pictures and writes them anew before it asks, under the names of `image_path`: as PNG, since
    a second JPEG would change what the model sees.
    """
    stream = io.StringIO()
    table = csv.writer(stream, delimiter="\t", lineterminator="\n")
    table.writerow(["index", "image", "image_path", "question", "answer", "category", "id"])
    for index, sample in enumerate(samples):
        pictures = [base64.b64encode(_bytes(path)).decode() for path in sample.image]
        image = pictures[0] if len(pictures) == 1 else str(pictures)
        names = [f"{index}_{place}.png" for place in range(len(sample.image))]
        where = names[0] if len(names) == 1 else str(names)
        table.writerow([index, image, where, profile.prompt(sample), sample.answer, sample.task, sample.id])
    files.write_bytes(folder / f"{name}.tsv", stream.getvalue().encode())
    return f"{name}: {len(samples)} rows; put {final / name}.tsv into LMUData and name it as a custom dataset"


def _bytes(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror or error}") from error


def _text(row: dict[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False)


WRITERS: dict[str, tuple[Callable[[Path, Path, str, Sequence[Sample], Profile], str], str]] = {
    "llamafactory": (write_llamafactory, "ShareGPT conversations with images and dataset_info.json, for LLaMA-Factory"),
    "ms-swift": (write_swift, "messages with images (JSONL), for ms-swift"),
    "trl": (write_trl, "chat with images (parquet), for TRL's SFTTrainer and GRPOTrainer"),
    "vlmevalkit": (write_vlmevalkit, "a TSV with the images inside, for VLMEvalKit"),
}
"""Format name -> (writer, help)."""
