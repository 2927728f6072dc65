"""What is wrong with a run, told from its config before the host starts it.

MapAnything accepts the mistakes below and then never ends its warm-up, validates on the wrong frames, or
loses a test set without a word.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

_CUT = "MapAnything cuts dataset.test_dataset at every '+'"
_START = ("opv2v_start", "OPV2VStartLoss")
_BEST = "MapAnything picks checkpoint-best by the mean over all sets of dataset.test_dataset"


def run_problems(
    *,
    test_dataset: str,
    num_views: int,
    max_num_of_imgs_per_gpu: int,
    epochs: float,
    warmups: Mapping[str, float],
    weights: Mapping[str, str | None],
    model_str: str = "",
    train_criterion: str = "",
) -> list[str]:
    """Return the problems of a run, empty if there are none; each says what to change.

    Parameters
    ----------
    test_dataset
        `dataset.test_dataset`, resolved.
    num_views
        `dataset.num_views`.
    max_num_of_imgs_per_gpu, epochs
        Of `train_params`.
    warmups
        Config key to warm-up epochs, for `train_params` and each of its submodules.
    weights
        Config key to the checkpoint that the run starts from, or None.
    model_str, train_criterion
        `model.model_str` and `loss.train_criterion`, resolved.
    """
    problems = _test_set_problems(test_dataset)
    if max_num_of_imgs_per_gpu < num_views:
        problems.append(
            f"the test batch is 2 * ({max_num_of_imgs_per_gpu} // {num_views}) = 0 samples: raise "
            f"train_params.max_num_of_imgs_per_gpu to at least dataset.num_views={num_views}"
        )
    for key, warmup in warmups.items():
        if warmup >= epochs:
            problems.append(
                f"{key}={warmup:g} is not shorter than train_params.epochs={epochs:g}: the learning rate "
                f"would never leave its warm-up; lower {key}"
            )
    for key, path in weights.items():
        if path is not None and not Path(path).is_file():
            problems.append(
                f"{key}={path} is not there: train the stage before this one or get the weights first, or set {key} "
                "to another checkpoint or to null"
            )
    if (model_str == _START[0]) != (_START[1] in train_criterion):
        problems.append(
            f"model.model_str={model_str} with the loss {train_criterion.split('(')[0].strip() or 'of no name'}: "
            f"{_START[0]} tells poses and points of patches only, for loss=opv2v_start_loss, and no other model does; "
            "take both (+experiment=opv2v_start) or neither"
        )
    return problems


def _test_set_problems(test_dataset: str) -> list[str]:
    """Look at the strings that the host makes its test loaders from."""
    problems = []
    pieces = [piece for piece in test_dataset.split("+") if "(" in piece]  # as the host does
    for piece in pieces:
        try:
            calls = [node for node in ast.walk(ast.parse(piece.strip(), mode="eval")) if isinstance(node, ast.Call)]
        except SyntaxError:
            problems.append(f"{_CUT}, which leaves {piece.strip()!r}: write '+' inside a string as '\\x2b'")
            continue
        for call in calls:
            split = _opv2v_split(call)
            if (recording := _recording(call)) is not None:
                problems.append(
                    f"ROOT={recording} is one recording, so training and validation would see the same frames: lay "
                    f"recordings as {{split}}/{{name}}/{recording.name} and give the folder above"
                )
            if split not in (None, "validate"):
                problems.append(
                    f"a test set reads the split {split!r} ({ast.unparse(call.func)}). {_BEST}: "
                    "let it read 'validate' only and evaluate on others apart"
                )
    for key, number in Counter(piece.split("(")[0] for piece in pieces).items():
        if number > 1:
            problems.append(
                f"{number} test sets begin with {key.strip()!r}: MapAnything keeps the last one only; use "
                "the class of the split (..._validate, ..._test), or set '1 * ' before one of them"
            )
    return problems


def _recording(call: ast.Call) -> Path | None:
    """Return the `rig.yaml` that a call gives as ROOT."""
    for word in call.keywords:
        if word.arg == "ROOT" and isinstance(word.value, ast.Constant) and Path(str(word.value.value)).is_file():
            return Path(str(word.value.value))
    return None


def _opv2v_split(call: ast.Call) -> str | None:
    """Return the split that a call of one of our dataset classes reads; None for other calls."""
    name = call.func.id if isinstance(call.func, ast.Name) else ""
    if not name.startswith("OPV2V"):
        return None
    _, _, locked = name.partition("Dataset_")
    given = [word.value for word in call.keywords if word.arg == "split"]
    if given and isinstance(given[0], ast.Constant):
        return str(given[0].value)
    return locked or None
