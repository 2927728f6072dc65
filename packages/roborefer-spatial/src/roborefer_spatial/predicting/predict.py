"""Ask a backend every question of a sample file; resumable, in one process or one per GPU."""

from __future__ import annotations

import argparse
import contextlib
import datetime
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import msgspec

from roborefer_spatial import terminal
from roborefer_spatial.predicting import backends, profiles
from roborefer_spatial.predicting.backends import Answer, Backend, Reply, Request, Unavailable
from roborefer_spatial.predicting.profiles import Profile
from roborefer_spatial.predicting.store import Store, append_rows, run_identity
from roborefer_spatial.predictions import Prediction
from roborefer_spatial.sample import Sample, load_samples

log = logging.getLogger(__name__)

BATCH_SIZE, MAX_ERRORS = 8, 100


@dataclass(frozen=True, slots=True)
class Process:
    """This process among those of `accelerate launch`."""

    rank: int = 0
    world: int = 1
    wait: Callable[[], None] = lambda: None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run did: samples asked for, answered before it, answered now, failed; and answers cut short."""

    total: int
    kept: int
    answered: int
    failed: int
    first_error: str | None
    cut: int = 0


def predict(
    samples: Sequence[Sample],
    make_backend: Callable[[], Backend],
    out: Path,
    *,
    identity: dict[str, Any],
    batch_size: int = BATCH_SIZE,
    max_errors: int = MAX_ERRORS,
    restart: bool = False,
    process: Process | None = None,
    profile: Profile | None = None,
    progress: bool = False,
) -> Outcome:
    """Answer the samples that have no answer in `out` yet, and write `out`.

    Parameters
    ----------
    samples
        The questions.
    make_backend
        Called only if something is left to answer.
    out
        JSONL of `predictions.Prediction`.
    identity
        What determines the answers (backend, options, sample file), JSON-able; kept beside `out`.
    batch_size
        Samples a call.
    max_errors
        The run stops after this many failed samples.
    restart
        Set aside what `out` holds, under another name, instead of going on with it.
    process
        Which share of the samples is this process's.
    profile
        How the model is asked; by default the questions as they were built.
    progress
        Whether to show a progress bar.

    Returns
    -------
    Outcome
        Counts over all processes.

    Raises
    ------
    ValueError
        `out` was made by something else than `identity`.
    Unavailable
        The backend stopped working, or `max_errors` was reached. What was answered is not asked again.
    """
    if batch_size < 1 or max_errors < 1:
        raise ValueError(f"--batch-size and --max-errors are at least 1, got {batch_size} and {max_errors}")
    process, profile = process or Process(), profile or profiles.load(profiles.AS_BUILT)
    store, ids = Store(out), [sample.id for sample in samples]
    if process.rank == 0:
        store.check(identity, restart=restart)
    process.wait()
    before = store.rows()
    kept = {sample_id for sample_id in ids if sample_id in before and before[sample_id].text is not None}
    process.wait()  # nobody appends before everybody has read
    todo = [sample for sample in samples if sample.id not in kept][process.rank :: process.world]
    if todo:
        position = {sample_id: index for index, sample_id in enumerate(ids)}
        questions = [_request(sample, position[sample.id], profile) for sample in todo]
        part = _Part(store, process.rank, identity)
        _answer_all(questions, _InProfile(make_backend(), profile), part, batch_size, max_errors, progress)
    process.wait()
    if process.rank == 0:
        store.merge(ids)
    process.wait()
    rows = store.rows()
    errors = [f"{sample_id}: {rows[sample_id].error}" for sample_id in ids if rows[sample_id].text is None]
    answered = len(ids) - len(kept) - len(errors)
    cut = sum(rows[sample_id].finish == "length" for sample_id in ids)
    return Outcome(len(ids), len(kept), answered, len(errors), errors[0] if errors else None, cut)


@dataclass(frozen=True, slots=True)
class _Part:
    """Where a process's rows go; the file is claimed with the first of them."""

    store: Store
    rank: int
    identity: dict[str, Any]


def _answer_all(
    todo: list[Request], backend: Backend, part: _Part, batch_size: int, max_errors: int, progress: bool
) -> None:
    failed = 0
    with contextlib.ExitStack() as stack:
        stream: IO[str] | None = None
        bar = terminal.progress(description="answering", unit="sample", total=len(todo), quiet=not progress)
        stack.enter_context(bar)
        for start in range(0, len(todo), batch_size):
            for row in _answer(backend, todo[start : start + batch_size]):
                if stream is None:  # a start that fails leaves nothing behind
                    part.store.claim(part.identity)
                    stream = stack.enter_context(append_rows(part.store.part(part.rank)))
                stream.write(row.to_json() + "\n")
                failed += row.text is None
                bar.update()
            assert stream is not None, "a batch has at least one sample"
            stream.flush()
            os.fsync(stream.fileno())
            if failed >= max_errors:
                raise Unavailable(f"stopped after {failed} failed samples (--max-errors); last: {row.error}")


