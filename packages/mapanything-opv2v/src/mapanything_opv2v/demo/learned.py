"""What the demo says of its model: three figures on held-out towns, beside a constant and a partner of another town."""

from __future__ import annotations

from mapanything_opv2v.demo import tiny_model
from mapanything_opv2v.demo.tiny_model import Trained
from mapanything_opv2v.evaluation import baselines

JUDGED = (
    ("vehicle_rotation_deg", "heading of the partner", "{:.1f} degrees", True),
    ("vehicle_translation_m", "position of the partner", "{:.2f} m", True),
    ("depth_relative", "range, mean relative error", "{:.3f}", False),
)
"""Name of a figure, what it is, its form, and whether a partner of another town has to make it worse."""

BETTER, NOT_BETTER = "better than the constant", "not better than the constant"


def verdicts(trained: Trained) -> list[tuple[str, str]]:
    """Return a label and a plain sentence for heading, position and range; means over the same pairs."""
    beside = trained.summary["baselines"][baselines.CONSTANT]
    if "figures" not in beside:
        raise ValueError(f"the demo's model has no constant beside it: {beside['missing']}")
    told = []
    for name, label, form, needs_partner in JUDGED:
        figure = beside["figures"][name]
        text = f"{form.format(figure['model'])}, a constant that sees no image {form.format(figure['baseline'])}"
        if needs_partner:
            text += (
                f", with images of a partner of another town {form.format(trained.strangers['figures'][name]['mean'])}"
            )
        told.append((label, f"{text}: {BETTER if figure['better'] else NOT_BETTER}"))
    return told


def about(trained: Trained) -> str:
    """Return what was trained and what it is judged on."""
    width, height = tiny_model.SIZE_WH
    start = tiny_model.START_EPOCHS * tiny_model.START_STEPS
    dense = tiny_model.DENSE_EPOCHS * tiny_model.DENSE_STEPS
    return (
        f"The tiny model, without pretrained weights, on {tiny_model.TOWNS['train']} drawn towns: {start} steps of a "
        f"start (+experiment=opv2v_start), {dense} steps of all heads for ranges, {trained.seconds:.0f} s in all. "
        f"Judged on {trained.summary['frames']} pairs of vehicles at most {tiny_model.NEAR_M:.0f} m apart, of "
        f"{tiny_model.TOWNS['test']} towns that it never saw, at any heading. It sees two panoramas of "
        f"{width} x {height} pixels and their rays, which are the same for all; no pose, no depth. The constant is the "
        "best one for pairs of the training towns at most as far apart. A model that does better than the constant, "
        "and worse with the images of a partner of another town, has found its partner in the images. Such a model is "
        "far too small for more: its figures say nothing about MapAnything."
    )
