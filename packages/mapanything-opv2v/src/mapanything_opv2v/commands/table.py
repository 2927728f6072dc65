"""`table`: one table over several evaluations."""

from __future__ import annotations

import argparse
from pathlib import Path

from mapanything_opv2v.commands import options
from mapanything_opv2v.terminal import DONE


def add(commands: options.Commands) -> None:
    """Add the command."""
    parser = options.add_command(
        commands,
        "table",
        "compare evaluations of the same frames: one table over models, as text, page, CSV and JSON",
        "mapanything-opv2v table eval_mapanything eval_vggt eval_pi3 --out models",
        run_table,
    )
    parser.add_argument("evaluations", nargs="+", type=Path, metavar="DIR", help="folders that `evaluate` has finished")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write into")


def run_table(args: argparse.Namespace) -> int:
    """Write the table."""
    from mapanything_opv2v.evaluation import models
    from mapanything_opv2v.views.evaluation import number, write_models

    rows = models.load_rows(args.evaluations)
    leads = models.best(rows)
    for k, row in enumerate(rows):
        print(f"[{k + 1}] {row.name}" + (f"; {row.differs}" if row.differs else ""))
    print(f"{'':28}" + "".join(f"{f'[{k + 1}]':>12}" for k in range(len(rows))))
    for figure in rows[0].means:
        values = [row.means[figure] for row in rows]
        if any(value is not None for value in values):
            cells = (f"{number(v)}{'*' if leads.get(figure) == k else ' '}" for k, v in enumerate(values))
            print(f"{figure:28}" + "".join(f"{cell:>12}" for cell in cells))
    print("* best of the line; a dash: no such figure, for want of a metric scale or a mask")
    for row in rows:
        for baseline, count in row.loses.items():
            if count:
                print(f"{row.name}: loses to {baseline} in {count} figures")
    models.write_files(args.out, rows)
    write_models(args.out / "models.html", rows)
    print(args.out / "models.html")
    return DONE
