"""A start for the trainings of learn_towns.py: where is the other vehicle, before anything else is asked.

From random weights the package's trainings stay at "no movement, no turn" (docs, results). This script trains the same
MapAnything, without its dense head, on pairs of panoramas from learn_towns_cast.py and writes weights that a training
takes with `model.pretrained`:

- both poses through the host's pose head, by losses that grow with the error (the package's grow with its root);
- from every patch of both views, by one linear layer that is thrown away, where its middle stands in view 0's axes;
- near pairs and panoramas turned against themselves first, farther ones with the steps or as near ones are mastered.

    python learn_towns_start.py '{"cast": ..., "validate": ..., "out": "start.pth", "seconds": 400}' +experiment=...
"""

from __future__ import annotations

import json
import math
import os
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import learn_towns_fast
import numpy as np
import torch
from learn_towns_pack import Pack, Views, angles, matrices
from learn_towns_pairs import Pairs, Widening, batch
from mapanything_opv2v.losses import FARTHEST_M, UNIT_M, movement_loss, points_loss, turn_loss
from torch.nn import functional as F

KEPT_EVERY_S = 40
"""Seconds after which a training that is stopped can be taken up."""

WATCHED = 256
"""Pairs of each kind that the errors are told for."""


@dataclass(frozen=True)
class Plan:
    """How the start is trained; the script's first argument has these names.

    `mastered`: pairs widen only while the loss of movements is below this part of what "no movement" has, and over
    the middle of the training in any case. Without it they widen by steps.

    `bent`: movements are compared by direction and logarithm, as points are. `root`: poses by the package's loss, which
    grows with the root of an error.
    """

    cast: str
    validate: str
    out: str
    seconds: float
    seed: int = 0
    test: str = ""
    batch: int = 64
    lr: float = 7e-4
    warm_up: int = 300
    decay: float = 0.05
    near_m: float = 8.0
    far_m: float = 40.0
    widen_steps: int = 1500
    mastered: float | None = 0.6
    same: float = 0.4
    points: float = 1.0
    bent: bool = True
    root: bool = False
    gain: float = 0.2
    every: int = 250
    steps: int | None = None
    towns: int | None = None
    compiled: bool = True


class PoseFirst(torch.nn.Module):
    """The host's model up to its pose head, and a layer that tells each patch's middle in view 0's axes."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        self.points = torch.nn.Linear(model.info_sharing.dim, 3)

    def forward(self, views: Views) -> tuple[Sequence[torch.Tensor], Sequence[torch.Tensor]]:
        """Return the pose head's 7 numbers (B, 7) and points (B, h, w, 3) of each view."""
        from uniception.models.info_sharing.base import MultiViewTransformerInput
        from uniception.models.prediction_heads.base import PredictionHeadInput

        model, kind = self.model, views[0]["img"].device.type
        features, registers = model._encode_n_views(views)
        with torch.autocast(kind, enabled=False):
            fused = model._encode_and_fuse_optional_geometric_inputs(views, [part.float() for part in features])
        shared, _ = model.info_sharing(
            MultiViewTransformerInput(
                features=list(fused),
                additional_input_tokens_per_view=registers,
                additional_input_tokens=model.scale_token[None, :, None].repeat(len(views[0]["img"]), 1, 1),
            )
        )
        with torch.autocast(kind, enabled=False):
            last = torch.cat(shared.features).float()
            pose = model.pose_head(PredictionHeadInput(last_feature=last)).decoded_channels
            points = self.points(last.permute(0, 2, 3, 1))
        return pose.chunk(len(views)), points.chunk(len(views))


