"""The criteria of the comparison by name: a new one is an entry of `CRITERIA`.

On the command line options of an entry are changed as in ``influence:non_object_weight=0.2,temperature=0.05``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

_OWN_QUERIES = {
    "non_object_weight", "score_others", "score_all", "contrast", "pilots", "pilot_noise", "outside_cost", "central",
    "everyone", "crowding", "compete", "class_cost", "odds", "non_object_stop", "groups", "groups_until",
    "groups_last", "soft_targets", "modulated", "many", "many_decay",
}  # fmt: skip
_INFLUENCE = {"temperature", "soft_share", "rep_weight"}
ACTS = {
    "package": {
        "non_object_weight",
        "query_masks",
        "class_cost",
        "score_others",
        "odds",
        "groups",
        "groups_until",
        "groups_last",
        "pilots",
        "pilot_noise",
    }
    | _INFLUENCE,
    "geomean": {"non_object_weight", "temperature", "rep_weight"},
    "influence": _OWN_QUERIES | _INFLUENCE | {"query_masks", "temperature_stop", "temperature_last_layer", "rounds"},
    "hungarian": _OWN_QUERIES,
    "sparse": _OWN_QUERIES - {"outside_cost"},
    "sinkhorn": {"non_object_weight", "temperature", "rounds", "pilots", "pilot_noise", "score_others", "class_cost"},
}
"""Forms, and the options that act in each; any other option that is changed raises."""


@dataclass(frozen=True)
class Recipe:
    """One criterion; loss weights are those of the settings, for every recipe.

    Attributes
    ----------
    form : str
        'package' is `InfluencerCriterion` itself, 'geomean' is `GeomeanCriterion`; 'influence' is the package's loss on
        padded tensors, open for additions; 'hungarian' is one query for each instance by linear assignment; 'sparse'
        is the cheapest query that starts inside the instance; 'sinkhorn' is soft: the transport plan weighs masks,
        classes and scores.
    non_object_weight : float
        Class weight of "no object"; the host's value for S3DIS.
    non_object_stop : float, optional
        Ramp of `non_object_weight` to this value at the last step, geometric: instances are found first, then told
        apart.
    temperature, soft_share, rep_weight : float
        As in `InfluencerCriterion`; for 'sinkhorn' temperature is the weight of the entropy.
    temperature_stop, temperature_last_layer : float, optional
        Ramp of the temperature to this value at the last step, or over the layers to the last one; geometric.
    rounds : int
        Sinkhorn rounds; for 'influence' 0 means softmax over queries alone.
    query_masks : bool
        Only queries that start inside an instance may answer for it, where there are any.
    outside_cost : float
        Added to the cost of queries that start outside the instance: `query_masks` as a preference.
    score_others : float
        Weight of the squared scores of queries without an instance: their target is 0.
    score_all : bool
        Train the scores of all queries to the largest soft IoU with any instance.
    contrast : float
        Weight of softplus(1 + other - own) over queries that repeat an instance (soft IoU over 0.5), in log-odds of
        its class against "no object".
    pilots : float
        Weight of the losses of denoising queries, one for each instance, see `network.draw_pilots`.
    pilot_noise : float
        Share of a pilot's mask that is wrong.
    central : float
        Added to the cost, times the distance of a query's start from the instance's middle in mean radii (at most 2):
        which of the queries inside is the own one, the network can then tell from where they start.
    everyone : float
        Weight of the mask cost of every query for the instance that it owns or else starts in, mean over queries: all
        masks learn from the first step, whoever is matched; class and score alone say which query stands for it.
    crowding : float
        Weight of the number of object queries on an instance beyond one, each counted by its soft IoU.
    compete : float
        Weight of the cross-entropy between own queries over points: a point belongs to one instance, which the sum of
        separate binary losses says only weakly where instances of one class touch.
    class_cost : float
        Weight of minus the class probability in the cost; the host's value. The larger, the more a query that stands
        for an instance already goes on to do so.
    odds : bool
        The class part of the cost is `class_cost` times the log-odds of the class against "no object" instead of its
        probability, which hardly differs between queries that all pass for an object: the one that is believed most
        keeps the instance, so that the network's own belief says which of several it will be.
    groups : int
        Query sets in training, each from other starts, attending to itself alone and supervised by itself (Group DETR,
        Chen et al. 2023); the first one predicts.
    groups_until : float
        Share of the training after which the first set goes on alone.
    groups_last : int, optional
        Query sets at the end of the training: their number grows or shrinks to it, linearly.
    soft_targets : float
        Power of the soft IoU that is the class target of an own query, the rest being "no object" (Stable-DINO, Liu et
        al. 2023); 0 for a target of 1.
    modulated : float
        Power of the soft IoU that the class probability is multiplied by in the cost (Stable-DINO); 0 for none.
    many : int
        Queries of an instance in one further set, which has a self-attention of its own (MR. DETR, Zhang et al. 2024):
        in every layer but the last, the cheapest ones answer for it together; 0 for no such set.
    many_decay : float
        Their weights are exp(-many_decay rank), rank 0 for the cheapest (Align-DETR, Cai et al. 2023).
    """

    form: str
    non_object_weight: float = 0.05
    temperature: float = 0.03
    soft_share: float = 0.2
    rep_weight: float = 0.1
    temperature_stop: float | None = None
    temperature_last_layer: float | None = None
    rounds: int = 0
    query_masks: bool = False
    outside_cost: float = 0.0
    score_others: float = 0.0
    score_all: bool = False
    contrast: float = 0.0
    pilots: float = 0.0
    pilot_noise: float = 0.2
    central: float = 0.0
    everyone: float = 0.0
    crowding: float = 0.0
    compete: float = 0.0
    class_cost: float = 0.5
    odds: bool = False
    non_object_stop: float | None = None
    groups: int = 1
    groups_until: float = 1.0
    groups_last: int | None = None
    soft_targets: float = 0.0
    modulated: float = 0.0
    many: int = 0
    many_decay: float = 0.5

    def __post_init__(self) -> None:
        if self.form not in ACTS:
            raise ValueError(f"form must be one of {sorted(ACTS)}, got {self.form!r}")
        for field in dataclasses.fields(self):
            changed = getattr(self, field.name) != field.default
            if field.name != "form" and changed and field.name not in ACTS[self.form]:
                raise ValueError(
                    f"{field.name} does nothing in form {self.form!r}; what acts: {sorted(ACTS[self.form])}"
                )
        for name in ("temperature", "temperature_stop", "temperature_last_layer"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name} must be > 0, got {value}")
        if self.non_object_stop is not None and not min(self.non_object_weight, self.non_object_stop) > 0:
            raise ValueError(
                f"a ramp to non_object_stop needs weights > 0, got {self.non_object_weight} to {self.non_object_stop}"
            )
        if self.temperature_stop is not None and self.temperature_last_layer is not None:
            raise ValueError("temperature_stop and temperature_last_layer exclude each other")
        if self.form == "sinkhorn" and self.rounds < 1:
            raise ValueError(f"sinkhorn needs at least one round, got {self.rounds}")
        if self.score_all and self.score_others:
            raise ValueError("score_all and score_others exclude each other")
        if self.groups < 1:
            raise ValueError(f"groups must be at least 1, got {self.groups}")
        if not 0 < self.groups_until <= 1:
            raise ValueError(f"groups_until must be in (0, 1], got {self.groups_until}")
        if self.groups_last is not None and self.groups_last < 1:
            raise ValueError(f"groups_last must be at least 1, got {self.groups_last}")
        if self.groups_last is not None and self.groups_until != 1:
            raise ValueError("groups_last and groups_until exclude each other")
        if self.soft_targets < 0 or self.modulated < 0:
            raise ValueError(
                f"soft_targets and modulated must not be negative, got {self.soft_targets} and {self.modulated}"
            )
        if self.many < 0 or self.many_decay < 0:
            raise ValueError(f"many and many_decay must not be negative, got {self.many} and {self.many_decay}")
        if not 0 <= self.pilot_noise < 1:
            raise ValueError(f"pilot_noise must be in [0, 1), got {self.pilot_noise}")

    def sets(self, progress: float) -> int:
        """Return the number of query sets after a share of the training, without that of `many`."""
        if self.groups_last is not None:
            return round(self.groups + (self.groups_last - self.groups) * progress)
        return self.groups if progress < self.groups_until else 1

    def changed(self) -> dict[str, str | float | bool]:
        """Return the form and every option that is not at its default: cells stay valid when an option is added."""
        default = {field.name: field.default for field in dataclasses.fields(self)}
        return {name: value for name, value in dataclasses.asdict(self).items() if value != default[name]}


_BASE = Recipe("influence")
_HUNGARIAN = Recipe("hungarian")
_EVERYONE = Recipe("influence", query_masks=True, everyone=1.0)
_UNIQUE: dict[str, Any] = {"non_object_weight": 0.2, "score_others": 1.0, "contrast": 0.5}
"""What tells the one query of an instance from its duplicates."""
_BELIEF: dict[str, Any] = {"class_cost": 2.0, "odds": True, "score_others": 1.0, "non_object_weight": 0.2}
"""What `_UNIQUE` is for, by the network's own belief: whom it takes for the object goes on to own the instance."""

