"""Mutation run: put small faults into a package's modules one by one and see which the tests do not notice.

    nox -s mutants-influencer-mmdet3d -- --jobs 2 --modules loss
    python tasks/mutants.py influencer-mmdet3d --jobs 50 --seconds 450

The faults are Cosmic Ray's (`mutant_kinds.py`); the running is done here, since each of its workers would start a new
Python and import torch again: one process imports what is large once and forks a child for each mutant. The modules,
and the tests that each is tried with, are the table [tool.NAME.mutants] of the package's pyproject.toml. A stopped run
goes on; a mutant is tried again when its module has changed, a survivor also when its tests have.
Survivors of earlier runs come first. The others run in an order drawn from --seed, in which every module is always
about as far as the others, so what a limited run has done is an even sample.
"""

from __future__ import annotations

import argparse
import compileall
import contextlib
import hashlib
import importlib
import json
import multiprocessing
import os
import random
import re
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tasks"))
import mutant_kinds  # noqa: E402

try:
    import tomllib
except ModuleNotFoundError:
    import tomli as tomllib

SLOWER = 4.0
"""A mutant's tests may take this many times as long as without a fault, and at least `PATIENCE` seconds."""
PATIENCE = 15.0
ALIKE = "same"
"""Outcome of a mutant whose program is the same as before; such do not count."""


class Plan:
    """What is to be tried: one package's table, its modules' sources and where results go."""

    def __init__(self, package: str, out: Path) -> None:
        self.folder = ROOT / "packages" / package
        if not self.folder.is_dir():
            raise SystemExit(f"no package {package!r}; there are {[p.name for p in ROOT.glob('packages/*')]}")
        self.meta = tomllib.loads((self.folder / "pyproject.toml").read_text())
        table = self.meta["tool"][package]["mutants"]
        self.preload, self.table = table["preload"], table["modules"]
        self.variables = table.get("variables", {})
        self.tests = self.folder / "tests"
        self.source = self.folder / "src" / package.replace("-", "_")
        self.texts = {module: (self.source / f"{module}.py").read_text() for module in self.table}
        self.out = out
        self.results = out / "results.jsonl"
        self.again = False  # only what survived earlier
        self.broken: dict[str, list[str]] = {}  # tests that fail on this machine without any fault, left out

    def digest(self, module: str) -> tuple[str, str]:
        """Return short hashes of the module's text and of the tests that it is tried with."""
        tests = b"".join((self.tests / test.split("::")[0]).read_bytes() for test in self.table[module])
        return tuple(hashlib.sha256(part).hexdigest()[:12] for part in (self.texts[module].encode(), tests))

    def pytest(self, module: str) -> list[str]:
        """Return pytest's arguments for a module's tests."""
        path = f"pythonpath={self.tests} {self.tests / 'standins'}"
        options = ["-q", "-rfE", "-p", "no:cacheprovider", "--rootdir", str(ROOT), "-c", str(ROOT / "pyproject.toml")]
        left_out = [f"--deselect={test}" for test in self.broken.get(module, ())]
        return [*options, "-o", path, *left_out, *(str(self.tests / test) for test in self.table[module])]

    def done(self) -> dict[tuple[str, str, int], dict[str, Any]]:
        """Return the results so far that still hold."""
        kept = {}
        digests = {module: self.digest(module) for module in self.table}
        for line in self.results.read_text().splitlines() if self.results.exists() else ():
            result = json.loads(line)
            if (module := result["module"]) in digests and "kind" in result:
                of_module, of_tests = digests[module]
                if result["sha"] == of_module and (result["outcome"] != "survived" or result["tests"] == of_tests):
                    kept[module, result["kind"], result["occurrence"]] = result
        return kept


class Workplace:
    """A copy of the package's source for one worker, which its children import and into which faults are put."""

    def __init__(self, plan: Plan, number: int) -> None:
        self.plan = plan
        self.folder = plan.out / "work" / str(number)
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.copytree(plan.out / "work" / "source", self.folder / "src")

    def run(self, module: str, text: str | None, limit: float) -> tuple[int | None, float, str]:
        """Run the module's tests with `text` in its place; return pytest's status (None: too slow), seconds, output."""
        target = self.folder / "src" / self.plan.source.name / f"{module}.py"
        original = self.plan.out / "work" / "source" / self.plan.source.name / f"{module}.py"
        scratch = self.folder / "scratch"
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir()
        if text is not None:
            target.write_text(text)
        fresh = text is not None and "numba" in text  # compiled functions of the module without the fault are kept
        cache = scratch / "numba" if fresh else self.folder / "numba"
        start = time.monotonic()
        child = os.fork()
        if child == 0:
            os._exit(self._child(module, scratch, cache, text is not None))
        try:
            status = _wait(child, start + limit)
        finally:
            if text is not None:
                shutil.copy2(original, target)
        output = (scratch / "output").read_text(errors="replace") if (scratch / "output").exists() else ""
        return status, time.monotonic() - start, output

    def _child(self, module: str, scratch: Path, cache: Path, faulty: bool) -> int:
        os.setsid()
        os.chdir(ROOT)
        log = os.open(scratch / "output", os.O_WRONLY | os.O_CREAT)
        for stream in (1, 2):
            os.dup2(log, stream)
        source = str(self.folder / "src")
        os.environ.update(PYTHONPATH=source, TMPDIR=str(scratch), NUMBA_CACHE_DIR=str(cache))
        os.environ.update(PYTHONDONTWRITEBYTECODE="1")
        sys.dont_write_bytecode = True
        sys.path.insert(0, source)
        import hypothesis
        import pytest

        hypothesis.settings.register_profile("mutants", deadline=None, database=None, derandomize=True)
        hypothesis.settings.load_profile("mutants")
        try:
            first = ["-x"] if faulty else []  # one failure tells enough
            return int(pytest.main([*first, *self.plan.pytest(module), "--basetemp", str(scratch / "pytest")]))
        except BaseException as error:
            print(f"{type(error).__name__}: {error}")
            return 99


