import io
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from fake_host import KEYS, SHAPES, checkpoint
from influencer_mmdet3d import cli
from influencer_mmdet3d.host.checkpoint import kernels_fit, read_checkpoint, repair, save
from mmengine.config import ConfigDict
from mmengine.logging import HistoryBuffer

FOREIGN = {
    "a web page": b"\n<!DOCTYPE html><html lang=en>",
    "a Git-LFS pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
    "JSON text": b'{"error": "quota"}',
    "empty": b"",
}


def loaded_by_mmdet3d(state: OrderedDict, key: str) -> tuple[int, ...]:
    """Shape of a kernel after mmdet3d's loading: last axis to the front unless the layer has version 2."""
    kernel, version = state[key], state._metadata.get(key.rsplit(".", 1)[0], {}).get("version")
    return tuple((kernel if version == 2 else kernel.permute(4, 0, 1, 2, 3)).shape)


@pytest.mark.parametrize(
    "permuted, version, fits",
    [(False, 2, True), (True, 1, True), (True, None, True), (True, 2, False), (False, 1, False), (False, None, False)],
)
def test_fit_and_repair_follow_mmdet3d(permuted, version, fits):
    original = checkpoint(permuted=permuted, version=version)
    assert kernels_fit(original, Path("x")) is fits
    shapes = {key: loaded_by_mmdet3d(original["state_dict"], key) for key in KEYS}
    assert (shapes == dict(zip(KEYS, SHAPES))) is fits
    before = {key: kernel.clone() for key, kernel in original["state_dict"].items()}
    repaired = repair(original)["state_dict"]
    assert {key: loaded_by_mmdet3d(repaired, key) for key in KEYS} == dict(zip(KEYS, SHAPES))
    for key in KEYS:
        expected = before[key].permute(4, 0, 1, 2, 3) if permuted else before[key]
        assert torch.equal(repaired[key], expected)
    assert all(torch.equal(before[key], original["state_dict"][key]) for key in before), (
        "repair must not edit its input"
    )


def test_repair_of_bare_weights_and_of_ambiguous_kernels():
    state = dict(checkpoint(permuted=True)["state_dict"])
    state["unet.same.weight"] = torch.arange(3**5, dtype=torch.float).view(3, 3, 3, 3, 3)  # either layout
    repaired = repair(state)["state_dict"]
    assert torch.equal(repaired["unet.same.weight"], state["unet.same.weight"].permute(4, 0, 1, 2, 3))
    assert kernels_fit({"state_dict": repaired}, Path("x"))


def test_no_kernels_fit():
    assert kernels_fit({"decoder.weight": torch.zeros(2, 2)}, Path("x"))


def test_mixed_layouts_and_odd_shapes_are_named():
    mixed = checkpoint()
    mixed["state_dict"][KEYS[0]] = mixed["state_dict"][KEYS[0]].permute(1, 2, 3, 4, 0)
    with pytest.raises(ValueError, match=rf"different layouts, e\.g\. {KEYS[1]} and {KEYS[0]}"):
        kernels_fit(mixed, Path("x"))
    mixed["state_dict"][KEYS[0]] = torch.zeros(2, 3, 4, 5, 6)
    with pytest.raises(ValueError, match=r"checkpoint x: sparse-conv kernel of shape \(2, 3, 4, 5, 6\) is neither"):
        kernels_fit(mixed, Path("x"))


def test_read_keeps_values_metadata_and_logs(tmp_path):
    original = checkpoint()
    original["meta"]["dtype"] = torch.float16
    path = tmp_path / "runs" / "a.pth"
    save(original, path)
    found = read_checkpoint(path)
    assert torch.equal(found["state_dict"][KEYS[0]], original["state_dict"][KEYS[0]])
    assert found["state_dict"]._metadata == original["state_dict"]._metadata
    assert found["message_hub"]["log_scalars"]["train/loss"].mean() == 1.5
    assert found["meta"] == original["meta"]
    assert [file.name for file in path.parent.iterdir()] == ["a.pth"]


class _Call:
    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


def test_read_runs_nothing(tmp_path):
    target = tmp_path / "made"
    cases = {
        "posix.mkdir": _Call(__import__("os").mkdir, str(target)),
        "torch.hub": _Call(torch.hub.load, "owner/name", "model"),
        "getattr": _Call(getattr, HistoryBuffer, "update"),
        "builtins.eval": _Call(eval, "1"),
    }
    for name, content in cases.items():
        torch.save({"state_dict": {}, "meta": content}, tmp_path / "bad.pth")
        with pytest.raises(ValueError, match=rf"bad\.pth asks for {name}.*--trust-checkpoint"):
            read_checkpoint(tmp_path / "bad.pth")
    assert not target.exists()
    torch.save({"meta": _Call(complex, 1, 2)}, tmp_path / "good.pth")
    assert read_checkpoint(tmp_path / "good.pth")["meta"] == 1 + 2j
    torch.save({"meta": _Call(Path, "a")}, tmp_path / "own.pth")
    assert read_checkpoint(tmp_path / "own.pth", trust=True)["meta"] == Path("a")


