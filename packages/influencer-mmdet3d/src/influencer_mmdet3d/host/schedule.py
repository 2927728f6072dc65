"""`InfluencerScheduleHook`: ramps of the criterion's options during training."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from mmengine.hooks import Hook

CURVES = ("linear", "cosine")


@dataclass(frozen=True)
class Ramp:
    """One option's way from `start` to `stop`.

    Attributes
    ----------
    option : str
        Name of a scalar option of the criterion, e.g. 'bg_weight' or 'temperature'.
    start, stop : float
        Values up to `begin` and from `end` on.
    begin, end : int
        First and last step of the ramp, in epochs or iterations counted from 0; end > begin >= 0.
    by_epoch : bool
        Count epochs (True) or iterations.
    curve : str
        'linear', or 'cosine' (half a cosine, flat at both ends).
    """

    option: str
    start: float
    stop: float
    end: int
    begin: int = 0
    by_epoch: bool = True
    curve: str = "linear"

    def __post_init__(self) -> None:
        if not 0 <= self.begin < self.end:
            raise ValueError(f"ramp of {self.option}: need 0 <= begin < end, got {self.begin} and {self.end}")
        if self.curve not in CURVES:
            raise ValueError(f"ramp of {self.option}: curve must be one of {CURVES}, got {self.curve!r}")

    def value(self, step: int) -> float:
        """Return the option's value at a step (epoch or iteration)."""
        share = min(max((step - self.begin) / (self.end - self.begin), 0.0), 1.0)
        if self.curve == "cosine":
            share = (1 - math.cos(math.pi * share)) / 2
        return self.start + (self.stop - self.start) * share


class InfluencerScheduleHook(Hook):
    """Change scalar options of `InfluencerCriterion` while training.

    The value follows from the runner's epoch or iteration alone, so a resumed run continues where it stopped and all
    processes of a distributed run agree. Each value is logged as the scalar `influencer/<option>`.

    Parameters
    ----------
    ramps : sequence of dict
        Keyword arguments of `Ramp`, one dict for each option.
    criterion : str
        Attribute path from the model to the criterion, in the host `criterion.inst_criterion`.

    Raises
    ------
    ValueError
        For an unknown key or option, an option that is no number, two ramps of one option, or a wrong path (when
        training starts).

    Examples
    --------
    >>> hook = InfluencerScheduleHook([dict(option="temperature", start=0.1, stop=0.03, end=64)])
    """

    priority = "NORMAL"

    def __init__(self, ramps: Sequence[Mapping[str, Any]], criterion: str = "criterion.inst_criterion") -> None:
        known = {field.name for field in fields(Ramp)}
        for ramp in ramps:
            if unknown := set(ramp) - known:
                raise ValueError(f"InfluencerScheduleHook: unknown keys {sorted(unknown)}, known: {sorted(known)}")
            if missing := {"option", "start", "stop", "end"} - set(ramp):
                raise ValueError(f"InfluencerScheduleHook: ramp {dict(ramp)} lacks {sorted(missing)}")
        self.ramps = tuple(Ramp(**ramp) for ramp in ramps)
        options = [ramp.option for ramp in self.ramps]
        if len(set(options)) < len(options):
            raise ValueError(f"InfluencerScheduleHook: two ramps of one option in {options}")
        self.path = criterion

    def before_train(self, runner: Any) -> None:
        """Check the ramps against the criterion before the first step."""
        criterion = self._criterion(runner)
        for ramp in self.ramps:
            current = getattr(criterion.options, ramp.option, None)
            if not isinstance(current, (int, float)) or isinstance(current, bool) or ramp.option == "num_classes":
                raise ValueError(f"InfluencerScheduleHook: {ramp.option!r} is not a scalar option of the criterion")
            for value in (ramp.start, ramp.stop):
                criterion.set_option(ramp.option, value)
        self._apply(runner)

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        """Set and log the values of this step."""
        self._apply(runner)

    def _apply(self, runner: Any) -> None:
        criterion = self._criterion(runner)
        for ramp in self.ramps:
            value = ramp.value(runner.epoch if ramp.by_epoch else runner.iter)
            if getattr(criterion.options, ramp.option) != value:
                criterion.set_option(ramp.option, value)
            runner.message_hub.update_scalar(f"train/influencer/{ramp.option}", value)

    def _criterion(self, runner: Any) -> Any:
        holder = getattr(runner.model, "module", runner.model)  # DDP wraps the model
        for name in self.path.split("."):
            holder = getattr(holder, name, None)
            if holder is None:
                raise ValueError(f"InfluencerScheduleHook: the model has no {self.path} (stopped at {name!r})")
        if not hasattr(holder, "set_option"):
            raise ValueError(
                f"InfluencerScheduleHook: {self.path} is a {type(holder).__name__}, not InfluencerCriterion"
            )
        return holder
