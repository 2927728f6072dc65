"""The fused kernels against plain torch on one GPU, in a process: `python -m influencer_mmdet3d.host.kernel_trial 0`.

`influencer_mmdet3d.loss.kernels.trial` starts it, and `influencer-mmdet3d doctor` prints what it finds.

Shape legend: L layers, B samples, G groups, Q queries, N points, K instances.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from influencer_mmdet3d.host.criterion import InfluencerCriterion
from influencer_mmdet3d.loss.kernels.trial import Verdict

_CLASSES = 13
_LOSS = 2e-4
"""Relative difference of the loss and what is logged that passes."""
_GRADIENTS = {torch.float32: 1e-3, torch.float16: 2e-3, torch.bfloat16: 1.6e-2}
"""The same of gradients, in parts of the largest one: they are rounded to the type of the logits."""
_SCALE = {torch.float32: 1.0, torch.float16: 2.0**10, torch.bfloat16: 1.0}
"""Factor of the loss, as a GradScaler has it: small gradients would be 0 in float16."""


@dataclass(frozen=True)
class Case:
    """One comparison; the sizes share no factor with the kernels' blocks, one sample is of one point, one is empty."""

    name: str
    dtype: torch.dtype = torch.float32
    queries: tuple[int, ...] = (93, 3, 129)
    points: tuple[int, ...] = (5_003, 1, 4_097)
    instances: tuple[int, ...] = (9, 1, 0)
    layers: int = 2
    groups: int = 1
    options: dict[str, Any] = field(default_factory=dict)


_EVEN: dict[str, Any] = dict(queries=(96, 48), points=(4_096, 8_192), instances=(12, 5))
CASES = (
    Case("float32"),
    Case("float16", torch.float16),
    Case("bfloat16", torch.bfloat16),
    Case("float32, points in eights, three groups", groups=3, **_EVEN),
    Case("float16, points in eights", torch.float16, **_EVEN),
    Case("bfloat16, points in eights", torch.bfloat16, **_EVEN),
    Case("log-odds", options=dict(recipe="nms_free")),
    Case("one assignment for all layers", options=dict(iter_matcher=False, temperature=0.5, rep_weight=5.0)),
    Case("many instances", queries=(150,), points=(6_001,), instances=(100,)),
    Case("many layers and groups", queries=(2_394,) * 4, points=(601,) * 4, instances=(30,) * 4, layers=7, groups=6),
)
SIZES = {
    "S3DIS (1 scene, 400 queries, 40,000 points, 30 instances, 4 layers)": Case(
        "", queries=(400,), points=(40_000,), instances=(30,), layers=4
    ),
    "ScanNet (4 scenes, 400 queries, 3,000 points, 30 instances, 7 layers)": Case(
        "", queries=(400,) * 4, points=(3_000,) * 4, instances=(30,) * 4, layers=7
    ),
}


def make(case: Case, device: torch.device) -> tuple[dict[str, Any], list[Any], list[Tensor]]:
    """Return predictions and instances in the host's format, and the leaves."""
    generator = torch.Generator(device).manual_seed(0)
    leaves: list[Tensor] = []

    def leaf(*shape: int, apart: float = 0.0) -> Tensor:
        value = 2 * torch.randn(*shape, generator=generator, device=device)
        # masks of queries set apart: else all cost the same over many points, and rounding decides who owns what
        value += apart * torch.randn(shape[0], 1, generator=generator, device=device)
        leaves.append(value.to(case.dtype).requires_grad_())
        return leaves[-1]

    def layer() -> dict[str, Any]:
        return {
            "cls_preds": [leaf(q, _CLASSES + 1) for q in case.queries],
            "masks": [leaf(q, n, apart=2.0) for q, n in zip(case.queries, case.points)],
            "scores": [leaf(q, 1) for q in case.queries],
        }

    aux = [layer() for _ in range(case.layers - 1)]
    pred = {**layer(), "aux_outputs": aux, "groups": case.groups}
    insts = []
    for points, count in zip(case.points, case.instances):
        of = torch.randint(0, count + 1, (points,), generator=generator, device=device)
        masks = torch.nn.functional.one_hot(of, count + 1)[:, :count].t().bool().contiguous()
        labels = torch.randint(0, _CLASSES, (count,), generator=generator, device=device)
        insts.append(SimpleNamespace(sp_masks=masks, labels_3d=labels))
    return pred, insts, leaves