def test_read_says_what_is_wrong(tmp_path):
    with pytest.raises(ValueError, match="does not exist"):
        read_checkpoint(tmp_path / "absent.pth")
    save(checkpoint(), tmp_path / "whole.pth")
    (tmp_path / "cut.pth").write_bytes((tmp_path / "whole.pth").read_bytes()[:3000])
    with pytest.raises(ValueError, match="cut short"):
        read_checkpoint(tmp_path / "cut.pth")
    (tmp_path / "text.pth").write_text("hello")
    with pytest.raises(ValueError, match=r"text\.pth is no checkpoint: expected a file that torch\.save wrote"):
        read_checkpoint(tmp_path / "text.pth")
    torch.save([1], tmp_path / "list.pth")
    with pytest.raises(ValueError, match="holds a list"):
        read_checkpoint(tmp_path / "list.pth")


@pytest.mark.parametrize(("name", "content"), FOREIGN.items())
def test_what_a_download_left_is_named(tmp_path, name, content):
    (tmp_path / "best.pth").write_bytes(content)
    with pytest.raises(ValueError, match=rf"best\.pth is {name}") as caught:
        read_checkpoint(tmp_path / "best.pth")
    assert "--trust-checkpoint" not in str(caught.value)


def test_all_that_mmengine_stores_is_allowed(tmp_path):
    original = checkpoint()
    original["meta"]["dataset_meta"] = ConfigDict(label2cat=ConfigDict({"a": [1, ConfigDict(b=2)]}))
    original["optimizer"] = torch.optim.AdamW([torch.zeros(2, requires_grad=True)]).state_dict()
    original["message_hub"]["runtime_info"] = {"best": np.float64(0.5), "palette": np.arange(3)}
    for old_format in (False, True):
        torch.save(original, tmp_path / "a.pth", _use_new_zipfile_serialization=not old_format)
        found = read_checkpoint(tmp_path / "a.pth")
        assert found["meta"] == original["meta"]
        assert found["meta"]["dataset_meta"].label2cat.a[1].b == 2
        assert found["message_hub"]["runtime_info"]["best"] == 0.5
        assert found["message_hub"]["runtime_info"]["palette"].tolist() == [0, 1, 2]


def test_a_config_dict_of_mmengine_0_7_is_allowed(tmp_path, monkeypatch):
    """It was pickled as any subclass of dict: class, state and items."""
    monkeypatch.delattr(ConfigDict, "__reduce_ex__")
    torch.save({"meta": ConfigDict(a=ConfigDict(b=1))}, tmp_path / "a.pth")
    monkeypatch.undo()
    assert read_checkpoint(tmp_path / "a.pth")["meta"].a.b == 1


def test_command(tmp_path, capsys):
    source, target = tmp_path / "in.pth", tmp_path / "out.pth"
    save(checkpoint(permuted=True), source)
    assert cli.main(["fix-checkpoint", str(source), str(target)]) == 0
    assert "3 kernels" in capsys.readouterr().out
    assert kernels_fit(read_checkpoint(target), target)
    assert cli.main(["fix-checkpoint", str(source), str(target)]) == 2
    assert "exists already" in capsys.readouterr().err
    assert cli.main(["fix-checkpoint", str(target), str(tmp_path / "more.pth")]) == 2
    assert "nothing to repair" in capsys.readouterr().err
    assert not (tmp_path / "more.pth").exists()


def test_old_pickle_format(tmp_path):
    torch.save(checkpoint(), tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert kernels_fit(read_checkpoint(tmp_path / "old.pth"), tmp_path)
    (tmp_path / "plain.pkl").write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(ValueError, match=r"plain\.pkl"):
        read_checkpoint(tmp_path / "plain.pkl")


def test_numpy_states_that_would_crash_are_refused(tmp_path):
    """numpy reads the state of a dtype without looking at it: a damaged one ends the process."""
    value = checkpoint()
    value["scores"] = np.arange(3.0)
    buffer = io.BytesIO()
    torch.save(value, buffer)
    path = tmp_path / "a.pth"
    with zipfile.ZipFile(buffer) as source, zipfile.ZipFile(path, "w") as target:
        for name in source.namelist():
            data = source.read(name)
            if name.endswith("data.pkl"):
                plain = data.index(b"NNNJ")  # subtype, names and fields of the first dtype
                data = data[:plain] + data[plain + 1 :]  # one of them is lost
            target.writestr(name, data)
    with pytest.raises(ValueError, match=r"a\.pth cannot be read"):
        read_checkpoint(path)


@pytest.mark.parametrize("broken", [3, {"a": 1}, None])
def test_metadata_that_is_none_is_named(tmp_path, broken):
    value = checkpoint()
    value["state_dict"]._metadata = broken
    torch.save(value, tmp_path / "a.pth")
    with pytest.raises(ValueError, match=r"a\.pth: its state_dict is no dict of weights with torch's metadata"):
        read_checkpoint(tmp_path / "a.pth")
