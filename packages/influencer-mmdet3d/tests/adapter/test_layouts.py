"""Public layouts of weights, made here: each loads in mmengine, or is refused with what to do about it."""

from collections import OrderedDict

import pytest
import torch
from fake_host import KEYS, checkpoint, write_host, write_infos
from influencer_mmdet3d import cli
from influencer_mmdet3d.host.checkpoint import kernels_fit, read_checkpoint, save
from influencer_mmdet3d.host.layouts import backbone_kind, foreign_layout, to_mmengine
from influencer_mmdet3d.host.trial import TrialError, compare
from mmengine.runner.checkpoint import load_checkpoint

ROWS = 4


class Model(torch.nn.Module):
    """The names of the host's model in small."""

    def __init__(self):
        super().__init__()
        self.decoder = torch.nn.Linear(4, ROWS, bias=False)
        self.unet = torch.nn.BatchNorm1d(3)


def state(prefix=""):
    return OrderedDict((prefix + name, torch.full_like(value, 7)) for name, value in Model().state_dict().items())


def averaged():
    """mmengine's EMA: the averages are in `state_dict`, what was trained beside them."""
    return {"state_dict": state(), "ema_state_dict": {"steps": torch.tensor(3), **state("module.")}, "meta": {}}


LOADING = {
    "mmengine": lambda: {"state_dict": state(), "meta": {"epoch": 2}},
    "mmengine with DDP": lambda: {"state_dict": state("module.")},
    "mmengine with EMA": averaged,
    "bare": lambda: dict(state()),
    "bare with DDP": lambda: dict(state("module.")),
}
FOREIGN = {
    "SSTNet": ({"model": state(), "epoch": 500}, "keeps its weights under 'model'"),
    "gorilla-core (SPFormer, MAFT)": ({"net": state(), "meta": {"iter": 9}}, "keeps its weights under 'net'"),
    "gorilla-core with DDP": ({"net": state("module.")}, "keeps its weights under 'net'"),
    "Lightning (Mask3D)": ({"state_dict": state("model."), "epoch": 1}, "has 'model.' before the name of every"),
    "mmcv's EMA alone": ({"state_dict": state("ema_")}, "has 'ema_' before the name"),
    "DDP of DDP": ({"state_dict": state("module.module.")}, "has 'module.module.' before the name"),
    "PyTorch tutorial": ({"epoch": 1, "model_state_dict": state()}, "keeps its weights under 'model_state_dict'"),
}


def loaded(path):
    """What mmengine leaves in a model that starts at other weights."""
    model = Model()
    load_checkpoint(model, str(path), map_location="cpu", logger="silent")
    return all(bool((value == 7).all()) for value in model.state_dict().values())


@pytest.fixture(autouse=True)
def _pickles(monkeypatch):
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")  # as the launchers set it


@pytest.mark.parametrize("name", LOADING)
def test_what_mmengine_loads_passes(tmp_path, name):
    save(LOADING[name](), tmp_path / "a.pth")
    assert loaded(tmp_path / "a.pth")
    found = read_checkpoint(tmp_path / "a.pth")
    assert foreign_layout(found) is None and compare(Model(), found, tmp_path) is None


@pytest.mark.parametrize("name", FOREIGN)
def test_what_mmengine_would_not_load_is_refused_and_converted(tmp_path, name, capsys):
    content, message = FOREIGN[name]
    save(content, tmp_path / "a.pth")
    assert not loaded(tmp_path / "a.pth"), "mmengine loads nothing and only warns"
    assert message in foreign_layout(read_checkpoint(tmp_path / "a.pth"))
    target = tmp_path / "b.pth"
    assert cli.main(["fix-checkpoint", str(tmp_path / "a.pth"), str(target)]) == 0
    assert capsys.readouterr().out.startswith(f"wrote {target}: ")
    assert loaded(target)