def difference(case: Case, device: torch.device) -> str | None:
    """Return what differs by too much, None where kernels and plain torch agree."""
    pred, insts, leaves = make(case, device)
    found = []
    for impl in ("triton", "plain"):
        criterion = InfluencerCriterion(num_classes=_CLASSES, impl=impl, **case.options)
        out = criterion(pred, insts)
        gradients = torch.autograd.grad(_SCALE[case.dtype] * out["inst_loss"], leaves)
        criterion.check_values()
        found.append((out, gradients))
    (fused, ours), (plain, theirs) = found
    for name, value in plain.items():
        error = float((fused[name] - value).abs() / value.abs().clamp_min(1.0))
        if not error <= _LOSS:
            return f"{name} is {float(fused[name].detach()):.6g} instead of {float(value.detach()):.6g}"
    for number, (a, b) in enumerate(zip(ours, theirs)):
        if not b.numel():
            continue
        largest = float(b.double().abs().max().clamp_min(1e-6))
        finest = torch.finfo(b.dtype).tiny * torch.finfo(b.dtype).eps  # the step next to 0: float16 knows none smaller
        error = float((a.double() - b.double()).abs().max())
        if not error <= _GRADIENTS[case.dtype] * largest + finest:
            return f"gradient {number}, of shape {tuple(b.shape)}, differs by {error / largest:.1e} of the largest"
    return None


def try_all(device: torch.device) -> Verdict:
    """Compare in every case; memory that does not suffice is an error, not a verdict."""
    for case in CASES:
        try:
            found = difference(case, device)
        except torch.cuda.OutOfMemoryError:
            raise
        except Exception as error:  # whatever the compiler, the driver or a kernel stops with is the verdict
            lines = str(error).splitlines() or [""]
            return Verdict(False, f"fail in the case {case.name!r}: {type(error).__name__}: {lines[0]}")
        if found is not None:
            return Verdict(False, f"differ from plain torch in the case {case.name!r}: {found}")
    return Verdict(True, f"agree with plain torch in {len(CASES)} cases")


def step_times(device: torch.device, repeats: int = 10) -> dict[str, tuple[float, float]]:
    """Return the median milliseconds of a step, forward and backward, of plain torch and of the kernels."""
    times = {}
    for name, case in SIZES.items():
        pred, insts, leaves = make(case, device)
        medians = []
        for impl in ("plain", "triton"):
            criterion = InfluencerCriterion(num_classes=_CLASSES, impl=impl)
            measured = []
            for _ in range(repeats + 2):
                torch.cuda.synchronize(device)
                begin = time.perf_counter()
                torch.autograd.grad(criterion(pred, insts)["inst_loss"], leaves)
                torch.cuda.synchronize(device)
                measured.append(1e3 * (time.perf_counter() - begin))
            medians.append(sorted(measured[2:])[repeats // 2])
        times[name] = (medians[0], medians[1])
    return times


def main(argv: list[str] | None = None) -> None:
    """Print the verdict as the last line, in JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("gpu", type=int, help="number of the GPU, as torch counts them")
    parser.add_argument("--times", action="store_true", help="also time a step")
    args = parser.parse_args(argv)
    device = torch.device("cuda", args.gpu)
    torch.cuda.set_device(device)
    found = try_all(device)
    if found.passed and args.times:
        found = found._replace(times=step_times(device))
    print(json.dumps(found._asdict()))


if __name__ == "__main__":
    main()