def _answer(backend: Backend, requests: list[Request]) -> Iterator[Prediction]:
    """Yield a row per request; where the batch as a whole fails, ask them one by one."""
    answers: Sequence[Reply]
    try:
        answers = backend.answer(requests)
    except Unavailable:
        raise
    except Exception as error:  # whatever a model raises belongs to its sample, and is recorded there
        if len(requests) > 1:
            log.warning("a batch of %d failed (%s); asking one by one", len(requests), error)
            for request in requests:
                yield from _answer(backend, [request])
            return
        answers = [error]
    assert len(answers) == len(requests), f"{backend}: {len(answers)} answers to {len(requests)} requests"
    for request, answer in zip(requests, answers):
        if isinstance(answer, Unavailable):
            continue
        if isinstance(answer, Exception):
            log.warning("%s: %s", request.id, answer)
            yield Prediction(request.id, None, f"{type(answer).__name__}: {answer}")
        elif isinstance(answer, Answer):
            yield Prediction(request.id, answer.text, None, answer.finish, answer.seen)
        else:
            yield Prediction(request.id, answer)
    for answer in answers:  # only now: the others' answers are kept
        if isinstance(answer, Unavailable):
            raise answer


def _request(sample: Sample, position: int, profile: Profile) -> Request:
    depth = None if sample.depth is None else tuple(Path(path) for path in sample.depth)
    sizes = tuple(profile.size_of(sample.answer_size) for _ in sample.image) if profile.frame == "seen" else None
    images = tuple(Path(path) for path in sample.image)
    prompt = profile.prompt(sample)
    return Request(sample.id, images, prompt, depth, position, sizes, sample.task, sample.concat)


@dataclass(frozen=True, slots=True)
class _InProfile:
    """A backend whose answers end where the profile says, and name the size that the model saw."""

    backend: Backend
    profile: Profile

    def answer(self, requests: Sequence[Request]) -> list[Reply]:
        return [self._read(request, reply) for request, reply in zip(requests, self.backend.answer(requests))]

    def _read(self, request: Request, reply: Reply) -> Reply:
        if isinstance(reply, Exception):
            return reply
        answer = Answer(reply) if isinstance(reply, str) else reply
        seen = answer.seen
        if self.profile.frame == "seen":
            seen = seen or request.sizes
            if seen is None:
                return ValueError(f"nothing says at which size the model saw the images (profile {self.profile.name})")
            if self.profile.ref and len(request.images) == 1 and request.sizes and seen != request.sizes:
                return ValueError(
                    f"the model saw {seen[0]} and the question, by profile {self.profile.name}, named a point in an "
                    f"image of {request.sizes[0]}: write a profile with the min_pixels and max_pixels of this model"
                )
        return Answer(self.profile.cut(answer.text), answer.finish, seen)


def asked(samples: Sequence[Sample], backend: str, options: Any, depth: str) -> list[Sample]:
    """Return the samples as they are asked: `depth` "use" keeps their depth maps, "ignore" leaves them out.

    Raises
    ------
    ValueError
        Depth maps that are to be used would not reach the model.
    """
    if depth == "ignore":
        return [msgspec.structs.replace(sample, depth=None) if sample.depth else sample for sample in samples]
    backends.check_depth(backend, options, samples)
    return list(samples)


