"""A model for evaluation: trained, from its checkpoint (no code of the file is run), or as the host's config says."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from mapanything_opv2v import checkout
from mapanything_opv2v.checkpoints import storage

_OTHER_WEIGHTS = "pretrained_checkpoint_path"
"""Config key of weights that the checkpoint replaces anyway; the host would unpickle them."""


@dataclass(frozen=True)
class LoadedModel:
    """A model in eval mode and where it comes from."""

    model: Any
    model_str: str
    name: str
    """`RUN/checkpoint-best.pth`, or the overrides of the host's config that it was built by."""
    sha256: str
    """Of the checkpoint's bytes, or of the weights."""
    config: str
    """Name of the run (the folder that the checkpoint lies in), or of the host's config."""
    host_commit: str
    data_norm_type: str
    """How images must be normalised for this model."""
    is_metric: bool = False
    """Its unit is the metre although it predicts no scale."""

    def provenance(self) -> dict[str, Any]:
        """Return what identifies the model, as plain values."""
        found = {"checkpoint_sha256": self.sha256, "model": self.model_str, "host_commit": self.host_commit}
        return {**found, "checkpoint": self.name, **({"unit": "metre, as told"} if self.is_metric else {})}


def load_model(
    checkpoint: str | Path, device: str = "cpu", config_file: str | Path | None = None, *, is_metric: bool = False
) -> LoadedModel:
    """Build the model that a checkpoint's config describes and give it the checkpoint's weights, all of them.

    Parameters
    ----------
    checkpoint : str or Path
        `checkpoint-best.pth` and the like; read without running code (`storage.load`).
    device : str
        Where the model goes.
    config_file : str or Path, optional
        The run's composed config (`.hydra/config.yaml`), for a checkpoint that has none.
    is_metric : bool
        See `LoadedModel`.

    Raises
    ------
    ValueError
        If a file is damaged or unsafe, has no config or no weights, or the weights do not fit the model.
    """
    from mapanything.models import model_factory

    path = Path(checkpoint)
    loaded = storage.load(path, map_location="cpu")
    if not isinstance(loaded, dict) or not isinstance(loaded.get("model"), Mapping):
        raise ValueError(f"{path}: expected a checkpoint with the weights under 'model'")
    config = loaded.get("args") if config_file is None else _read_config(Path(config_file))
    model_str, model_config = _model_config(config, config_file or path)
    model = model_factory(model_str, **_without_other_weights(model_config))
    try:
        model.load_state_dict(loaded["model"])
    except RuntimeError as error:
        raise ValueError(f"{path}: its weights are not those of {model_str} with this config: {error}") from error
    run = path.resolve().parent.name
    return LoadedModel(
        model=model.to(device).eval(),
        model_str=model_str,
        name=f"{run}/{path.name}",
        sha256=_sha256(path),
        config=run,
        host_commit=checkout.describe(_host_folder()),
        data_norm_type=_norm_type(config, model, path),
        is_metric=is_metric,
    )


def build_model(overrides: Sequence[str], device: str = "cpu", *, is_metric: bool = False) -> LoadedModel:
    """Build a model as the host's own configs say, with the weights that the host gets for it.

    Parameters
    ----------
    overrides : sequence of str
        Name of a file of the host's `configs/model` (`vggt`, `pi3`, `da3`, ...), and further Hydra overrides.
    device : str
        Where the model goes.
    is_metric : bool
        See `LoadedModel`.

    Raises
    ------
    ValueError
        If the host has no such config, or cannot build it: a package or weights are missing.
    """
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from mapanything.models import init_model

    name, *more = overrides
    folder = _host_folder() / "configs"
    if not (folder / "model" / f"{name}.yaml").is_file():
        known = ", ".join(sorted(path.stem for path in (folder / "model").glob("*.yaml") if path.stem != "default"))
        raise ValueError(f"--model {name}: the host has no such config; it has {known}")
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(folder), version_base=None):
            config = compose("train", overrides=[f"model={name}", *more])
        model = init_model(config.model.model_str, config.model.model_config)
    except ImportError as error:
        raise ValueError(f"--model {' '.join(overrides)}: {_needs(str(config.model.model_str), error)}") from error
    except Exception as error:  # each of these projects fails in its own way without its package, weights or GPU
        raise ValueError(f"--model {' '.join(overrides)}: the host cannot build it: {error}") from error
    return LoadedModel(
        model=model.to(device).eval(),
        model_str=str(config.model.model_str),
        name=" ".join(overrides),
        sha256=_weights_sha256(model),
        config=name,
        host_commit=checkout.describe(_host_folder()),
        data_norm_type=_norm_type(config, model, name),
        is_metric=is_metric,
    )


EXTRAS = {
    "anycalib": "anycalib",
    "da3": "depth-anything-3",
    "dust3r": "dust3r",
    "mast3r": "mast3r",
    "must3r": "must3r",
    "pi3x": "pi3",
    "pow3r": "pow3r",
    "pow3r_ba": "pow3r",
}
"""Extra of the host that brings the code of a model of another project."""


def _needs(model_str: str, error: ImportError) -> str:
    """Say which package a model needs, and how the host installs it."""
    missing = next((e.name for e in (error, error.__cause__) if isinstance(e, ModuleNotFoundError) and e.name), None)
    missing = missing or str(error).rpartition("No module named ")[2].strip("'")
    extra = EXTRAS.get(model_str)
    if extra is None or "No module named" not in f"{error} {error.__cause__}":
        return f"the host cannot build it: {error}"
    return f'the package {missing} is missing; MapAnything brings it: pip install -e "$MAPANYTHING_ROOT[{extra}]"'


def _norm_type(config: Any, model: Any, where: str | Path) -> str:
    """Return the model's `data_norm_type`: of its config, as the host takes it, else of its encoder."""
    try:
        return str(OmegaConf.create(config)["model"]["data_norm_type"])
    except (KeyError, TypeError, ValueError, AttributeError, OmegaConfBaseException):
        known = getattr(getattr(model, "encoder", None), "data_norm_type", None)
    if known is None:
        raise ValueError(f"{where}: the config says no model.data_norm_type, how images are normalised; add it")
    return str(known)


def _weights_sha256(model: Any) -> str:
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(f"{name}{tuple(value.shape)}{value.dtype}".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _read_config(path: Path) -> Any:
    try:
        return yaml.safe_load(path.read_text("utf-8"))
    except (ValueError, RecursionError, yaml.YAMLError) as error:  # ValueError: not UTF-8, no such date
        raise ValueError(f"{path}: not readable as YAML: {error}") from error


def _model_config(config: Any, where: str | Path) -> tuple[str, dict[str, Any]]:
    from mapanything.models import resolve_special_float

    if not OmegaConf.has_resolver("special_float"):  # the host's own, which its configs need
        OmegaConf.register_new_resolver("special_float", resolve_special_float)
    try:
        model = OmegaConf.create(config)["model"]
        plain = OmegaConf.to_container(model["model_config"], resolve=True)
        assert isinstance(plain, dict)
        return str(model["model_str"]), {str(key): value for key, value in plain.items()}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(
            f"{where}: no usable config of the model ({error!r}); give the run's .hydra/config.yaml with --model-config"
        ) from error


def _without_other_weights(config: Any) -> Any:
    if isinstance(config, dict):
        return {key: None if key == _OTHER_WEIGHTS else _without_other_weights(value) for key, value in config.items()}
    return config


def _host_folder() -> Path:
    import mapanything

    return Path(str(next(iter(mapanything.__path__)))).parent


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
