"""Compiled parts of a model for learn_towns_start.py: a step costs the GPU less, which several trainings share.

Blocks and pose head are compiled one by one, as what lies between them works with lists and names. Only training
steps run compiled: judging has other shapes, and is short. Where compiling fails, the training goes on as it is, and
says so. The package's own training is not compiled: its losses are many small steps of the processor.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch

RECOMPILED = 32
"""Kinds of parts and shapes together; more than torch expects of one function, which all modules share."""


def parts(model: Any) -> list[torch.nn.Module]:
    """Return the blocks and the head of a MapAnything that the start uses."""
    return [*model.info_sharing.self_attention_blocks, model.pose_head]


def compile_parts(model: Any, step: Callable[[], Any]) -> bool:
    """Compile the parts of a model, and try them by a step forward and backward; say whether they stay compiled."""
    began = time.monotonic()
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, RECOMPILED)
    chosen = parts(model)
    for part in chosen:
        part.compile(dynamic=False)
    try:
        step()
    except Exception as error:  # whatever the compiler of a machine is missing
        for part in chosen:
            part._compiled_call_impl = None
        print(f"not compiled: {type(error).__name__}: {str(error)[:300]}", flush=True)
        return False
    print(f"compiled in {time.monotonic() - began:.0f} s", flush=True)
    return True


def as_written() -> Any:
    """Return a context in which nothing runs compiled."""
    return torch.compiler.set_stance("force_eager")