def test_several_sets_of_weights_are_not_guessed(tmp_path, capsys):
    save({"model": state(), "model_ema": {name: value + 1 for name, value in state().items()}}, tmp_path / "a.pth")
    words = ["fix-checkpoint", str(tmp_path / "a.pth"), str(tmp_path / "b.pth")]
    assert cli.main(words) == 2
    assert "weights are under 'model' and 'model_ema': say which with --key model_ema" in capsys.readouterr().err
    assert cli.main([*words, "--key", "absent"]) == 2
    assert "no weights under 'absent'; the file has ['model', 'model_ema']" in capsys.readouterr().err
    assert cli.main([*words, "--key", "model_ema"]) == 0
    assert read_checkpoint(tmp_path / "b.pth")["state_dict"]["decoder.weight"].eq(8).all()


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("permuted", [False, True], ids=["spconv 2", "spconv 1"])
@pytest.mark.parametrize("holder", ["model", "net"])
def test_spconv_layouts_of_another_trainer_end_in_one_that_fits(tmp_path, prefix, permuted, holder):
    """spconv 1 kept (k, k, k, I, O), which mmdet3d permutes; spconv 2 writes (O, k, k, k, I) and no version."""
    found = checkpoint(permuted=permuted, version=None, prefix=prefix)["state_dict"]
    before = {key: found[prefix + key].clone() for key in KEYS}
    save({holder: found}, tmp_path / "a.pth")
    assert cli.main(["fix-checkpoint", str(tmp_path / "a.pth"), str(tmp_path / "b.pth")]) == 0
    after = read_checkpoint(tmp_path / "b.pth")
    assert kernels_fit(after, tmp_path)
    for key, kernel in before.items():
        assert torch.equal(after["state_dict"][prefix + key], kernel)


def test_versions_of_layers_follow_their_names():
    found = checkpoint(version=2, prefix="model.")["state_dict"]
    del found["decoder.weight"]  # the double gives it no prefix
    made, done = to_mmengine({"state_dict": found})
    assert done == ["removed 'model.' from every name"]
    assert made["state_dict"]._metadata["input_conv.0"] == {"version": 2}
    assert kernels_fit(made, "x")


class Minkowski(torch.nn.Module):
    """ScanNet200's backbone: kernels (volume, in, out), those of size 1 (in, out), norms with a `bn` inside."""

    def __init__(self):
        super().__init__()
        self.unet, self.unet.bn0, self.unet.bn0.bn = torch.nn.Module(), torch.nn.Module(), torch.nn.BatchNorm1d(32)
        for name, shape in {"conv0p1s1": (125, 3, 32), "final": (96, 20)}.items():
            part = torch.nn.Module()
            part.kernel = torch.nn.Parameter(torch.zeros(shape))
            setattr(self.unet, name, part)


class Spconv(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.input_conv = torch.nn.ModuleList([torch.nn.Module()])
        self.input_conv[0].weight = torch.nn.Parameter(torch.zeros(16, 3, 3, 3, 6))


def test_the_minkowski_backbone_loads_in_its_own_config_alone(tmp_path):
    mink = {"state_dict": Minkowski().state_dict()}
    assert backbone_kind(mink["state_dict"]) == "MinkowskiEngine"
    save(mink, tmp_path / "mask3d.pth")
    found = read_checkpoint(tmp_path / "mask3d.pth")
    assert foreign_layout(found) is None and kernels_fit(found, tmp_path)
    assert compare(Minkowski(), found, tmp_path) is None
    with pytest.raises(TrialError, match="its backbone is one of MinkowskiEngine, the config's of spconv"):
        compare(Spconv(), found, tmp_path)
    with pytest.raises(TrialError, match="its backbone is one of spconv, the config's of MinkowskiEngine"):
        compare(Minkowski(), {"state_dict": Spconv().state_dict()}, tmp_path)
    lightning = {"state_dict": OrderedDict((f"model.{k}", v) for k, v in Minkowski().state_dict().items())}
    assert compare(Minkowski(), to_mmengine(lightning)[0], tmp_path) is None


def test_names_that_the_model_does_not_know(tmp_path):
    with pytest.raises(TrialError, match=r"not one of its 1 weights has a name .* it has head\.weight, the model"):
        compare(Model(), {"state_dict": {"head.weight": torch.zeros(2)}}, tmp_path)


def test_launchers_refuse_it_and_name_the_command(tmp_path, monkeypatch, capsys):
    host = write_host(tmp_path / "host")
    write_infos(host / "data" / "s3dis")
    monkeypatch.setenv("ONEFORMER3D_ROOT", str(host))
    monkeypatch.chdir(tmp_path)
    save({"net": checkpoint()["state_dict"]}, tmp_path / "spformer.pth")
    assert cli.main(["evaluate", "s3dis", "baseline", "spformer.pth", "--dry-run"]) == 2
    error = capsys.readouterr().err
    assert "keeps its weights under 'net'" in error
    assert "influencer-mmdet3d fix-checkpoint" in error and "spformer_mmengine.pth" in error
