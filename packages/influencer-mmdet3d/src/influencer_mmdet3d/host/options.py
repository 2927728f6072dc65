"""The options of the criterion in a config: those of the loss, and what belongs to the host and its users."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from mmengine.logging import print_log

from influencer_mmdet3d.loss import losses
from influencer_mmdet3d.loss.options import RECIPES, SetLossOptions, number

__all__ = ["RECIPES", "CriterionOptions"]


@dataclass(frozen=True)
class CriterionOptions(SetLossOptions):
    """Options of `InfluencerCriterion`: those of `influencer_mmdet3d.loss.options.SetLossOptions`, and one more.

    Attributes
    ----------
    pilot_weight : float
        Weight of the loss of denoising queries beside that of all others, where the decoder makes any.
    """

    owner: ClassVar[str] = "InfluencerCriterion"

    pilot_weight: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "pilot_weight", number("pilot_weight", self.pilot_weight))

    @classmethod
    def from_kwargs(cls, *, recipe: str | None = None, **kwargs: Any) -> CriterionOptions:
        """Build from a config's keys; `loss_weight=[class, scale]` of the research notes is understood, too."""
        return super().from_kwargs(recipe=recipe, **_two_weights(kwargs))

    @classmethod
    def advice(cls, name: str, known: list[str]) -> str:
        """Say what to write instead of an unknown option, the host's own among them."""
        if name == "matcher":
            return (
                "It belongs to the host's InstanceCriterion and leaks in from the base config: "
                "write inst_criterion=dict(_delete_=True, type='InfluencerCriterion', ...)."
            )
        return super().advice(name, known)


def _two_weights(kwargs: dict[str, Any]) -> dict[str, Any]:
    """Turn `loss_weight=[class, scale]`, as the research notes write it, into the options that do the same."""
    given = kwargs.get("loss_weight")
    if not isinstance(given, (list, tuple)) or len(given) != 2:
        return kwargs
    weight, scale = (number("loss_weight", value) for value in given)
    names = {"attr_weight": losses.ATTR_WEIGHT, "rep_weight": losses.REP_WEIGHT, "bg_weight": losses.BG_WEIGHT}
    scaled = {name: scale * number(name, kwargs.get(name, default)) for name, default in names.items()}
    _, bce, dice, score = CriterionOptions.loss_weight
    mapped = {**kwargs, **scaled, "loss_weight": [weight, bce, dice, score]}
    told = ", ".join(f"{name}={mapped[name]}" for name in ("loss_weight", *scaled))
    print_log(
        f"InfluencerCriterion: loss_weight={list(given)} is read as [class, scale of the influencer loss]: {told}",
        "current",
    )
    return mapped
