"""`roborefer-spatial benchmark`: score answers to a published pointing benchmark."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import get_args

from roborefer_spatial import files, terminal
from roborefer_spatial.answers import PointOrder, Units
from roborefer_spatial.importing import benchmarks
from roborefer_spatial.importing.answer_files import read_answer_file


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `roborefer-spatial benchmark`."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = "Score answers to CrossPoint-Bench, RefSpatial-Bench or Where2Place, in their own layouts."
    parser.epilog = (
        "examples:\n"
        "  roborefer-spatial benchmark --folder CrossPoint-Bench --answers eval.jsonl \\\n"
        "      --id-key idx --text-key assistant --units pixel\n"
        "  roborefer-spatial benchmark --folder RefSpatial-Bench/Location --answers Location.jsonl --units roborefer"
    )
    add = parser.add_argument
    add("--folder", type=Path, required=True, help="the benchmark as published (RefSpatial-Bench: also a Parquet file)")
    add("--answers", type=Path, required=True, help="JSON, JSONL, CSV, TSV or XLSX with an answer for each question")
    add("--layout", choices=benchmarks.LAYOUTS, help="of the folder (default: by its files)")
    add("--id-key", help="field of the answers with the question's id (default: as their layout has it)")
    add("--text-key", help="field with the text (default: as their layout has it)")
    add("--units", choices=get_args(Units), default="normalized", help="what plain numbers mean (default: %(default)s)")
    add("--point-order", choices=get_args(PointOrder), default="xy", help="default: xy")
    add("--out", type=Path, help="JSON file of the figures")
    add("--json", action="store_true", help="print them as JSON")


def run(args: argparse.Namespace) -> int:
    """Run `roborefer-spatial benchmark`; 1 if an answer is missing."""
    questions = benchmarks.read(args.folder, args.layout)
    given = read_answer_file(args.answers, id_key=args.id_key, text_key=args.text_key)
    names = [question.id for question in questions]
    keys = names if given.by == "id" else [str(index) for index in range(len(names))]
    texts = {name: text for name, key in zip(names, keys) if (text := given.texts.get(key)) is not None}
    if not texts:
        raise ValueError(
            f"{args.answers}: no answer to any question of {args.folder}, whose ids are like {names[0]!r}: --id-key"
        )
    figures = benchmarks.score(questions, texts, units=args.units, point_order=args.point_order)
    missing = len(names) - len(texts)
    if args.out:
        files.write_json(args.out, {"figures": figures, "missing": missing})
    if args.json:
        print(json.dumps({"figures": figures, "missing": missing}))
    else:
        for group, values in sorted(figures.items(), key=lambda item: (item[0] == "all", item[0])):
            print(f"{group}: {values['accuracy']:.4f} of {values['count']}")
        if missing:
            print(f"{missing} of {len(names)} questions have no answer and count as misses")
    return terminal.FAILED if missing else terminal.DONE
