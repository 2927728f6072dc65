"""x3 files by name in the host's dataset registry, and as a YAML for `VILA_DATASETS`."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from roborefer_spatial.host.api import import_host

TARGET = "roborefer_spatial.host.data.LazySupervisedSpatialDataset"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")  # the host splits mixtures at + and reads * and @ itself

Entry = dict[str, Any]


def make_entry(
    data_path: str | os.PathLike[str],
    *,
    image_folder: str | os.PathLike[str] | None = None,
    depth_path: str | os.PathLike[str] | None = None,
    whole: bool = False,
) -> Entry:
    """Return a registry entry that builds our data module for one file.

    Parameters
    ----------
    data_path, image_folder, depth_path : path
        As the data module takes them; made absolute.
    whole : bool
        The host's sampler will not be used (curriculum), so that no warning of dropped rows is due.

    Raises
    ------
    ValueError
        If a path does not exist, or holds `${`, which the host's hydra would expand.
    """
    entry: Entry = {"_target_": TARGET}
    for key, path, is_there in (
        ("data_path", data_path, Path.is_file),
        ("image_folder", image_folder, Path.is_dir),
        ("depth_path", depth_path, Path.is_dir),
    ):
        if path is None:
            continue
        absolute = Path(path).expanduser().absolute()
        if not is_there(absolute):
            raise ValueError(f"{key}: {absolute} does not exist")
        if "${" in str(absolute):
            raise ValueError(f"{key}: {absolute} holds '${{', which hydra would expand; rename the folder")
        entry[key] = str(absolute)
    if whole:
        entry["warn_dropped"] = False
    return entry


def check_name(name: str) -> str:
    """Return a mixture name; ValueError if the host would read it as something else."""
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"mixture name {name!r}: letters, digits, '_', '.' and '-' only (the host reads '+', '*' and '@' itself)"
        )
    return name


def register(name: str, entry: Mapping[str, Any]) -> str:
    """Put an entry into the host's registry, so that `--data_mixture name` finds it.

    Registering the same entry again does nothing.

    Raises
    ------
    ValueError
        If the name is bad, or is somebody else's (new or legacy registry, or a mixture of the host).
    """
    builder = import_host("llava.data.builder")
    check_name(name)
    known = builder.DATASETS.get(name)
    if known is not None and dict(known) == dict(entry):
        return name
    for registry, where in (
        (builder.DATASETS, "DATASETS"),
        (builder.DATASETS_LEGACY, "DATASETS_LEGACY"),
        (builder.MIXTURES, "MIXTURES"),
    ):
        if registry is not None and name in registry:
            raise ValueError(f"the host's {where} already has {name!r}; choose another name")
    builder.DATASETS[name] = dict(entry)
    return name


def register_file(path: str | os.PathLike[str], **options: Any) -> str:
    """Register a file, with `make_entry`'s options, as `x3-` and its stem; return the name."""
    stem = re.sub(r"[^A-Za-z0-9_.-]", "-", Path(path).stem)
    builder = import_host("llava.data.builder")
    entry = make_entry(path, **options)
    name, copy = f"x3-{stem}", 1
    while name in builder.DATASETS and dict(builder.DATASETS[name]) != entry:
        copy += 1
        name = f"x3-{stem}-{copy}"
    return register(name, entry)


def registry_yaml(entries: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the YAML text of entries, for `VILA_DATASETS=default,<absolute path of the file>`."""
    for name in entries:
        check_name(name)
    return yaml.safe_dump({name: dict(entry) for name, entry in entries.items()}, sort_keys=False, allow_unicode=True)
