"""Elementwise pieces of the kernels.

`FAST` is False in Triton's interpreter, which knows neither inline assembly nor bfloat16 products: there the same
formulas run with numpy's functions and float32 products.
"""

# mypy: disallow-untyped-defs=False
# Arguments of kernels are what Triton makes of them; the functions that launch kernels are typed.
from __future__ import annotations

import triton
import triton.language as tl

MINUS_LOG2_E = tl.constexpr(-1.4426950408889634)
LOG_2 = tl.constexpr(0.6931471805599453)


@triton.jit
def exp2(x, FAST: tl.constexpr):
    """2^x in one instruction; results below the normal range are 0.

    Declared impure, or Triton would compute sigmoids twice, once in each layout that needs them.
    """
    if FAST:
        return tl.inline_asm_elementwise("ex2.approx.ftz.f32 $0, $1;", "=f,f", [x], tl.float32, False, 1)
    return tl.exp2(x)


@triton.jit
def log2(x, FAST: tl.constexpr):
    """Base-2 logarithm in one instruction, for normal x > 0."""
    if FAST:
        return tl.inline_asm_elementwise("lg2.approx.ftz.f32 $0, $1;", "=f,f", [x], tl.float32, True, 1)
    return tl.log2(x)


@triton.jit
def reciprocal(x, FAST: tl.constexpr):
    """1 / x in one instruction; 0 for infinity."""
    if FAST:
        return tl.inline_asm_elementwise("rcp.approx.ftz.f32 $0, $1;", "=f,f", [x], tl.float32, True, 1)
    return 1.0 / x


@triton.jit
def sigmoid(x, FAST: tl.constexpr):
    """1 / (1 + exp(-x)); exact to float32 rounding on either side of 0, since exp(-x) may overflow to infinity."""
    return reciprocal(1.0 + exp2(x * MINUS_LOG2_E, FAST), FAST)


@triton.jit
def leading(x, FAST: tl.constexpr):
    """The part of a float32 that a bfloat16 holds exactly: its leading 8 bits, by truncation.

    x - leading(x) is exact, so that three such parts carry a float32 through bfloat16 matrix products.
    """
    if FAST:
        return (x.to(tl.int32, bitcast=True) & -65536).to(tl.float32, bitcast=True)
    return x
