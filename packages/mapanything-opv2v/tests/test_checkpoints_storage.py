from __future__ import annotations

import io
import os
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
import torch
from mapanything_opv2v.checkpoints import storage
from omegaconf import OmegaConf


def checkpoint():
    """What MapAnything writes, in small: a state dict, numpy's float64 and an OmegaConf config."""
    config = OmegaConf.create("a: {b: [1, 2.5, x, null, '${a}'], c: true}")
    model = OrderedDict(weight=torch.arange(6.0).reshape(2, 3))
    return {"model": model, "epoch": 3, "best_so_far": np.float64(0.25), "args": config, "optimizer": {0: {"lr": 0.1}}}


class Hostile:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def test_a_checkpoint_comes_back(tmp_path):
    path = tmp_path / "runs" / "checkpoint-last.pth"
    storage.write(path, checkpoint())
    loaded = storage.load(path, map_location="cpu", mmap=True)
    assert torch.equal(loaded["model"]["weight"], checkpoint()["model"]["weight"])
    assert loaded["best_so_far"] == 0.25 and loaded["args"] == checkpoint()["args"] and loaded["epoch"] == 3
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_a_config_that_has_asked_a_resolver_comes_back(tmp_path):
    """As `${hydra:run.dir}` in every checkpoint of MapAnything's own script: its value is remembered in the config."""
    OmegaConf.register_new_resolver("folder_of_a_test", lambda: "runs/1", use_cache=True, replace=True)
    config = OmegaConf.create({"output_dir": "${folder_of_a_test:}"})
    assert config.output_dir == "runs/1" and config._metadata.resolver_cache["folder_of_a_test"]
    torch.save({"args": config}, tmp_path / "checkpoint-last.pth")
    assert storage.load(tmp_path / "checkpoint-last.pth")["args"].output_dir == "runs/1"


def test_a_hostile_checkpoint_runs_nothing_and_is_named(tmp_path):
    torch.save({"model": {}, "args": Hostile(tmp_path / "ran")}, tmp_path / "evil.pth")
    with pytest.raises(ValueError, match=r"evil\.pth: not loaded.*--without safe_loading"):
        storage.load(tmp_path / "evil.pth")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("keep", [0, 100, 1200])
def test_a_cut_checkpoint_is_named(tmp_path, keep):
    path = tmp_path / "checkpoint-last.pth"
    storage.write(path, checkpoint())
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match=r"checkpoint-last\.pth: (not loaded|cannot be read)"):
        storage.load(path)


def test_what_torch_answers_with_other_errors_is_named(tmp_path):
    """A byte order that is none, and a class whose name takes torch hours to refuse."""
    stream = io.BytesIO()
    torch.save({"model": torch.ones(3)}, stream)
    name = b"collections " + b"(" * 2000 + b"\n"
    for entry, old, new in (
        ("byteorder", b"little", b"middle"),
        ("data.pkl", b"ctorch\nFloatStorage\n", b"ctorch\n" + name),
    ):
        with zipfile.ZipFile(stream) as source, zipfile.ZipFile(tmp_path / "a.pth", "w") as target:
            for item in source.namelist():
                data = source.read(item)
                target.writestr(item, data.replace(old, new) if item.endswith(entry) else data)
        with pytest.raises(
            ValueError, match=r"a\.pth: (cannot be read, it may be damaged|.*a class whose name has 20)"
        ):
            storage.load(tmp_path / "a.pth")


def test_nothing_stays_allowed_afterwards(tmp_path):
    before = set(torch.serialization.get_safe_globals())
    storage.write(tmp_path / "a.pth", {})
    storage.load(tmp_path / "a.pth")
    assert set(torch.serialization.get_safe_globals()) == before  # in no fixed order


def test_a_failed_write_leaves_the_old_one(tmp_path):
    path = tmp_path / "checkpoint-last.pth"
    storage.write(path, {"epoch": 1})
    with pytest.raises((AttributeError, TypeError)):
        storage.write(path, {"epoch": lambda: None})
    assert storage.load(path) == {"epoch": 1} and len(list(tmp_path.iterdir())) == 1


def test_only_leftovers_of_checkpoints_are_removed(tmp_path):
    half = [f".checkpoint-{name}.pth.{'0a' * 8}.part" for name in ("last", "best")]
    kept = [
        "checkpoint-last.pth",
        ".checkpoint-last.pth.part",
        f".other.pth.{'0a' * 8}.part",
        ".checkpoint-last.pth.1.part",
    ]
    for name in half + kept:
        (tmp_path / name).write_text("")
    assert storage.clean(tmp_path) == sorted(half)
    assert {path.name for path in tmp_path.iterdir()} == set(kept)
    assert storage.clean(tmp_path / "nowhere") == []
