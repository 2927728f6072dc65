"""Profiles: how a model is asked, and what it means by its numbers.

A profile is a YAML file. Those of known models are shipped in `configs/profiles`, each with its sources; users
name a file of their own. Fields:

- `name`, `sources`;
- `models` (regular expressions, searched in the model's name in lower case) and `model_types` (of
  `config.json`): which models `--profile auto` uses it for;
- `units`, `point_order`, `boxes` of `answers.parse`;
- `frame`: "original", or "seen" where pixels are those of the image as the model's processor resized it;
- `resize` {factor, min_pixels, max_pixels}: the rule of that processor, where nothing reports the size;
- `answer`: what replaces "Answer with one point as ..." of a question, with {frame} for the image's name; left
  out, the question stays as it was built. `question` replaces the question as a whole;
- `ref`: how the point that a side-by-side question names is written, in the profile's units;
- `images`: most images a question, `max_new_tokens`, and `stop`: texts that an answer ends before.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from importlib.resources import files as package_files
from pathlib import Path
from typing import Any, get_args

import yaml

from roborefer_spatial.answers import Boxes, PointOrder, Units
from roborefer_spatial.files import read_json
from roborefer_spatial.predicting.seen import Resize
from roborefer_spatial.sample import Sample
from roborefer_spatial.scoring.score import Frame
from roborefer_spatial.tasks.prompts import SPLIT

AS_BUILT = "as-built"
_FRAMES = {"concat": "the whole image, both views together", "query": "the second image"}
_REF = re.compile(r"the point (\[\([^)]*\)\]) of the whole image")


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """A profile; see the module."""

    name: str
    units: Units
    sources: tuple[str, ...]
    models: tuple[str, ...] = ()
    model_types: tuple[str, ...] = ()
    point_order: PointOrder = "xy"
    boxes: Boxes = "refuse"
    frame: Frame = "original"
    resize: Resize | None = None
    question: str | None = None
    answer: str | None = None
    ref: str | None = None
    images: int | None = None
    max_new_tokens: int | None = None
    stop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, kind in (("units", Units), ("point_order", PointOrder), ("boxes", Boxes), ("frame", Frame)):
            if getattr(self, name) not in get_args(kind):
                raise ValueError(f"{name} is {getattr(self, name)!r}; known: {', '.join(get_args(kind))}")
        if self.frame == "seen" and self.units != "pixel":
            raise ValueError(f"frame is 'seen', which matters to pixels only, and units is {self.units!r}")
        if not self.sources:
            raise ValueError("sources is empty: say where the model's format is described")
        for pattern in self.models:
            re.compile(pattern)

    def record(self) -> dict[str, Any]:
        """Return what is kept beside the answers: everything that decides them and how they are read."""
        left_out = ("sources", "models", "model_types")
        return {key: value for key, value in asdict(self).items() if key not in left_out and value not in (None, ())}

    @property
    def asks_as_built(self) -> bool:
        """Whether questions and answers are those of `as-built`, so that a record need not name it."""
        plain = Profile(name=self.name, units="normalized", sources=self.sources, max_new_tokens=self.max_new_tokens)
        return self.record() == plain.record()

    def prompt(self, sample: Sample) -> str:
        """Return the sample's question as this model is asked.

        Raises
        ------
        ValueError
            More images than the model takes, or a question that was not written by `build`, so that its
            format cannot be replaced.
        """
        if self.images is not None and len(sample.image) > self.images:
            raise ValueError(
                f"sample {sample.id} has {len(sample.image)} images, profile {self.name} is of a model that takes "
                f"{self.images}: ask side-by-side samples (t1_*_concat), or choose --profile {AS_BUILT}"
            )
        if self.question is not None:
            return self.question
        if self.answer is None:
            return sample.prompt
        head, found, rest = sample.prompt.partition(SPLIT)
        if not found:
            raise ValueError(
                f"sample {sample.id}: its question does not end in {SPLIT.strip()!r}, so profile {self.name} cannot "
                f"say how to answer: {sample.prompt!r}; --profile {AS_BUILT} asks it as it is"
            )
        not_visible = re.search(r" If the object cannot be seen in [^.]*\.", rest)
        text = f"{self._with_ref(head, sample)} {self.answer.format(frame=_FRAMES[sample.coord_frame])}"
        return text + (not_visible.group() if not_visible else "")

    def _with_ref(self, head: str, sample: Sample) -> str:
        """Write the point of a side-by-side question in this profile's units."""
        found = _REF.search(head)
        if found is None or self.ref is None or sample.ref_point is None:
            return head
        scale = {"normalized": (1, 1), "percent": (100, 100), "thousand": (1000, 1000)}.get(self.units)
        if scale is None:
            scale = self.size_of(sample.answer_size)
        x, y = (fraction * side for fraction, side in zip(sample.ref_point, scale))
        return head[: found.start(1)] + self.ref.format(x=x, y=y) + head[found.end(1) :]

    def size_of(self, size_wh: tuple[int, int]) -> tuple[int, int]:
        """Return the size whose pixels the model means, for an image of size_wh."""
        return self.resize.size(size_wh) if self.frame == "seen" and self.resize else size_wh

    def cut(self, text: str) -> str:
        """Return an answer up to the first of the stop texts."""
        for stop in self.stop:
            text = text.partition(stop)[0]
        return text


