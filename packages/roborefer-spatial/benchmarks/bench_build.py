"""How fast the task sets are built: against a literal implementation of the earlier way, and over processes.

The peer does what the research builder did, step by step: it globs every file of every view, marks every view
with floating-point blending, writes PNGs as Pillow does by default, decodes both pictures again for every
side-by-side image, and saves that as a JPEG of quality 75. Ours marks what is used, decodes once, writes
lossless PNGs for both kinds, hashes its inputs, checks sizes and both masks, syncs every file to disk.

Times are CPU seconds (time.process_time, one thread), the smallest of several alternating runs, so that other
work on the machine disturbs them little. `--scaling` adds wall time with several processes, which means
little on a busy machine, and the share of the work that stays in the first process, which bounds the speed-up
(Amdahl's law) and can be measured anywhere.

    python packages/roborefer-spatial/benchmarks/bench_build.py
    python packages/roborefer-spatial/benchmarks/bench_build.py --scaling 1 2 4 8 16
"""

from __future__ import annotations

import argparse
import io
import json
import os
import random
import shutil
import tempfile
import time
import zlib
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import cv2
import numpy as np
from PIL import Image
from roborefer_spatial.synthetic.tree import write_scenes
from roborefer_spatial.tasks.build import build
from roborefer_spatial.tasks.object_samples import Options
from roborefer_spatial.tasks.png import encode_png

cv2.setNumThreads(1)
PROMPT = "You are given images. " * 30  # about as long as that builder's prompts


# --- the earlier way ---


def earlier_point(mask: np.ndarray, rng: random.Random) -> tuple[float, float] | None:
    """Box centre if it is set, else a pixel from the run's one generator."""
    rows, cols = np.where(mask > 0)
    if len(cols) == 0:
        return None
    col, row = 0.5 * (cols.min() + cols.max()), 0.5 * (rows.min() + rows.max())
    if mask[round(row), round(col)] == 0:
        index = rng.randrange(len(cols))
        col, row = float(cols[index]), float(rows[index])
    return (col + 0.5) / mask.shape[1], (row + 0.5) / mask.shape[0]


def earlier_views(folder: Path, rng: random.Random) -> list[dict]:
    """Glob and read the views 1 to 5."""
    views = []
    for number in range(1, 6):
        found = {k: list(folder.glob(f"{number:02d}_*_{k}.png")) for k in ("original", "inpainted", "mask_dialated")}
        if found["original"] and found["mask_dialated"]:
            mask = cv2.imread(str(found["mask_dialated"][0]), cv2.IMREAD_GRAYSCALE)
            view = {"number": number, "mask": mask, "point": earlier_point(mask, rng)}
            views.append({**view, "original": found["original"][0], "inpainted": found["inpainted"][0]})
    return views


def earlier_mark(view: dict, path: Path, alpha: float) -> None:
    """Blend red over the mask in float64 and save."""
    image = np.array(Image.open(view["original"]).convert("RGB"))
    red = image.copy()
    red[view["mask"] > 0] = [255, 0, 0]
    weight = (view["mask"] > 0)[:, :, None].astype(float)
    Image.fromarray((image * (1 - alpha * weight) + red * (alpha * weight)).astype(np.uint8)).save(path)


def earlier_concat(left: Path, right: Path, path: Path) -> None:
    """Decode both pictures, paste them side by side and save a JPEG."""
    a, b = (Image.open(name).convert("RGB") for name in (left, right))
    canvas = Image.new("RGB", (a.width + b.width, max(a.height, b.height)))
    canvas.paste(a, (0, 0))
    canvas.paste(b, (a.width, 0))
    canvas.save(path)


def earlier_build(root: Path, out: Path) -> int:
    """Build anchor pairs, side-by-side images and Task 2B; return the number of samples."""
    rng, sets = random.Random(42), {}
    for folder in sorted(root.glob("*/*/uid_*")):
        split, scene = folder.parent.parent.name, folder.parent.name
        made = out / split / scene / folder.name
        made.mkdir(parents=True, exist_ok=True)
        views = earlier_views(folder, rng)
        for view in views:
            earlier_mark(view, made / f"{view['number']:02d}_marked.png", 0.45)
        anchor = views[0]
        for view in views[1:]:
            rows = sets.setdefault(f"t1_{split}_multi", [])
            rows.append(earlier_row([str(made / "01_marked.png"), str(view["original"])], view["point"]))
            if view["point"] is None:
                sets.setdefault(f"t2a_{split}_multi", []).append(rows[-1])
            if anchor["point"] is not None:
                name = made / f"01_to_{view['number']:02d}_concat.jpg"
                earlier_concat(anchor["original"], view["original"], name)
                sets.setdefault(f"t1_{split}_concat", []).append(earlier_row(str(name), view["point"]))
        for view in views:
            if view["point"] is not None:
                images = [str(view["original"]), str(view["inpainted"])]
                sets.setdefault(f"t2b_{split}_multi", []).append(earlier_row(images, view["point"]))
    for name, rows in sets.items():
        (out / f"{name}.json").write_text(json.dumps(rows, indent=2, ensure_ascii=False))
    return sum(map(len, sets.values()))


def earlier_row(image: list[str] | str, point: tuple[float, float] | None) -> dict:
    """Return a sample as that builder wrote it."""
    answer = "NOT_VISIBLE" if point is None else f"[({point[0]:.3f}, {point[1]:.3f})]"
    turns = [{"from": "human", "value": PROMPT}, {"from": "gpt", "value": answer}]
    return {"id": "x", "task": "t", "image": image, "query_original": str(image[-1]), "conversations": turns}