def _wait(child: int, end: float) -> int | None:
    """Wait for a child and end its process group; None if it was not ready in time."""
    status = None
    while status is None and time.monotonic() < end:
        ready, how = os.waitpid(child, os.WNOHANG)
        if ready:
            status = os.waitstatus_to_exitcode(how)
        else:
            time.sleep(0.01)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)  # what the tests left running, or all of it
    if status is None:
        os.waitpid(child, 0)
    return status


def each(items: Sequence[Any], jobs: int, make: Callable[[int], Callable[[Any], None]]) -> None:
    """Call `make(worker)(item)` for every item in forked workers that take them one by one, in order."""
    context = multiprocessing.get_context("fork")
    taken = context.Value("i", 0)

    def work(number: int) -> None:
        one = make(number)
        while True:
            with taken.get_lock():
                index = taken.value
                taken.value += 1
            if index >= len(items):
                return
            one(items[index])

    workers = [context.Process(target=work, args=(number,)) for number in range(min(jobs, len(items)))]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()


def append(path: Path, result: dict[str, Any]) -> None:
    """Add one line to a file that several processes write to."""
    with path.open("ab", buffering=0) as stream:
        stream.write(json.dumps(result).encode() + b"\n")


def measure(plan: Plan, modules: Sequence[str], jobs: int) -> dict[str, float]:
    """Return the seconds that each module's tests take without a fault.

    Tests that fail then are left out, and named; so are modules none of whose tests are left.
    """
    path = plan.out / "baseline.jsonl"
    path.unlink(missing_ok=True)

    def worker(number: int) -> Callable[[str], None]:
        place = Workplace(plan, number)

        def one(module: str) -> None:
            status, seconds, output = place.run(module, None, 600)
            append(path, {"module": module, "status": status, "seconds": seconds, "output": output[-3000:]})

        return one

    def results() -> dict[str, dict[str, Any]]:
        return {result["module"]: result for result in map(json.loads, path.read_text().splitlines())}

    each(modules, jobs, worker)
    for module, result in results().items():
        if result["status"] != 0:
            plan.broken[module] = re.findall(r"^(?:FAILED|ERROR) (\S+)", result["output"], re.MULTILINE)
            print(f"{module}: these tests fail without a fault and are left out: {plan.broken[module]}")
            print(result["output"], flush=True)
    each(list(plan.broken), jobs, worker)
    return {module: result["seconds"] for module, result in results().items() if result["status"] == 0}


def try_all(plan: Plan, mutants: Sequence[mutant_kinds.Mutant], seconds: dict[str, float], options: Any) -> None:
    """Run the tests against every mutant until the time is over, and write each result at once."""
    end = options.start + options.seconds
    digests = {module: plan.digest(module) for module in seconds}

    def worker(number: int) -> Callable[[mutant_kinds.Mutant], None]:
        place = Workplace(plan, number)

        def one(mutant: mutant_kinds.Mutant) -> None:
            if time.monotonic() >= end:
                return
            source = plan.texts[mutant.module]
            text = mutant_kinds.mutated(mutant, source)
            of_module, of_tests = digests[mutant.module]
            result = {**mutant._asdict(), "sha": of_module, "tests": of_tests}
            if text is None:
                append(plan.results, {**result, "outcome": ALIKE})
                return
            limit = max(PATIENCE, SLOWER * seconds[mutant.module])
            status, took, _ = place.run(mutant.module, text, min(limit, end - time.monotonic()))
            if status is None and took < limit:
                return  # the time was over before the tests were
            outcome = "survived" if status == 0 else "too slow" if status is None else "killed"
            before, after = mutant_kinds.change(source, text)
            append(plan.results, {**result, "outcome": outcome, "before": before, "after": after, "seconds": took})

        return one

    each(mutants, options.jobs, worker)


