"""Public ways to lay out weights in a checkpoint file, and which of them mmengine loads.

mmengine takes the weights from `state_dict`, or takes the whole file for them, strips one `module.` from every name,
and only warns about names that the model does not have. So a file of another layout would load nothing and leave the
model at random weights. Here such files are told from others, and brought into mmengine's layout.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import torch

HOLDERS = (
    "model", "net", "network", "model_state", "model_state_dict", "module",
    "ema", "model_ema", "ema_state_dict", "state_dict_ema",
)  # fmt: skip
"""Keys under which other trainers keep weights: SSTNet `model`, gorilla-core (SPFormer, MAFT) `net`, timm `*ema`."""
PREFIXES = ("model.", "module.module.", "network.", "ema_model.", "ema_")
"""Of names: PyTorch Lightning (Mask3D) `model.`, DDP of DDP, averaged copies; mmengine itself strips `module.`."""


def weights(checkpoint: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what mmengine takes for the weights."""
    found: Mapping[str, Any] = checkpoint.get("state_dict", checkpoint)
    return found


def foreign_layout(checkpoint: Mapping[str, Any]) -> str | None:
    """Say why mmengine would find no weights in a checkpoint; None where it would find some."""
    if holders := _holders(checkpoint):
        return (
            f"keeps its weights under {' and '.join(map(repr, holders))}, where mmengine looks for 'state_dict' and "
            "would load nothing"
        )
    if prefix := _prefix(weights(checkpoint)):
        return f"has {prefix!r} before the name of every weight, so that mmengine would load none"
    return None


def to_mmengine(checkpoint: Mapping[str, Any], key: str | None = None) -> tuple[dict[str, Any], list[str]]:
    """Return a checkpoint in mmengine's layout, and what was changed; the weights themselves stay as they are.

    Parameters
    ----------
    checkpoint : mapping
        As read.
    key : str, optional
        Key of the weights, where several are there.

    Raises
    ------
    ValueError
        If it is not clear which weights are meant, or `key` has none.
    """
    done = []
    holders = _holders(checkpoint)
    if key is None and len(holders) > 1:
        raise ValueError(f"weights are under {' and '.join(map(repr, holders))}: say which with --key {holders[-1]}")
    key = key or (holders[0] if holders else None)
    found = weights(checkpoint) if key is None else checkpoint.get(key)
    if not _is_weights(found):
        raise ValueError(f"no weights under {key!r}; the file has {sorted(map(str, checkpoint))}")
    if key is not None and key != "state_dict":
        done.append(f"took the weights from {key!r}")
    assert isinstance(found, Mapping)
    state = OrderedDict(found)
    metadata = dict(getattr(found, "_metadata", {}))
    while prefix := _prefix(state):
        state = OrderedDict((name.removeprefix(prefix), value) for name, value in state.items())
        metadata = {name.removeprefix(prefix): value for name, value in metadata.items()}
        done.append(f"removed {prefix!r} from every name")
    state._metadata = metadata  # type: ignore[attr-defined]  # where torch keeps the versions of layers
    kept = {name: value for name, value in checkpoint.items() if name in ("meta", "message_hub")}
    return {**kept, "state_dict": state}, done


def backbone_kind(names: Mapping[str, Any]) -> str | None:
    """Tell the library of a checkpoint's sparse convolutions by its weights: 'MinkowskiEngine', 'spconv' or None."""
    for name, value in names.items():
        ndim = value.ndim if isinstance(value, torch.Tensor) else len(value)
        if name.endswith(".kernel") and ndim in (2, 3):
            return "MinkowskiEngine"
        if name.endswith(".weight") and ndim == 5:
            return "spconv"
    return None


def _holders(checkpoint: Mapping[str, Any]) -> list[str]:
    if "state_dict" in checkpoint or _is_weights(checkpoint):
        return []
    return [key for key in HOLDERS if _is_weights(checkpoint.get(key))]


def _is_weights(value: Any) -> bool:
    """Whether something is a dict of tensors by name, and nothing deeper."""
    return (
        isinstance(value, Mapping)
        and any(isinstance(part, torch.Tensor) for part in value.values())
        and not any(isinstance(part, Mapping) for part in value.values())
    )


def _prefix(state: Mapping[str, Any]) -> str | None:
    names = [name for name, value in state.items() if isinstance(name, str) and isinstance(value, torch.Tensor)]
    return next((prefix for prefix in PREFIXES if names and all(name.startswith(prefix) for name in names)), None)