def shipped() -> dict[str, Profile]:
    """Return the profiles of this package, by name."""
    folder = package_files("roborefer_spatial") / "configs" / "profiles"
    found = [_read(entry.read_text(encoding="utf-8"), entry.name) for entry in folder.iterdir()]
    return {profile.name: profile for profile in sorted(found, key=lambda profile: profile.name)}


def load(name: str) -> Profile:
    """Return a shipped profile, or that of a YAML file.

    Raises
    ------
    ValueError
        Neither of them, or a file that is no profile.
    """
    known = shipped()
    if name in known:
        return known[name]
    path = Path(name)
    if path.is_file():
        return _read(path.read_text(encoding="utf-8"), str(path))
    raise ValueError(f"--profile {name}: neither a file nor one of auto, {', '.join(known)}")


def choose(name: str, model: str | None) -> Profile:
    """Return the profile of `--profile`; "auto" goes by the model's config or name, `as-built` where none fits."""
    if name != "auto":
        return load(name)
    known = shipped()
    if model is None:
        return known[AS_BUILT]
    kind = _model_type(Path(model))
    for profile in known.values():
        if kind is not None and kind in profile.model_types:
            return profile
    lower = model.rstrip("/").rsplit("/", 1)[-1].lower()
    for profile in known.values():
        if any(re.search(pattern, lower) for pattern in profile.models):
            return profile
    return known[AS_BUILT]


def _model_type(folder: Path) -> str | None:
    try:
        config = read_json(folder / "config.json")
    except (OSError, ValueError):
        return None
    kind = config.get("model_type") if isinstance(config, dict) else None
    return kind if isinstance(kind, str) else None


def _read(text: str, where: str) -> Profile:
    try:
        values = yaml.safe_load(text)
    except (ValueError, RecursionError, yaml.YAMLError) as error:  # ValueError: no such date
        raise ValueError(f"{where}: not valid YAML: {error}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{where}: expected the fields of a profile")
    known = {field.name for field in fields(Profile)}
    if unknown := sorted(set(values) - known):
        raise ValueError(f"{where}: no field {', '.join(unknown)} in a profile; there are {', '.join(sorted(known))}")
    if missing := sorted({"name", "units", "sources"} - set(values)):
        raise ValueError(f"{where}: a profile needs {', '.join(missing)}")
    try:
        return Profile(**{key: _frozen(key, value) for key, value in values.items()})
    except (TypeError, re.error) as error:
        raise ValueError(f"{where}: {error}") from error
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def _frozen(key: str, value: Any) -> Any:
    if key == "resize" and isinstance(value, Mapping):
        return Resize(**value)
    return tuple(value) if isinstance(value, list) else value
