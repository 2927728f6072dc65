"""Compile every kernel that a step launches for a GPU that is not there, and print what each needs.

    python compile_kernels.py [fp32 fp16 bf16]

Every launch is replaced by a compilation for compute capability 9.0. Run it without TRITON_INTERPRET.
"""

from __future__ import annotations

import sys

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
    compiled = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=settings)
    assert compiled.asm["cubin"]
    print(f"{kernel.fn.__name__:<12}{compiled.metadata.shared:>8} bytes shared, {compiled.metadata.num_warps} warps")


def compile_step(dtype: torch.dtype, iter_matcher: bool, **shape) -> None:
    """Compile what one forward and backward pass launches."""
    samples = collect(*make_batch(dtype=dtype, layers=2, **shape), 13)
    weights = Weights(
        13, 0.5, 1.0, 1.0, 0.5, 2.0, 0.1, 1.0, 1.0, 0.1, 0.1, 1.0, 0.03, 0.2, iter_matcher, not iter_matcher
    )
    checks = torch.empty(len(samples), 2, dtype=torch.int32)
    step_loss([sample.contiguous() for sample in samples], weights, checks)[0].backward()


if __name__ == "__main__":
    triton.JITFunction.run = compile_only
    write_words([1], torch.device("cpu"))
    for name in sys.argv[1:] or DTYPES:
        compile_step(DTYPES[name], False, points=(64, 96), instances=(30, 3))
        compile_step(DTYPES[name], True, instances=(3, 3), query_masks=True)
        if len(sys.argv) == 1:
            compile_step(DTYPES[name], True, points=(64, 96), instances=(100, 3))