CRITERIA = {
    # competitors
    "hungarian": _HUNGARIAN,
    "sparse": Recipe("sparse"),
    "sinkhorn": Recipe("sinkhorn", rounds=10),
    "geomean": Recipe("geomean", temperature=1.0),
    "influence": _BASE,
    "influence-package": Recipe("package"),  # the same loss by the package itself, for its time
    # what the package ships: the rule of the start, the recipe that predicts without NMS, denoising; add :groups=G
    "package-inside": Recipe("package", query_masks=True),
    "package-nms-free": Recipe("package", query_masks=True, **_BELIEF),
    "package-inside-pilots": Recipe("package", query_masks=True, pilots=1.0),
    "package-nms-free-pilots": Recipe("package", query_masks=True, pilots=1.0, **_BELIEF),
    # the weight of "no object", for both: duplicates are what AP without NMS loses
    **{f"influence-no{w}": dataclasses.replace(_BASE, non_object_weight=w) for w in (0.1, 0.2, 0.5, 1.0)},
    **{f"hungarian-no{w}": dataclasses.replace(_HUNGARIAN, non_object_weight=w) for w in (0.1, 0.2, 0.5, 1.0)},
    # denoising queries, and contrast between the queries of one instance
    "influence-pilots": dataclasses.replace(_BASE, pilots=1.0),
    "influence-contrast": dataclasses.replace(_BASE, contrast=0.5),
    "hungarian-pilots": dataclasses.replace(_HUNGARIAN, pilots=1.0),
    "hungarian-contrast": dataclasses.replace(_HUNGARIAN, contrast=0.5),
    # temperature by step and by layer
    "influence-cooling": dataclasses.replace(_BASE, temperature=0.1, temperature_stop=0.03),
    "influence-warming": dataclasses.replace(_BASE, temperature=0.02, temperature_stop=0.05),
    "influence-sharp-last": dataclasses.replace(_BASE, temperature=0.1, temperature_last_layer=0.02),
    # normalised over queries and instances
    "influence-rounds": dataclasses.replace(_BASE, rounds=3),
    # scores of all queries
    "influence-score-others": dataclasses.replace(_BASE, score_others=1.0),
    "influence-score-all": dataclasses.replace(_BASE, score_all=True),
    "hungarian-score-others": dataclasses.replace(_HUNGARIAN, score_others=1.0),
    # one query for each instance, nothing soft
    "influence-hard": dataclasses.replace(_BASE, soft_share=0.0),
    # queries know where they start: the assignment is right before the masks are
    "influence-inside": dataclasses.replace(_BASE, query_masks=True),
    "influence-near": dataclasses.replace(_BASE, outside_cost=1.0),
    "hungarian-near": dataclasses.replace(_HUNGARIAN, outside_cost=1.0),
    "influence-central": dataclasses.replace(_BASE, query_masks=True, central=0.5),
    "hungarian-central": dataclasses.replace(_HUNGARIAN, outside_cost=1.0, central=0.5),
    # of the queries inside, the one that is believed most
    "influence-belief": dataclasses.replace(_BASE, query_masks=True, **_BELIEF),
    "hungarian-belief": dataclasses.replace(_HUNGARIAN, outside_cost=100.0, **_BELIEF),
    # masks for all queries, class and score for one
    "influence-everyone": dataclasses.replace(_BASE, query_masks=True, everyone=1.0),
    "hungarian-everyone": dataclasses.replace(_HUNGARIAN, outside_cost=1.0, everyone=1.0),
    # instances compete for points; the same for Hungarian matching
    "influence-compete": dataclasses.replace(_BASE, compete=1.0),
    "hungarian-compete": dataclasses.replace(_HUNGARIAN, compete=1.0),
    # one object for each instance, without naming it
    "influence-crowding": dataclasses.replace(_BASE, crowding=0.5),
    # together
    "influence-unique": dataclasses.replace(_BASE, **_UNIQUE),
    "influence-unique-pilots": dataclasses.replace(_BASE, pilots=1.0, **_UNIQUE),
    "influence-inside-unique": dataclasses.replace(_BASE, query_masks=True, **_UNIQUE),
    "influence-late-unique": dataclasses.replace(
        _BASE, query_masks=True, class_cost=2.0, score_others=1.0, non_object_stop=0.5
    ),
    "hungarian-unique": dataclasses.replace(_HUNGARIAN, **_UNIQUE),
    "influence-inside-pilots": dataclasses.replace(_BASE, query_masks=True, pilots=1.0),
    "influence-inside-compete": dataclasses.replace(_BASE, query_masks=True, compete=1.0),
    "influence-everyone-unique": dataclasses.replace(_EVERYONE, **_UNIQUE),
    "influence-everyone-compete": dataclasses.replace(_EVERYONE, compete=1.0),
    "influence-central-unique": dataclasses.replace(_BASE, query_masks=True, central=0.5, **_UNIQUE),
    "influence-full": dataclasses.replace(_EVERYONE, compete=1.0, **_UNIQUE),
    "influence-full-central": dataclasses.replace(_EVERYONE, compete=1.0, central=0.5, **_UNIQUE),
    "influence-full-pilots": dataclasses.replace(_EVERYONE, compete=1.0, pilots=1.0, **_UNIQUE),
    "hungarian-full": dataclasses.replace(_HUNGARIAN, outside_cost=1.0, everyone=1.0, compete=1.0, **_UNIQUE),
}
COMPETITORS = ("hungarian", "sparse", "sinkhorn", "geomean", "influence")