def truth(views: Views, patch: int) -> tuple[list[torch.Tensor], list[torch.Tensor], list[torch.Tensor]]:
    """Return for each view the pose (B, 4, 4), points of patches (B, h, w, 3) in view 0's axes, which are known."""
    middle = slice(patch // 2, None, patch)
    home = torch.linalg.inv_ex(views[0]["camera_pose"].double())[0]  # waits for no answer of the GPU
    poses, points, known = [], [], []
    for view in views:
        pose = (home @ view["camera_pose"].double()).float()
        local = view["pts3d_cam"][:, middle, middle]
        poses.append(pose)
        points.append(torch.einsum("bij,bhwj->bhwi", pose[:, :3, :3], local) + pose[:, None, None, :3, 3])
        away = view["depth_along_ray"][:, middle, middle, 0]
        known.append((away > 0) & (away < FARTHEST_M))
    return poses, points, known


def turn_term(raw: torch.Tensor, pose: torch.Tensor, plan: Plan) -> torch.Tensor:
    """Return the loss of the turn of one view: said (B, 7), true (B, 4, 4)."""
    said, true = matrices(raw[:, 3:]), pose[:, :3, :3]
    if plan.root:  # a turn by an angle: 8 sin^2 of its half; quaternions are apart by 2 sin of its quarter
        turned = ((said - true) ** 2).sum(dim=(1, 2))
        return root(2 * (1 - (1 - turned / 8).clamp_min(1e-9).sqrt())).mean()
    return turn_loss(said, true)


def movement_term(said: torch.Tensor, pose: torch.Tensor, plan: Plan) -> torch.Tensor:
    """Return the loss of the movement of one view: said (B, 3), in units, true (B, 4, 4)."""
    moved = pose[:, :3, 3]
    if plan.root:
        return root(((said - moved / UNIT_M) ** 2).sum(dim=1)).mean()
    if plan.bent:
        return movement_loss(said * UNIT_M, moved)
    return 3 * F.smooth_l1_loss(said, moved / UNIT_M, beta=0.1)


def root(squared: torch.Tensor) -> torch.Tensor:
    """Return MapAnything's robust loss (alpha 0.5, scale 0.05) of squared distances."""
    return 3 * ((squared / 0.05**2 / 1.5 + 1) ** 0.25 - 1)


def terms(net: PoseFirst, views: Views, patch: int, plan: Plan) -> dict[str, torch.Tensor]:
    """Return the losses, summed over the views: turn, movement, points, and `still`, what "no movement" would have."""
    said, said_points = net(views)
    poses, points, known = truth(views, patch)
    found = {name: torch.zeros((), device=said[0].device) for name in ("turn", "movement", "points", "still")}
    for pose, raw, where, told, there in zip(poses, said, points, said_points, known):
        found["turn"] = found["turn"] + turn_term(raw, pose, plan)
        found["movement"] = found["movement"] + movement_term(raw[:, :3], pose, plan)
        found["still"] = found["still"] + movement_term(torch.zeros_like(raw[:, :3]), pose, plan)
        found["points"] = found["points"] + points_loss(told, where, there)
    return found


@torch.no_grad()
def errors(
    net: PoseFirst, pairs: Pairs, rows: np.ndarray, columns: torch.Tensor | None, stranger: int | None = None
) -> dict[str, float]:
    """Return mean and median errors of the second vehicle's pose, and what "no movement, no turn" would have."""
    found: dict[str, list[torch.Tensor]] = {name: [] for name in ("m", "constant_m", "deg", "constant_deg")}
    for first in range(0, len(rows), 64):
        part = slice(first, first + 64)
        views = pairs.pack.views(rows[part], None if columns is None else columns[part])
        given = views
        if stranger is not None:
            other = pairs.pack.views(np.array([[stranger]]))[0]
            given = [views[0], {**views[1], "img": other["img"]}]
        with torch.autocast(pairs.pack.device, torch.bfloat16, enabled=pairs.pack.device == "cuda"):
            said, _ = net(given)
        pose = torch.linalg.inv(views[0]["camera_pose"].double()) @ views[1]["camera_pose"].double()
        found["m"].append((said[1][:, :3] * UNIT_M - pose[:, :3, 3]).norm(dim=-1))
        found["constant_m"].append(pose[:, :3, 3].norm(dim=-1))
        found["deg"].append(angles(matrices(said[1][:, 3:].double()).transpose(1, 2) @ pose[:, :3, :3]))
        found["constant_deg"].append(angles(pose[:, :3, :3]))
    values = {name: torch.cat(parts) for name, parts in found.items()}
    told = {name: float(value.mean()) for name, value in values.items()}
    told |= {f"median_{name}": float(values[name].median()) for name in ("m", "deg")}
    return {name: round(value, 3) for name, value in told.items()}


def judged(net: PoseFirst, held_out: Pack) -> list[dict[str, Any]]:
    """Return the errors for every pair that learn_towns_judge.py takes, and with the partner of another town."""
    from learn_towns_judge import chosen, strangers

    net.eval()
    rows, told = chosen(held_out), []
    pairs = Pairs(held_out, math.inf)
    wrong = strangers(held_out, rows)
    for number, pair in enumerate(rows):
        line: dict[str, Any] = {"town": held_out.town_of[pair[0]]}
        for variant, seen in (("trained", None), ("shuffled", wrong[number])):
            told.append({"variant": variant, **line, **figures(net, pairs, pair, seen)})
        told.append({"variant": "constant", **line, "distance_m": told[-1]["distance_m"]})
        told[-1] |= {"translation_m": told[-2]["constant_m"], "rotation_deg": told[-2]["constant_deg"]}
    return told


def figures(net: PoseFirst, pairs: Pairs, pair: np.ndarray, stranger: int | None) -> dict[str, float]:
    """Return the errors of one pair, with the images of another partner if there is one."""
    found = errors(net, pairs, pair[None], None, stranger)
    return {
        "distance_m": found["constant_m"], "translation_m": found["m"], "rotation_deg": found["deg"],
        "constant_m": found["constant_m"], "constant_deg": found["constant_deg"],
    }  # fmt: skip


def watched(train: Pairs, validate: Pairs) -> dict[str, tuple[Pairs, np.ndarray, torch.Tensor]]:
    """Return the pairs that errors are told for: training ones, and held-out built panoramas near and farther."""
    rng, found = np.random.default_rng(5), {}
    for name, pairs, least, most in (("train", train, 5, 40), ("near", validate, 5, 15), ("far", validate, 15, 40)):
        rows = pairs.draw(rng, WATCHED, least, most)
        found[name] = pairs, rows, torch.from_numpy(rng.integers(0, pairs.pack.color.shape[3], rows.shape))
    return found


def build(words: Sequence[str]) -> tuple[Any, int]:
    """Return the model of Hydra overrides, with random weights, and its patch size."""
    import mapanything.train.training  # noqa: F401  (the package's configs are found once this is there)
    from hydra import compose, initialize_config_dir
    from mapanything.models import init_model

    words = [word for word in words if not word.startswith("hydra.")]
    with initialize_config_dir(str(Path(os.environ["MAPANYTHING_ROOT"]) / "configs"), version_base=None):
        config = compose("train", overrides=words)
    model = init_model(config.model.model_str, config.model.model_config)
    return model, int(config.model.encoder.patch_size)


def optimizer(net: PoseFirst, plan: Plan) -> torch.optim.Optimizer:
    """Return AdamW that leaves norms and biases alone."""
    groups = [
        {"params": [p for p in net.parameters() if p.ndim > 1], "weight_decay": plan.decay},
        {"params": [p for p in net.parameters() if p.ndim <= 1], "weight_decay": 0.0},
    ]
    fused = next(net.parameters()).is_cuda
    return torch.optim.AdamW(groups, lr=plan.lr, betas=(0.9, 0.95), fused=fused)


def train(plan: Plan, words: Sequence[str]) -> None:
    """Train until the seconds are over, and write the weights."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.set_float32_matmul_precision("high")
    torch.manual_seed(plan.seed)
    model, patch = build(words)
    torch.nn.init.constant_(model.scale_head.output_proj.bias, math.log(UNIT_M))  # for the training that goes on
    net = PoseFirst(model).to(device)
    pairs = Pairs(Pack(Path(plan.cast), device, plan.towns), plan.far_m)
    told = watched(pairs, Pairs(Pack(Path(plan.validate), device), 40.0))
    steps, log = optimizer(net, plan), Path(plan.out).with_suffix(".jsonl").open("a")
    print(f"{len(pairs.pack.labels)} views, {len(pairs.rows)} pairs", flush=True)
    step, before, widened = resume(net, steps, plan, device)
    widening = Widening(plan, widened)
    rng = np.random.default_rng([plan.seed, step])
    if plan.compiled and device == "cuda":
        learn_towns_fast.compile_parts(
            model, lambda: backward(net, batch(pairs, plan, 0.0, np.random.default_rng(0)), patch, plan)
        )
    began, kept, told_to_stop = time.monotonic(), time.monotonic(), []
    signal.signal(signal.SIGTERM, lambda *_: told_to_stop.append(True))
    while (done := progress(step, now := before + time.monotonic() - began, plan)) < 1 and not told_to_stop:
        for group in steps.param_groups:
            falling = 0.51 + 0.49 * math.cos(math.pi * done)
            group["lr"] = plan.lr * min(1, (step + 1) / plan.warm_up) * falling
        losses = backward(net, batch(pairs, plan, widening.at, rng), patch, plan)
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        steps.step()
        step += 1
        widening.after(step, done, losses)
        if step % plan.every == 0:
            values = {name: round(float(value.detach()), 4) for name, value in losses.items()}
            tell(net, told, log, {"step": step, "seconds": round(now, 1), "widened": round(widening.at, 3), **values})
        if time.monotonic() - kept > KEPT_EVERY_S or told_to_stop:
            kept = time.monotonic()
            at = (step, now, widening.at)
            keep({"net": net.state_dict(), "steps": steps.state_dict(), "at": at}, unfinished(plan))
    if told_to_stop:
        return
    tell(net, told, log, {"step": step, "seconds": round(now, 1), "end": True})
    keep({"model": net.model.state_dict(), "steps": step}, Path(plan.out))
    if plan.test:
        with learn_towns_fast.as_written():
            rows = judged(net, Pack(Path(plan.test), device))
        Path(plan.out).with_suffix(".judged.json").write_text(json.dumps(rows))
    unfinished(plan).unlink(missing_ok=True)


def progress(step: int, seconds: float, plan: Plan) -> float:
    """Return which part of the start is done: by steps if the plan has them, else by seconds."""
    return step / plan.steps if plan.steps else seconds / plan.seconds


def backward(net: PoseFirst, views: Views, patch: int, plan: Plan) -> dict[str, torch.Tensor]:
    """Leave the gradients of a batch in the parameters; return its losses."""
    net.zero_grad(set_to_none=True)
    kind = views[0]["img"].device.type
    with torch.autocast(kind, torch.bfloat16, enabled=kind == "cuda"):
        losses = terms(net, views, patch, plan)
    (losses["turn"] + losses["movement"] + plan.points * losses["points"]).backward()
    return losses


def unfinished(plan: Plan) -> Path:
    """Return where a training that is stopped is kept."""
    return Path(plan.out).with_suffix(".unfinished.pth")


def keep(what: dict[str, Any], path: Path) -> None:
    """Write a file as a whole."""
    torch.save(what, path.with_suffix(".part"))
    path.with_suffix(".part").replace(path)


def resume(net: PoseFirst, steps: torch.optim.Optimizer, plan: Plan, device: str) -> tuple[int, float, float]:
    """Take up a training that was stopped; return its steps and seconds, and how far pairs have widened."""
    if not unfinished(plan).is_file():
        return 0, 0.0, 0.0 if plan.mastered is not None or plan.widen_steps else 1.0
    found = torch.load(unfinished(plan), map_location=device, weights_only=True)
    net.load_state_dict(found["net"])
    steps.load_state_dict(found["steps"])
    return found["at"]


def tell(net: PoseFirst, told: dict[str, Any], log: Any, line: dict[str, Any]) -> None:
    """Write a line of errors."""
    net.eval()
    with learn_towns_fast.as_written():
        line |= {name: errors(net, *what) for name, what in told.items()}
    net.train()
    log.write(json.dumps(line) + "\n")
    log.flush()
    print(json.dumps(line), flush=True)


def main(argv: Sequence[str]) -> int:
    """Train the start that the first argument describes, for a model of the Hydra overrides that follow."""
    from mapanything_opv2v.host import torchvision_ops

    torchvision_ops.define_missing()
    train(Plan(**json.loads(argv[0])), argv[1:])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
