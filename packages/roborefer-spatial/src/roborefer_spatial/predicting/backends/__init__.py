"""Predictors, one module each, named by what they talk to. Importing them needs neither torch nor a host.

A backend module has:

- `Options`, a frozen keyword-only dataclass of everything that a user can set (`model`, `device`, ...), with a
  section "Attributes" in its docstring: `flags` makes the command line from it;
- `create(options) -> Backend`, which loads the model or checks the server;
- `same_answers(options) -> frozenset[str]`: names of the options that do not change answers (a run may go on
  with other values of them);
- `takes_depth(options) -> bool`: whether depth maps of the samples reach the model;
- `EXTRA`, the extra of this package that installs what the module imports ("" for none).
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from roborefer_spatial.images import ConcatMap
from roborefer_spatial.predicting.backends import flags
from roborefer_spatial.predictions import Sizes
from roborefer_spatial.sample import Sample

MODULES: dict[str, str] = {
    "host": "roborefer_spatial.host.backend",
    "transformers": "roborefer_spatial.predicting.backends.transformers",
    "http": "roborefer_spatial.predicting.backends.http",
    "file": "roborefer_spatial.predicting.backends.file",
    "matcher": "roborefer_spatial.predicting.backends.matcher",
}
"""Backend name on the command line -> its module; that of the host is an adapter and stands with the host."""

WITHOUT_MODEL = frozenset({"matcher"})
"""Backends that read no prompt: a profile of a model means nothing to them."""

PER_PROCESS = frozenset({"host", "transformers"})
"""Backends of which each process of `accelerate launch` loads its own and answers its share."""


@dataclass(frozen=True, slots=True)
class Request:
    """One question.

    Attributes
    ----------
    id
        The sample's id.
    images
        Image files in the order of the prompt (reference before query; one for concatenated samples).
    prompt
        The user's text without `<image>` tokens: the backend inserts what its model expects.
    depth
        Depth images, one for each image, or None. A backend that cannot use them is never given any.
    position
        The sample's row in its file, from 0.
    sizes
        (width, height) at which the model is expected to see each image, where its profile has a rule for it.
    task, concat
        A key of `sample.TASKS`, and where A and B lie in a side-by-side image: for backends that do not read the
        prompt.
    """

    id: str
    images: tuple[Path, ...]
    prompt: str
    depth: tuple[Path, ...] | None = None
    position: int = 0
    sizes: Sizes | None = None
    task: str = ""
    concat: ConcatMap | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """A text and what is known of how it came about; see `predictions.Prediction`."""

    text: str
    finish: str | None = None
    seen: Sizes | None = None


Reply = str | Answer | Exception


class Unavailable(RuntimeError):
    """The backend as a whole cannot answer, such as without its server: the run stops."""


class Backend(Protocol):
    """Answers questions in batches."""

    def answer(self, requests: Sequence[Request]) -> Sequence[Reply]:
        """Return one answer per request, in order, decoded greedily and without the prompt.

        A request that cannot be answered has its exception in that place. A backend that cannot tell which
        request failed raises: the caller then asks one by one, so that only the request at fault is recorded.
        Raise `Unavailable` where going on makes no sense, or give it in the place of the requests that it
        concerns, so that answers that others got are kept.
        """
        ...


SHARED_FLAGS: dict[str, dict[str, Any]] = {
    "model": {"help": "checkpoint folder, or the model's name on the server"},
    "device": {"help": "torch device, e.g. cuda, cuda:1 or cpu"},
    "max_new_tokens": {"type": int, "help": "longest answer in tokens"},
}
"""Flags that mean the same for several backends."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add `--backend`, the shared flags and one group of flags per backend."""
    parser.add_argument("--backend", choices=sorted(MODULES), required=True, help="what answers the questions")
    for name, spec in SHARED_FLAGS.items():
        parser.add_argument(_flag(name), default=argparse.SUPPRESS, **spec)
    for name in MODULES:
        flags.add_fields(parser.add_argument_group(f"--backend {name}"), _module(name).Options, SHARED_FLAGS)


def given_options(args: argparse.Namespace) -> dict[str, Any]:
    """Return the backend flags that the user gave, by field name."""
    known = {field.name for name in MODULES for field in dataclasses.fields(_module(name).Options)}
    return {name: value for name, value in vars(args).items() if name in known}


def options(name: str, given: Mapping[str, Any]) -> Any:
    """Return the backend's validated options.

    Raises
    ------
    ValueError
        An unknown backend, an option that this backend does not have, or a required one that is missing.
    """
    if name not in MODULES:
        raise ValueError(f"unknown backend {name!r}; known: {', '.join(sorted(MODULES))}")
    fields = {field.name: field for field in dataclasses.fields(_module(name).Options)}
    foreign = sorted(set(given) - set(fields))
    if foreign:
        flags = ", ".join(map(_flag, foreign))
        known = ", ".join(map(_flag, fields))
        raise ValueError(f"backend {name} does not take {flags}; it takes {known}")
    missing = [
        field.name
        for field in fields.values()
        if field.default is dataclasses.MISSING
        and field.default_factory is dataclasses.MISSING
        and field.name not in given
    ]
    if missing:
        raise ValueError(f"backend {name} needs {', '.join(map(_flag, missing))}")
    return _module(name).Options(**given)


def create(name: str, chosen: Any) -> Backend:
    """Return the backend for options made by `options`; Unavailable names a package that it lacks."""
    module = _module(name)
    try:
        backend: Backend = module.create(chosen)
    except ImportError as error:
        how = f"pip install 'roborefer-spatial[{module.EXTRA}]'" if module.EXTRA else "pip install it"
        raise Unavailable(f"--backend {name} cannot import {error.name or 'what it needs'} ({error}): {how}") from error
    return backend


def same_answers(name: str, chosen: Any) -> frozenset[str]:
    """Return the names of the backend's options that do not change answers."""
    names: frozenset[str] = _module(name).same_answers(chosen)
    return names


def check_depth(name: str, chosen: Any, samples: Sequence[Sample]) -> None:
    """Raise ValueError when samples bring depth maps that would not reach the model."""
    with_depth = next((sample for sample in samples if sample.depth is not None), None)
    if with_depth is not None and not _module(name).takes_depth(chosen):
        raise ValueError(
            f"sample {with_depth.id} brings depth images, and backend {name} as chosen cannot use them: "
            "--depth ignore asks with the images alone"
        )


def _flag(field: str) -> str:
    return "--" + field.replace("_", "-")


def _module(name: str) -> Any:
    return importlib.import_module(MODULES[name])
