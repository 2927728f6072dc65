"""lmms-eval tasks: a YAML for each set, the samples beside it, and functions that score as `score` does."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from roborefer_spatial import files
from roborefer_spatial.export.lmms_task import METRICS
from roborefer_spatial.predicting.backends.http_messages import DEFAULT_TOKENS
from roborefer_spatial.predicting.profiles import Profile
from roborefer_spatial.sample import Sample

_FUNCTIONS = '''"""What the tasks beside this file call; they need `pip install roborefer-spatial`."""

from roborefer_spatial.export.lmms_task import doc_to_target, doc_to_text, doc_to_visual, process_results

__all__ = ["doc_to_target", "doc_to_text", "doc_to_visual", "process_results"]
'''


def write_lmms(folder: Path, final: Path, name: str, samples: Sequence[Sample], profile: Profile) -> str:
    """Write one task, `x3_{name}`; return a summary.

    A document is a sample's row as one JSON string: lmms-eval hands documents around as Arrow tables, whose
    columns cannot hold rows of different shape. Image paths are absolute; so is the YAML's path to them,
    because lmms-eval resolves it against the working folder. The profile's question stands beside the sample, and so
    does how its answer is read; the size at which a model sees an image is the profile's rule, since lmms-eval does
    not report it.
    """
    rows = (json.dumps(_document(sample, profile)) + "\n" for sample in samples)
    with files.atomic_open(folder / f"{name}.jsonl") as stream:
        stream.writelines(row.encode() for row in rows)
    files.write_bytes(folder / "utils.py", _FUNCTIONS.encode())
    files.write_bytes(folder / f"x3_{name}.yaml", _yaml(name, (final / f"{name}.jsonl").resolve(), profile).encode())
    return f"x3_{name}: {len(samples)} samples; lmms_eval --include_path {final} --tasks x3_{name} --model ..."


def _document(sample: Sample, profile: Profile) -> dict[str, str]:
    seen = [profile.size_of(sample.answer_size)] * len(sample.image)
    reading = {name: getattr(profile, name) for name in ("units", "point_order", "boxes", "frame")}
    return {
        "id": sample.id,
        "prompt": profile.prompt(sample),
        "reading": json.dumps({**reading, "seen": seen}),
        "sample": json.dumps(_absolute(sample).to_row()),
    }


def _absolute(sample: Sample) -> Sample:
    row = sample.to_row()
    return Sample.from_row(row, where=sample.id, folder=Path.cwd())


def _yaml(name: str, data: Path, profile: Profile) -> str:
    metrics = "".join(
        f"  - metric: {metric}\n    aggregation: mean\n    higher_is_better: {str(better).lower()}\n"
        for metric, better in METRICS.items()
    )
    return (
        f"task: x3_{name}\n"
        "dataset_path: json\n"
        f"dataset_kwargs:\n  data_files:\n    test: {json.dumps(str(data))}\n"
        "test_split: test\n"
        "output_type: generate_until\n"
        "doc_to_visual: !function utils.doc_to_visual\n"
        "doc_to_text: !function utils.doc_to_text\n"
        "doc_to_target: !function utils.doc_to_target\n"
        "process_results: !function utils.process_results\n"
        f"generation_kwargs:\n  max_new_tokens: {profile.max_new_tokens or DEFAULT_TOKENS}\n"
        "  temperature: 0\n  do_sample: false\n"
        f"{_until(profile)}"
        f"metric_list:\n{metrics}"
        f"metadata:\n  version: 1.0\n  profile: {json.dumps(profile.name)}\n"
    )


def _until(profile: Profile) -> str:
    return "".join(["  until:\n", *(f"  - {json.dumps(stop)}\n" for stop in profile.stop)]) if profile.stop else ""
