"""Compile every kernel that a step launches for GPUs that are not there, and print what each needs.

    python compile_kernels.py [fp32 fp16 bf16] [8.0 8.6 8.9 9.0 12.0]

Every launch is replaced by a compilation for each compute capability; one that needs more shared memory than a program
may have there is an error. Run it without TRITON_INTERPRET.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
import triton
from influencer_mmdet3d.host.batch import collect
from influencer_mmdet3d.loss.kernels.step import Weights, step_loss
from influencer_mmdet3d.loss.kernels.words import write_words
from scenes import make_batch
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

POINTERS = {
    torch.float32: "*fp32", torch.float16: "*fp16", torch.bfloat16: "*bf16", torch.int32: "*i32", torch.int64: "*i64",
}  # fmt: skip
SHARED = {"8.0": 166_912, "8.6": 101_376, "8.9": 101_376, "9.0": 232_448, "12.0": 101_376}
"""Bytes of shared memory that a program may have, by compute capability (CUDA C++ programming guide, table of technical
specifications)."""
capabilities = list(SHARED)
DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def compile_only(kernel, *args, grid, warmup=False, **options):
    """Take the place of `JITFunction.run`."""
    bound = {**dict(zip(kernel.arg_names, args)), **options}
    settings = {name: options[name] for name in ("num_warps", "num_stages") if name in options}
    types, constants, aligned = {}, {}, {}
    for position, parameter in enumerate(kernel.params):
        value = bound[parameter.name]
        if parameter.is_constexpr:
            types[parameter.name], constants[parameter.name] = "constexpr", value
        elif isinstance(value, torch.Tensor):
            types[parameter.name], aligned[(position,)] = POINTERS[value.dtype], [["tt.divisibility", 16]]
        else:
            types[parameter.name] = "i32" if isinstance(value, int) else "fp32"
    source = ASTSource(fn=kernel, signature=types, constexprs=constants, attrs=aligned)
    for capability in capabilities:
        target = GPUTarget("cuda", int(capability.replace(".", "")), 32)
        compiled = triton.compile(source, target=target, options=settings)
        assert compiled.asm["cubin"]
        shared = compiled.metadata.shared
        print(
            f"{capability:<6}{kernel.fn.__name__:<12}{shared:>8} bytes shared, {usage(compiled.asm['cubin'])}",
            flush=True,
        )
        assert shared <= SHARED[capability], f"{kernel.fn.__name__} needs {shared} of {SHARED[capability]} bytes"


def usage(cubin: bytes) -> str:
    """Return registers and spilled bytes of a thread, from the compiler's own tool; empty without it."""
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    if not tool.is_file():
        return ""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        found = subprocess.run([tool, "-res-usage", file.name], capture_output=True, text=True).stdout
    numbers = dict(re.findall(r"(REG|STACK|LOCAL):(\d+)", found))
    return f"{numbers.get('REG', '?')} registers, {numbers.get('STACK', '?')} bytes of stack"


def compile_step(dtype: torch.dtype, iter_matcher: bool, **shape) -> None:
    """Compile what one forward and backward pass launches."""
    samples = collect(*make_batch(dtype=dtype, layers=2, **shape), 13)
    weights = Weights(
        num_classes=13, class_weight=0.5, bce_weight=1.0, dice_weight=1.0, score_weight=0.5, class_price=2.0,
        non_object_weight=0.1, score_others=1.0, attr_weight=1.0, rep_weight=0.1, bg_weight=0.1, rep_margin=1.0,
        temperature=0.03, soft_share=0.2, iter_matcher=iter_matcher, log_odds=not iter_matcher,
    )  # fmt: skip
    checks = torch.empty(len(samples), 2, dtype=torch.int32)
    step_loss([sample.contiguous() for sample in samples], weights, checks)[0].backward()


if __name__ == "__main__":
    triton.JITFunction.run = compile_only
    write_words([1], torch.device("cpu"))
    words = sys.argv[1:]
    capabilities[:] = [word for word in words if word in SHARED] or list(SHARED)
    for name in [word for word in words if word in DTYPES] or DTYPES:
        compile_step(DTYPES[name], False, points=(64, 96), instances=(30, 3))
        compile_step(DTYPES[name], True, instances=(3, 3), query_masks=True)
        compile_step(DTYPES[name], True, points=(64, 96), instances=(100, 3))
