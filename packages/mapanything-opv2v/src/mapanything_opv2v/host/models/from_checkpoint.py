"""A trained model from its checkpoint, for evaluation: no code of the file is run, no other file is read."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf

from mapanything_opv2v import checkout
from mapanything_opv2v.checkpoints import storage

_OTHER_WEIGHTS = "pretrained_checkpoint_path"
"""Config key of weights that the checkpoint replaces anyway; the host would unpickle them."""


@dataclass(frozen=True)
class LoadedModel:
    """A model in eval mode and where it comes from."""

    model: Any
    model_str: str
    checkpoint: Path
    sha256: str
    """Of the checkpoint's bytes."""
    config: str
    """Name of the run: the folder that the checkpoint lies in."""
    host_commit: str

    @property
    def data_norm_type(self) -> str:
        """How images must be normalised for this model."""
        return str(self.model.encoder.data_norm_type)

    def provenance(self) -> dict[str, str]:
        """Return what identifies the model, as plain values."""
        return {"checkpoint_sha256": self.sha256, "model": self.model_str, "host_commit": self.host_commit}


def load_model(checkpoint: str | Path, device: str = "cpu", config_file: str | Path | None = None) -> LoadedModel:
    """Build the model that a checkpoint's config describes and give it the checkpoint's weights, all of them.

    Parameters
    ----------
    checkpoint : str or Path
        `checkpoint-best.pth` and the like; read without running code (`storage.load`).
    device : str
        Where the model goes.
    config_file : str or Path, optional
        The run's composed config (`.hydra/config.yaml`), for a checkpoint that has none.

    Raises
    ------
    ValueError
        If the file is damaged or unsafe, has no config or no weights, or the weights do not fit the model.
    """
    from mapanything.models import model_factory

    path = Path(checkpoint)
    loaded = storage.load(path, map_location="cpu")
    if not isinstance(loaded, dict) or not isinstance(loaded.get("model"), Mapping):
        raise ValueError(f"{path}: expected a checkpoint with the weights under 'model'")
    config = loaded.get("args") if config_file is None else yaml.safe_load(Path(config_file).read_text("utf-8"))
    model_str, model_config = _model_config(config, config_file or path)
    model = model_factory(model_str, **_without_other_weights(model_config))
    try:
        model.load_state_dict(loaded["model"])
    except RuntimeError as error:
        raise ValueError(f"{path}: its weights are not those of {model_str} with this config: {error}") from error
    return LoadedModel(
        model=model.to(device).eval(),
        model_str=model_str,
        checkpoint=path,
        sha256=_sha256(path),
        config=path.resolve().parent.name,
        host_commit=checkout.describe(_host_folder()),
    )


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
