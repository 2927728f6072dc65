"""The options of the loss of a set of queries, validated."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar, TypeVar

from influencer_mmdet3d.loss import losses
from influencer_mmdet3d.loss.kernels.choose import check_impl
from influencer_mmdet3d.loss.nonfinite import MODES

CLASS_COSTS = ("probability", "log_odds")
RECIPES: dict[str, dict[str, Any]] = {
    "nms_free": {"class_cost": "log_odds", "class_cost_weight": 2.0, "score_others": 1.0, "non_object_weight": 0.2}
}
"""Options that belong together, by name; an option that is given beside the recipe wins."""
Options = TypeVar("Options", bound="SetLossOptions")


@dataclass(frozen=True)
class SetLossOptions:
    """Options of `InfluencerSetLoss`; every one acts, and a wrong one raises ValueError.

    Attributes
    ----------
    num_classes : int
        C, instance classes without "no object": 13 for S3DIS, 18 for ScanNet.
    loss_weight : tuple of float
        Four weights: classification, mask BCE, mask Dice, score, in the host's order. The mask weights are also those
        of the assignment's cost.
    class_cost : str
        The class part of the assignment's cost: minus the 'probability' of the instance's class, or minus its
        'log_odds' against "no object", which still differ between queries that are all sure of the class. They
        outweigh the masks: use them where it is known which queries start inside an instance.
    class_cost_weight : float, optional
        Weight of that part; None for the weight of the classification loss. With a large weight, a query that was
        trained towards an instance's class keeps the instance, even where another query has a slightly better mask.
    non_object_weight : float
        Class weight of "no object" in the cross-entropy.
    score_others : float
        Weight of the mean squared score of queries that own no instance. Their target is 0, so that they rank last in
        a prediction without NMS. The score's loss weight is a factor of this term and of the own queries' error.
    attr_weight, rep_weight, bg_weight : float
        Weights of attraction (mask BCE and Dice), repulsion and background.
    rep_margin : float
        Influences that overlap by more than 1 - rep_margin repel; in [0, 1].
    temperature : float
        T of the softmax over queries, in units of the assignment's cost; > 0.
    soft_share : float
        Share of the attraction that all influential queries carry; the own query carries the rest.
    iter_matcher : bool
        Assign in every decoder layer; False lets the last layer's assignment serve every layer.
    form : str
        'influence', the one form of the loss that there is.
    impl : str
        'plain' (torch), 'triton' (fused GPU kernels), or 'auto' for the kernels where they can run and agree
        with 'plain', which is tried once for a GPU and versions.
    nonfinite : str
        What happens to a sample with outputs that are not finite: 'raise', or 'skip', which logs it and lets it count
        nothing; more than 20 steps in a row with such samples raise. To tell, 'skip' reads all outputs once more.
    """

    owner: ClassVar[str] = "InfluencerSetLoss"
    """The class that the user called, for messages."""

    num_classes: int
    loss_weight: tuple[float, float, float, float] = (0.5, 1.0, 1.0, 0.5)
    class_cost: str = "probability"
    class_cost_weight: float | None = None
    non_object_weight: float = 0.1
    score_others: float = 0.0
    attr_weight: float = losses.ATTR_WEIGHT
    rep_weight: float = losses.REP_WEIGHT
    bg_weight: float = losses.BG_WEIGHT
    rep_margin: float = losses.REP_MARGIN
    temperature: float = losses.TEMPERATURE
    soft_share: float = losses.SOFT_SHARE
    iter_matcher: bool = True
    form: str = "influence"
    impl: str = "auto"
    nonfinite: str = "raise"

    def __post_init__(self) -> None:
        if isinstance(self.num_classes, bool) or not isinstance(self.num_classes, int) or self.num_classes < 1:
            raise ValueError(f"num_classes must be a positive integer, got {self.num_classes!r}")
        weights = self.loss_weight
        if isinstance(weights, str) or not isinstance(weights, Iterable) or len(tuple(weights)) != 4:
            raise ValueError(f"loss_weight must hold 4 numbers [class, BCE, Dice, score], got {weights!r}")
        object.__setattr__(self, "loss_weight", tuple(number("loss_weight", w) for w in weights))
        for name in (
            "non_object_weight",
            "score_others",
            "attr_weight",
            "rep_weight",
            "bg_weight",
            "rep_margin",
            "soft_share",
        ):
            object.__setattr__(self, name, number(name, getattr(self, name)))
        if self.class_cost_weight is not None:
            object.__setattr__(self, "class_cost_weight", number("class_cost_weight", self.class_cost_weight))
        object.__setattr__(self, "temperature", number("temperature", self.temperature))
        if self.temperature == 0:
            raise ValueError("temperature must be > 0, got 0")
        if not isinstance(self.iter_matcher, bool):
            raise ValueError(f"iter_matcher must be True or False, got {self.iter_matcher!r}")
        if self.class_cost not in CLASS_COSTS:
            raise ValueError(f"class_cost must be one of {CLASS_COSTS}, got {self.class_cost!r}")
        losses.check_form(self.form)
        check_impl(self.impl)
        if self.nonfinite not in MODES:
            raise ValueError(f"nonfinite must be one of {MODES}, got {self.nonfinite!r}")
        if self.soft_share > 1:
            raise ValueError(f"soft_share must be in [0, 1], got {self.soft_share}")
        if self.rep_margin > 1:
            raise ValueError(
                f"rep_margin must be in [0, 1], got {self.rep_margin}; it bounds the overlap of two instances' shares, "
                "not a distance: rep_margin=1.0, the default, punishes any overlap and is what a larger one comes to"
            )

    @property
    def class_price(self) -> float:
        """`class_cost_weight`, or what stands for it."""
        return self.loss_weight[0] if self.class_cost_weight is None else self.class_cost_weight

    @classmethod
    def from_kwargs(cls: type[Options], *, recipe: str | None = None, **kwargs: Any) -> Options:
        """Build from keyword arguments, and name the known ones if one is unknown.

        `recipe` names a set of `RECIPES`; options that are given as well win over its own.
        """
        if recipe is not None:
            if recipe not in RECIPES:
                raise ValueError(f"{cls.owner}: recipe must be one of {tuple(RECIPES)}, got {recipe!r}")
            kwargs = {**RECIPES[recipe], **kwargs}
        known = ["recipe", *(field.name for field in fields(cls))]
        for name in kwargs:
            if name not in known:
                raise ValueError(f"{cls.owner}: unknown option {name!r}. {cls.advice(name, known)}")
        if "num_classes" not in kwargs:
            raise ValueError(f"{cls.owner}: num_classes is required, e.g. 13 for S3DIS, 18 for ScanNet")
        try:
            return cls(**kwargs)
        except ValueError as error:
            raise ValueError(f"{cls.owner}: {error}") from None

    @classmethod
    def advice(cls, name: str, known: list[str]) -> str:
        """Say what to write instead of an unknown option."""
        close = difflib.get_close_matches(name, known, n=1)
        return (f"Did you mean {close[0]!r}? " if close else "") + f"Known options: {', '.join(known)}."

    def changed(self: Options, name: str, value: Any) -> Options:
        """Return options with one of them changed; raises ValueError as `from_kwargs` does."""
        if name == "recipe":
            raise ValueError(f"{self.owner}: a recipe is chosen once, at the start; change its parts one by one")
        return self.from_kwargs(**{**asdict(self), name: value})


def number(name: str, value: Any) -> float:
    """Return a finite number >= 0 as float, or raise ValueError that names it."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < float("inf"):
        raise ValueError(f"{name} must be a finite number >= 0, got {value!r}")
    return float(value)