def in_order(plan: Plan, chosen: Sequence[mutant_kinds.Mutant]) -> list[mutant_kinds.Mutant]:
    """Return those mutants that have no result yet: earlier survivors first, then the modules in even shares."""
    done = plan.done()
    lines = map(json.loads, plan.results.read_text().splitlines() if plan.results.exists() else ())
    survived = {(r["module"], r["kind"], r["occurrence"]) for r in lines if r.get("outcome") == "survived"}
    left = [mutant for mutant in chosen if mutant[:3] not in done]
    tried = Counter(key[0] for key in done)
    total = Counter(mutant.module for mutant in chosen)
    if plan.again:
        left = [mutant for mutant in left if mutant[:3] in survived]
    turn = {}
    for mutant in left:
        turn[mutant] = tried[mutant.module] / total[mutant.module]
        tried[mutant.module] += 1
    return sorted(left, key=lambda mutant: (mutant[:3] not in survived, turn[mutant]))


def report(plan: Plan, mutants: Sequence[mutant_kinds.Mutant]) -> str:
    """Return a table of the modules and the list of survivors."""
    done = plan.done()
    outcomes: dict[str, Counter[str]] = {module: Counter() for module in plan.table}
    for mutant in mutants:
        result = done.get(mutant[:3])
        outcomes[mutant.module][result["outcome"] if result else "not run"] += 1
    lines = [f"{'module':32} {'mutants':>8} {'run':>6} {'killed':>7} {'survived':>9} {'share':>6}"]
    for module, count in [*outcomes.items(), ("all", sum(outcomes.values(), Counter()))]:
        killed = count["killed"] + count["too slow"]
        ran = killed + count["survived"]
        share = f"{killed / ran:.1%}" if ran else "-"
        total = count.total() - count[ALIKE]
        lines.append(f"{module:32} {total:8} {ran:6} {killed:7} {count['survived']:9} {share:>6}")
    survivors = sorted((r for r in done.values() if r["outcome"] == "survived"), key=lambda r: (r["module"], r["line"]))
    lines += ["", f"{len(survivors)} survivors"]
    lines += [f"{r['module']}:{r['line']} [{r['kind']}]\n    {r['before']}\n    {r['after']}" for r in survivors]
    return "\n".join(lines) + "\n"


def prepare_source(plan: Plan) -> None:
    """Copy the source once, compiled, with what installing it would have written beside it."""
    target = plan.out / "work" / "source"
    shutil.rmtree(plan.out / "work", ignore_errors=True)
    shutil.copytree(plan.folder / "src", target, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy2(plan.folder / "pyproject.toml", target / plan.source.name)
    project = plan.meta["project"]
    info = target / f"{plan.source.name}-{project['version']}.dist-info"
    info.mkdir()
    described = {"Metadata-Version": "2.1", "Name": project["name"], "Version": project["version"]}
    info.joinpath("METADATA").write_text("".join(f"{key}: {value}\n" for key, value in described.items()))
    compileall.compile_dir(str(target), quiet=2)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the mutation run of one package."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("package", help="folder below packages/")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes at a time")
    parser.add_argument("--modules", nargs="+", default=[""], help="only modules whose name begins like one of these")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after this long; a later run goes on")
    parser.add_argument("--sample", type=int, help="at most so many mutants, evenly at random")
    parser.add_argument("--seed", type=int, default=0, help="of the order in which mutants are tried")
    parser.add_argument("--again", action="store_true", help="only what survived earlier runs")
    parser.add_argument("--out", type=Path, help="folder of results (default: .nox/mutants/PACKAGE)")
    parser.add_argument("--report", action="store_true", help="only print what earlier runs found")
    options = parser.parse_args(argv, argparse.Namespace(start=time.monotonic()))
    plan = Plan(options.package, (options.out or ROOT / ".nox" / "mutants" / options.package).resolve())
    plan.again = options.again
    plan.out.mkdir(parents=True, exist_ok=True)
    modules = [module for module in plan.table if module.startswith(tuple(options.modules))]
    mutants = [mutant for module in modules for mutant in mutant_kinds.find(module, plan.texts[module])]
    random.Random(options.seed).shuffle(mutants)
    chosen = mutants[: options.sample]
    if not options.report:
        os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", CUDA_VISIBLE_DEVICES="", **plan.variables)
        for name in plan.preload:
            with contextlib.suppress(ImportError):  # only a matter of speed: the tests' own imports decide
                importlib.import_module(name)
        prepare_source(plan)
        seconds = measure(plan, modules, options.jobs)
        left = [mutant for mutant in in_order(plan, chosen) if mutant.module in seconds]
        print(f"{len(mutants)} mutants of {len(modules)} modules; {len(left)} to run", flush=True)
        try_all(plan, left, seconds, options)
        shutil.rmtree(plan.out / "work")
    text = report(plan, mutants)
    (plan.out / "report.txt").write_text(text)
    print(text)
    return 0 if options.report or len(seconds) == len(modules) else 1


if __name__ == "__main__":
    raise SystemExit(main())
