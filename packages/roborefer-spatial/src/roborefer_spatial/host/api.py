"""The host's functions that the adapter calls, imported late and in one place."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class HostFunctions:
    """What the data module takes from RoboRefer; mappings go by media kind, "image" or "depth"."""

    preprocess: Callable[..., dict[str, Any]]
    """Conversations to `input_ids` and `labels`."""

    process: Mapping[str, Callable[..., Any]]
    """One image to (3, H, W)."""

    dynamic: Mapping[str, Callable[..., Any]]
    """Images and prompt to tiles (N, 3, H, W) and the prompt with one token per tile."""

    dynamic_s2: Mapping[str, Callable[..., Any]]
    """Images and prompt to tiles (N, 3, H, W) and block sizes, one pair per image."""


def import_host(name: str) -> Any:
    """Import a module of the host.

    Raises
    ------
    ImportError
        Saying which import failed and how to run so that it does not. An AttributeError while it is imported
        means a library of another version than the host's.
    """
    try:
        return importlib.import_module(name)
    except (ImportError, SyntaxError, AttributeError) as error:
        raise ImportError(
            f"RoboRefer's {name} cannot be imported: {type(error).__name__}: {error}. `roborefer-spatial doctor` "
            "says what is missing; `python -m roborefer_spatial.launch` repairs what it can before the import"
        ) from error


def host_functions() -> HostFunctions:
    """Collect the host's functions."""
    dataset = import_host("llava.data.dataset")
    images = import_host("llava.mm_utils")
    return HostFunctions(
        preprocess=dataset.preprocess,
        process={"image": images.process_image, "depth": images.process_depth},
        dynamic={
            "image": images.dynamic_process_images_and_prompt,
            "depth": images.dynamic_process_depths_and_prompt,
        },
        dynamic_s2={
            "image": images.dynamic_s2_process_images_and_prompt,
            "depth": images.dynamic_s2_process_depths_and_prompt,
        },
    )
