"""Predict and score in one go: `tools/x3/eval_spatial_tasks.py`, with the flags of the research script it replaces.

Several sample files are answered with one model load. Each gets a JSON file with `metrics` and `results` as
that script wrote them, and beside it the answers, so that a second call only scores.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from roborefer_spatial import files, terminal
from roborefer_spatial.predicting import backends
from roborefer_spatial.predicting.backends import Backend, Unavailable
from roborefer_spatial.predicting.predict import (
    BATCH_SIZE,
    MAX_ERRORS,
    add_profile_argument,
    asked,
    options_and_profile,
    predict,
    report,
    this_process,
)
from roborefer_spatial.predicting.store import run_identity
from roborefer_spatial.sample import load_samples
from roborefer_spatial.scoring import evaluate
from roborefer_spatial.scoring.metrics import BOOTSTRAP, Metrics


class _LoadedOnce:
    """Makes a backend when it is first asked for, and keeps it."""

    def __init__(self, name: str, options: Any) -> None:
        self.name, self.options = name, options
        self.backend: Backend | None = None

    def __call__(self) -> Backend:
        if self.backend is None:
            self.backend = backends.create(self.name, self.options)
        return self.backend


def answers_of(output_json: Path) -> Path:
    """Return the file of answers that belongs to an output file."""
    return output_json.with_suffix(".answers.jsonl")


def build_parser() -> argparse.ArgumentParser:
    """Return the parser: the research script's flags, and those of `predict` and `evaluate`."""
    parser = terminal.Parser(
        prog="eval_spatial_tasks.py",
        description="Answer and score x3 spatial tasks; one model load for all files.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example:\n"
        "  eval_spatial_tasks.py --model-name-or-path runs/train/RoboRefer-2B-Depth-Align \\\n"
        "      --data-json tasks/t1_val_multi.json tasks/t1_val_concat.json \\\n"
        "      --output-json eval/t1_val_multi.json eval/t1_val_concat.json --image-aspect-ratio resize",
    )
    add = parser.add_argument
    add("--model-name-or-path", dest="model", default=argparse.SUPPRESS, help="the same as --model")
    add("--data-json", type=Path, nargs="+", required=True, help="sample file(s) of `build`")
    add("--output-json", type=Path, nargs="+", required=True, help="file(s) to write, in the same order")
    add("--chat-template", default="qwen2", help="only qwen2, RoboRefer's own, is there (default)")
    add(
        "--image-aspect-ratio",
        choices=("resize", "dynamic", "dynamic_s2"),
        help="must be what the checkpoint says",
    )
    add("--limit", type=int, help="the first N samples of each file only")
    add("--batch-size", type=int, default=BATCH_SIZE, help="samples a call (default: %(default)s)")
    add("--max-errors", type=int, default=MAX_ERRORS, help="stop after N failed samples (default: %(default)s)")
    add("--restart", action="store_true", help="set aside answers of an earlier call, and begin anew")
    add("--depth", choices=("use", "ignore"), default="use", help="depth images of the samples (default: use)")
    add("--bootstrap", type=int, default=BOOTSTRAP, help="resamples for the 95 %% intervals (default: %(default)s)")
    add("--seed", type=int, default=0, help="of the resamples (default: 0)")
    add("--quiet", action="store_true", help="show no progress")
    evaluate.add_score_arguments(parser)
    add_profile_argument(parser)
    backends.add_arguments(parser)
    parser.set_defaults(backend="host")
    next(action for action in parser._actions if action.dest == "backend").required = False
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; return 0 if every sample was answered, 1 if not, 2 for bad arguments or input."""
    args = build_parser().parse_args(argv)
    try:
        return _run(args)
    except (ValueError, OSError, Unavailable) as error:
        print(f"error: {error}", file=sys.stderr)
        return terminal.FAILED if isinstance(error, Unavailable) else terminal.REFUSED


def _run(args: argparse.Namespace) -> int:
    if len(args.data_json) != len(args.output_json):
        raise ValueError(
            f"--data-json names {len(args.data_json)} file(s) and --output-json {len(args.output_json)}: "
            "give one output for each, in the same order"
        )
    if args.limit is not None and args.limit < 1:
        raise ValueError(f"--limit is {args.limit}: expected at least 1")
    _check_notes_flags(args)
    options, profile = options_and_profile(args)
    backend, process = _LoadedOnce(args.backend, options), this_process(args.backend)
    failed = 0
    sets: dict[str, Metrics] = {}
    for data_json, output_json in zip(args.data_json, args.output_json):
        samples = load_samples(data_json, image_folder=args.image_folder)[: args.limit]
        samples = asked(samples, args.backend, options, args.depth)
        outcome = predict(
            samples,
            backend,
            answers_of(output_json),
            identity=run_identity(data_json, args.backend, options, depth=args.depth, profile=profile),
            batch_size=args.batch_size,
            max_errors=args.max_errors,
            restart=args.restart,
            process=process,
            profile=profile,
            progress=not args.quiet,
        )
        failed += outcome.failed
        if process.rank == 0:
            report(outcome, answers_of(output_json))
            found = _score(args, data_json, output_json)
            sets |= {f"{output_json.stem}: {name}": metrics for name, metrics in found.items()}
    if process.rank == 0:
        print(evaluate.table(sets))
    return terminal.FAILED if failed else terminal.DONE


def _score(args: argparse.Namespace, data_json: Path, output_json: Path) -> dict[str, Metrics]:
    """Score one file and write its output."""
    options = evaluate.score_options(args, answers_of(output_json))
    scores = evaluate.load_scores(
        data_json,
        answers_of(output_json),
        options,
        image_folder=args.image_folder,
        limit=args.limit,
        workers=args.workers,
    )
    document = evaluate.evaluation(scores, options, bootstrap=args.bootstrap, seed=args.seed)
    files.write_json(output_json, document | {"results": evaluate.result_rows(scores)})
    sets: dict[str, Metrics] = document["sets"]
    return sets


def _check_notes_flags(args: argparse.Namespace) -> None:
    """Refuse a chat template or an image mode that the model would not follow."""
    if args.chat_template != "qwen2":
        raise ValueError(f"--chat-template is {args.chat_template!r}: the checkpoint's own is used, qwen2")
    if args.image_aspect_ratio is None:
        return
    if args.backend != "host":
        raise ValueError(f"--image-aspect-ratio means nothing to --backend {args.backend}")
    config = Path(getattr(args, "model", "")) / "config.json"
    if config.is_file():
        stated = files.read_json_object(config).get("image_aspect_ratio")
        if stated != args.image_aspect_ratio:
            raise ValueError(
                f"--image-aspect-ratio is {args.image_aspect_ratio!r}, {config} says {stated!r}: a "
                "checkpoint answers with the mode that it was trained with"
            )


if __name__ == "__main__":
    sys.exit(main())
