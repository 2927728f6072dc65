"""MapAnything that is told which views come from the same vehicle."""

from __future__ import annotations

from typing import Any

import torch
from mapanything.models import MapAnything
from torch import nn

MODEL_NAME = "opv2v_mapanything"
"""The model's name in the host's `MODEL_CONFIGS` and in configs."""

_KEY = "agent_embedding"
_FROZEN = ("nothing", "encoder", "everything_else")


class OPV2VMapAnything(MapAnything):
    """MapAnything with a vector per agent, added to the image features of that agent's views.

    A view's id is its `agent_index`: 0 is the main agent (and any view without an id), for which nothing is added:
    such views are encoded as MapAnything does, bit for bit. The vectors of ids 1, 2, ... start at zero, so that
    before training every view is. They live in `agent_embedding`, (max_agents - 1, C); weights of a plain MapAnything
    load and leave them as they are.

    Parameters
    ----------
    max_agents : int
        Ids 0 to max_agents - 1 are known.
    freeze : str
        What is not trained: `nothing`, `encoder` (the image encoder) or `everything_else` (all but the vectors).
    **options
        The host's.

    Raises
    ------
    ValueError
        If an option is none of these, or a view has an id that is not known.
    """

    def __init__(self, *, max_agents: int = 8, freeze: str = "nothing", **options: Any) -> None:
        if isinstance(max_agents, bool) or not isinstance(max_agents, int) or max_agents < 2:
            raise ValueError(f"{type(self).__name__}: max_agents={max_agents!r}, expected an integer of at least 2")
        if freeze not in _FROZEN:
            raise ValueError(f"{type(self).__name__}: freeze={freeze!r}, expected one of {', '.join(_FROZEN)}")
        path = options.pop("pretrained_checkpoint_path", None)
        super().__init__(pretrained_checkpoint_path=None, **options)
        self.agent_embedding = nn.Parameter(torch.zeros(max_agents - 1, self.encoder.enc_embed_dim))
        self.register_load_state_dict_pre_hook(_add_missing)
        self._ids_of_infer: list[Any] | None = None
        self.pretrained_checkpoint_path = path
        self.class_init_args |= {"pretrained_checkpoint_path": path, "max_agents": max_agents, "freeze": freeze}
        self._load_pretrained_weights()
        frozen = {"nothing": (), "encoder": (self.encoder,), "everything_else": (self,)}[freeze]
        for module in frozen:
            module.requires_grad_(False)
        self.agent_embedding.requires_grad_(True)

    def infer(self, views: list[dict[str, Any]], *args: Any, **options: Any) -> list[dict[str, torch.Tensor]]:
        """Predict as the host does; views may carry `agent_index`, an integer or a (B,) tensor of integers."""
        self._ids_of_infer = [view.get("agent_index", 0) for view in views]
        try:
            known = [{key: value for key, value in view.items() if key != "agent_index"} for view in views]
            return super().infer(known, *args, **options)
        finally:
            self._ids_of_infer = None

    def _encode_n_views(self, views: list[dict[str, Any]]) -> tuple[Any, Any]:
        """Encode as the host does and add each view's vector."""
        features, registers = super()._encode_n_views(views)
        ids = self._ids(views, features[0].shape[0], features[0].device)
        if not ids.any():
            return features, registers
        return tuple(self._marked(item, row) for item, row in zip(features, ids)), registers

    def _ids(self, views: list[dict[str, Any]], batch: int, device: torch.device) -> torch.Tensor:
        """Return (views, B) ids."""
        given = self._ids_of_infer or [view.get("agent_index", 0) for view in views]
        ids = torch.stack([torch.as_tensor(item, device=device).long().expand(batch) for item in given])
        largest = len(self.agent_embedding)
        if ids.min() < 0 or ids.max() > largest:
            raise ValueError(
                f"{type(self).__name__}: agent_index {ids.unique().tolist()}, known are 0 to {largest}; raise "
                f"model.model_config.max_agents (now {largest + 1})"
            )
        return ids

    def _marked(self, features: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        """Return (B, C, h, w) features with the vectors of ids (B,) added; rows of id 0 keep every bit."""
        vectors = self.agent_embedding[(ids - 1).clamp(min=0)].to(features.dtype)
        is_main = (ids == 0)[:, None, None, None]
        return torch.where(is_main, features, features + vectors[:, :, None, None])


def _add_missing(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Let weights of a plain MapAnything load: the vectors keep their values."""
    state.setdefault(prefix + _KEY, getattr(module, _KEY).detach())