def find(name: str) -> Recipe:
    """Return the recipe of ``entry`` or ``entry:option=value,...``.

    Raises
    ------
    ValueError
        If entry, option or value is not known, or an option does nothing in the entry's form.
    """
    entry, _, changes = name.partition(":")
    if entry not in CRITERIA:
        raise ValueError(f"no criterion {entry!r}; known: {', '.join(CRITERIA)}")
    options: dict[str, Any] = {}
    for change in filter(None, changes.split(",")):
        option, _, text = change.partition("=")
        if option not in ACTS[CRITERIA[entry].form]:
            raise ValueError(f"{name}: {option!r} does nothing in {entry}; known: {sorted(ACTS[CRITERIA[entry].form])}")
        options[option] = _value(name, option, text)
    return dataclasses.replace(CRITERIA[entry], **options)


def _value(name: str, option: str, text: str) -> float | int | bool:
    kinds: dict[str, Callable[[str], float | int | bool]] = {
        "rounds": int, "groups": int, "groups_last": int, "many": int,
        "query_masks": _flag, "score_all": _flag, "odds": _flag,
    }  # fmt: skip
    try:
        return kinds.get(option, float)(text)
    except ValueError:
        raise ValueError(f"{name}: {option}={text!r} is not a value of this option") from None


def _flag(text: str) -> bool:
    if text not in ("True", "False"):
        raise ValueError(text)
    return text == "True"