def this_process(backend: str) -> Process:
    """Return this process's share under `accelerate launch` or torchrun.

    Raises
    ------
    ValueError
        Several processes for a backend that needs only one.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return Process()
    if backend not in backends.PER_PROCESS:
        raise ValueError(f"--backend {backend} runs in one process: start it without accelerate or torchrun")
    import torch.distributed

    if not torch.distributed.is_initialized():
        # processes wait for the slowest share, however long it takes
        torch.distributed.init_process_group("gloo", timeout=datetime.timedelta(days=30))
    return Process(torch.distributed.get_rank(), torch.distributed.get_world_size(), torch.distributed.barrier)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `roborefer-spatial predict`."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = "Answer every question of a sample file. Resumable; exit status 1 if any sample failed."
    parser.epilog = (
        "examples:\n"
        "  roborefer-spatial predict --samples tasks/t1_val_multi.json --out answers.jsonl \\\n"
        "      --backend transformers --model Qwen/Qwen2.5-VL-3B-Instruct --device cuda\n"
        "  roborefer-spatial predict --samples tasks/t1_val_multi.json --out answers.jsonl \\\n"
        "      --backend http --api openai --url http://127.0.0.1:8000/v1 --model my-model\n"
        "  roborefer-spatial predict --samples tasks/t1_val_multi.json --out matcher.jsonl --backend matcher\n"
        "  accelerate launch --num-processes 4 -m roborefer_spatial predict ... (one model per GPU)"
    )
    add = parser.add_argument
    add("--samples", type=Path, required=True, help="JSON or JSONL file of `build`")
    add("--out", type=Path, required=True, help="JSONL file of answers to write or to go on with")
    add("--image-folder", type=Path, help="where relative image paths start (default: the file's folder)")
    add("--limit", type=int, help="answer the first N samples only")
    add("--batch-size", type=int, default=BATCH_SIZE, help="samples a call (default: %(default)s)")
    add("--max-errors", type=int, default=MAX_ERRORS, help="stop after N failed samples (default: %(default)s)")
    add("--restart", action="store_true", help="set aside what --out holds, as OUT.old-N, and begin anew")
    add("--depth", choices=("use", "ignore"), default="use", help="depth images of the samples (default: use)")
    add("--quiet", action="store_true", help="show no progress")
    add_profile_argument(parser)
    backends.add_arguments(parser)


def add_profile_argument(parser: argparse.ArgumentParser) -> None:
    """Add `--profile`."""
    parser.add_argument(
        "--profile",
        default="auto",
        metavar="NAME|FILE",
        help="how the model is asked and what its numbers mean: auto (by the model's config or name, the default), "
        f"a YAML file, or one of {', '.join(profiles.shipped())}",
    )


def run(args: argparse.Namespace) -> int:
    """Run `roborefer-spatial predict`; 0 if every sample has an answer."""
    if args.limit is not None and args.limit < 1:
        raise ValueError(f"--limit is {args.limit}: expected at least 1")
    samples = load_samples(args.samples, image_folder=args.image_folder)[: args.limit]
    options, profile = options_and_profile(args)
    samples = asked(samples, args.backend, options, args.depth)
    process = this_process(args.backend)
    try:
        outcome = predict(
            samples,
            lambda: backends.create(args.backend, options),
            args.out,
            identity=run_identity(args.samples, args.backend, options, depth=args.depth, profile=profile),
            batch_size=args.batch_size,
            max_errors=args.max_errors,
            restart=args.restart,
            process=process,
            profile=profile,
            progress=not args.quiet,
        )
    except Unavailable as error:
        print(f"error: {error}", file=sys.stderr)
        return terminal.FAILED
    return report(outcome, args.out) if process.rank == 0 else _status(outcome)


def options_and_profile(args: argparse.Namespace) -> tuple[Any, Profile]:
    """Return the backend's options and the profile, which may decide how long an answer can be."""
    given = backends.given_options(args)
    if args.backend in backends.WITHOUT_MODEL and args.profile not in ("auto", profiles.AS_BUILT):
        raise ValueError(f"--profile {args.profile} says how to ask a model; --backend {args.backend} reads no prompt")
    profile = profiles.choose(args.profile, given.get("model"))
    takes_tokens = args.backend in ("host", "transformers") or (args.backend, given.get("api")) == ("http", "openai")
    if takes_tokens and profile.max_new_tokens is not None:
        given.setdefault("max_new_tokens", profile.max_new_tokens)
    return backends.options(args.backend, given), profile


def report(outcome: Outcome, out: Path) -> int:
    """Print what a run did; return its exit status."""
    print(
        f"{out}: {outcome.total} samples, {outcome.kept} answered before, {outcome.answered} now, "
        f"{outcome.failed} failed"
    )
    if outcome.cut:
        print(
            f"warning: {outcome.cut} answer(s) were cut by max_tokens, so that a point may be missing: raise "
            "--max-new-tokens and write to another file",
            file=sys.stderr,
        )
    if outcome.failed:
        print(f"error: {outcome.failed} sample(s) failed, first {outcome.first_error}", file=sys.stderr)
        print("run the same command again to retry them", file=sys.stderr)
    return _status(outcome)


def _status(outcome: Outcome) -> int:
    return terminal.FAILED if outcome.failed else terminal.DONE