# --- measuring ---


def measure(jobs: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Return the smallest CPU seconds of each job over alternating runs."""
    best = dict.fromkeys(jobs, float("inf"))
    for _ in range(repeats):
        for name, job in jobs.items():
            start = time.process_time()
            job()
            best[name] = min(best[name], time.process_time() - start)
    return best


def compare(tree: Path, uids: int, scratch: Path, repeats: int) -> None:
    """Print CPU time per object of the earlier way and of ours."""

    def ours(fresh: bool = True, **options: object) -> int:
        out = scratch / "ours" / str(options)
        if fresh:
            shutil.rmtree(out, ignore_errors=True)
        manifest = build(tree, Options(out_dir=out, **options))  # type: ignore[arg-type]
        return sum(facts["samples"] for facts in manifest["sets"].values())

    def earlier() -> int:
        shutil.rmtree(scratch / "earlier", ignore_errors=True)
        return earlier_build(tree, scratch / "earlier")

    if earlier() != ours():
        raise SystemExit("the two builders disagree about the number of samples: nothing to compare")
    jobs: dict[str, Callable[[], object]] = {
        "earlier way": earlier,
        "ours": ours,
        "ours, side-by-side as JPEG": lambda: ours(concat_format="jpg"),
        "ours, raw masks": lambda: ours(use_dilated_mask=False),
        "ours, run again": lambda: ours(fresh=False),
    }
    times = measure(jobs, repeats)
    for name, seconds in times.items():
        ratio = times["earlier way"] / seconds
        print(f"{name:28} {1000 * seconds / uids:7.1f} ms CPU per object, {ratio:5.1f} times the earlier speed")


def compare_encoders(tree: Path, repeats: int) -> None:
    """Print time and size of the PNG writers on one side-by-side picture of the tree."""
    first, second = sorted(tree.rglob("*_original.png"))[:2]
    picture = np.concatenate([np.asarray(Image.open(path)) for path in (first, second)], axis=1)
    swapped = np.ascontiguousarray(picture[..., ::-1])
    filtered = picture.copy()
    filtered[1:] -= picture[:-1]
    sizes: dict[str, int] = {}

    def pillow(level: int) -> bytes:
        stream = io.BytesIO()
        Image.fromarray(picture).save(stream, "PNG", compress_level=level)
        return stream.getvalue()

    jobs = {
        "isal (ours)": lambda: encode_png(picture),
        "Pillow, level 1": lambda: pillow(1),
        "Pillow, default": lambda: pillow(6),
        "OpenCV, default": lambda: cv2.imencode(".png", swapped)[1].tobytes(),
        "zlib level 3 of the rows": lambda: zlib.compress(filtered.tobytes(), 3),
    }
    for name, job in jobs.items():
        sizes[name] = len(job())
    times = measure(jobs, repeats)
    print(f"\nPNG of {picture.shape[1]}x{picture.shape[0]} pixels")
    for name, seconds in times.items():
        print(f"{name:28} {1000 * seconds:7.1f} ms, {sizes[name] / 1e6:.2f} MB")


def scale(tree: Path, uids: int, scratch: Path, workers: list[int], repeats: int) -> None:
    """Print wall time with several numbers of processes, and what the first process does itself."""
    walls, own = {}, {}
    for count in sorted({1, 2, *workers}):
        walls[count] = own[count] = float("inf")
        for _ in range(repeats):
            shutil.rmtree(scratch / "out", ignore_errors=True)
            wall, cpu = time.perf_counter(), time.process_time()
            build(tree, Options(out_dir=scratch / "out"), workers=count)
            walls[count] = min(walls[count], time.perf_counter() - wall)
            own[count] = min(own[count], time.process_time() - cpu)
    for count in workers:
        speed_up = walls[1] / walls[count]
        print(f"{count:3} workers:{walls[count]:7.2f} s, {uids / walls[count]:6.1f} /s, {speed_up:5.2f} times")
    share = own[2] / own[1]
    print(
        f"CPU per object: {1000 * own[1] / uids:.2f} ms in all, of which the first process of several keeps "
        f"{1000 * own[2] / uids:.2f} ms ({100 * share:.1f} %): a speed-up of up to {1 / share:.0f}"
    )


def copies(tree: Path, times: int) -> int:
    """Copy every object (hard links), so that a scaling run is long; return how many there are."""
    uids = sorted(tree.glob("*/*/uid_*"))
    for folder in uids:
        for number in range(1, times):
            shutil.copytree(folder, folder.with_name(f"{folder.name}{number:03d}"), copy_function=os.link)
    return len(uids) * times


def main() -> None:
    """Render a tree, build it in several ways, print times and ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--scaling", type=int, nargs="+", metavar="WORKERS", help="measure these process counts")
    parser.add_argument("--copies", type=int, default=20, help="with --scaling: copies of each object")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        made = write_scenes(scratch / "x3", scenes=2, seed=0)
        print(f"{made.uids} objects, {made.views} views of 640x480 pixels; smallest of {args.repeats} runs")
        if args.scaling:
            print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
            scale(made.root, copies(made.root, args.copies), scratch, args.scaling, args.repeats)
        else:
            compare(made.root, made.uids, scratch, args.repeats)
            compare_encoders(made.root, args.repeats)


if __name__ == "__main__":
    main()
