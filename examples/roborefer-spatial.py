"""From rendered rooms to a scored page, without a model to download: python examples/roborefer-spatial.py OUT

Renders rooms, builds the task sets, answers Task 1 in two ways that need no learning, scores both, and writes
a page to look at.
"""

import sys
from pathlib import Path

from roborefer_spatial import (
    BuildOptions,
    Prediction,
    Run,
    build,
    by_set,
    format_points,
    load_samples,
    score,
    write_report,
    write_scenes,
)


def main(out: Path) -> None:
    """Write rooms, task sets and the page below `out`."""
    rooms = write_scenes(out / "x3", scenes=2, seed=0, size_wh=(320, 240))
    print(f"rendered {rooms.scenes} rooms with {rooms.uids} objects in {rooms.views} views")

    build(out / "x3", BuildOptions(out_dir=(out / "tasks").absolute()))
    samples = load_samples(out / "tasks/t1_val_multi.json")
    print(f"built {len(samples)} questions, the first: {samples[0].prompt}")

    answers = {
        "always the middle": [Prediction(sample.id, format_points([(0.5, 0.5)])) for sample in samples],
        "where it was in A": [Prediction(sample.id, format_points([sample.ref_point])) for sample in samples],
    }
    runs = [Run(name, score(samples, rows)) for name, rows in answers.items()]
    for run in runs:
        (metrics,) = by_set(run.scores).values()
        print(f"{run.name}: Hit@Mask {metrics['hit_at_mask']:.3f}, chance {metrics['chance_hit_at_mask']:.3f}")

    write_report(runs, out / "report.html", title="Two answers that need no learning")
    print(f"open {out / 'report.html'}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "example_out"))
