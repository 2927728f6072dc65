import json
import os
import subprocess
import sys

import pytest
import torch
from fake_host import write_host
from influencer_mmdet3d import cli
from influencer_mmdet3d.host import doctor
from influencer_mmdet3d.host.doctor import FAILURE, OK, WARNING, Finding
from influencer_mmdet3d.host.pin import load_pin
from influencer_mmdet3d.loss.kernels.trial import Verdict


def frameworks(**versions: str) -> dict[str, Finding]:
    known = {"mmengine": "0.10.7", "mmcv": "2.1.0", "mmdet": "3.3.0", "mmdet3d": "1.4.0"}
    known |= {name.replace("_", "-"): value for name, value in versions.items()}
    return {found.name: found for found in doctor.check_frameworks(lambda name: known.get(name) or None)}


def test_frameworks_in_range():
    assert {found.status for found in frameworks().values()} == {OK}


@pytest.mark.parametrize(
    "name, value", [("mmcv", "2.2.0"), ("mmcv", "1.7.1"), ("mmdet", "3.4.0"), ("mmengine", "0.7.2")]
)
def test_framework_out_of_range(name, value):
    found = frameworks(**{name: value})[name]
    assert found.status == FAILURE and "AssertionError" in found.advice and f"install {name} <" in found.advice


def test_framework_missing():
    found = frameworks(mmdet3d="")["mmdet3d"]
    assert (found.value, found.status) == ("not installed", FAILURE)


def test_mmcv_lite():
    assert frameworks(mmcv="", mmcv_lite="2.1.0")["mmcv-lite"].status == WARNING
    assert frameworks(mmcv="", mmcv_lite="2.2.0")["mmcv-lite"].status == FAILURE
    both = frameworks(mmcv="2.1.0", mmcv_lite="2.1.0")["mmcv"]
    assert both.status == FAILURE and "pip uninstall mmcv mmcv-lite" in both.advice


def works(code):
    return None


def fails(code):
    return "AssertionError: no kernel image"


@pytest.mark.parametrize(
    "names, cuda, run, status, advice",
    [
        (["spconv-cu118"], "11.8", works, OK, ""),
        (["spconv"], None, works, OK, ""),
        ([], "11.8", works, FAILURE, "pip install spconv-cu118"),
        (["spconv-cu118", "spconv-cu120"], "12.1", works, FAILURE, "one only: pip uninstall spconv-cu118 spconv-cu120"),
        (["spconv-cu120"], "12.1", works, WARNING, "spconv-cu121 is the wheel"),
        (["spconv-cu118"], "12.1", fails, FAILURE, "no kernel image. pip uninstall spconv-cu118"),
        (["spconv-cu121"], "12.1", fails, FAILURE, "no kernel image"),
        (["spconv"], None, fails, FAILURE, "training needs a GPU"),
        (["spconv-cu126"], "13.0", works, WARNING, "no wheel for CUDA 13.0"),
    ],
)
def test_spconv(names, cuda, run, status, advice):
    found = doctor.check_spconv(names, cuda, run)
    assert found.status == status and advice in found.advice


def test_probe_step_is_real(monkeypatch):
    """The code runs against a double of spconv: it must go backward through the layer and look at the gradient."""
    double = """
import sys, types, torch
module, package = types.ModuleType("spconv.pytorch"), types.ModuleType("spconv")
class Conv(torch.nn.Module):
    def __init__(self, *args, **kwargs):
        super().__init__()
    def forward(self, x):
        return types.SimpleNamespace(features=x.features * {factor})
module.SubMConv3d = Conv
module.SparseConvTensor = lambda features, *rest: types.SimpleNamespace(features=features)
package.pytorch = module
sys.modules.update({{"spconv": package, "spconv.pytorch": module}})
"""
    assert doctor.probe(double.format(factor="2.0") + doctor.SPARSE_STEP) is None
    assert "AssertionError" in doctor.probe(double.format(factor="float('nan')") + doctor.SPARSE_STEP)


def test_probe_gives_the_last_line_of_the_error():
    assert doctor.probe("pass") is None
    assert "module_that_is_absent" in doctor.probe("import sys\nimport module_that_is_absent")
    assert doctor.probe("import sys; sys.exit(3)") == "ended with code 3"


def commit_all(root):
    git = ["git", "-C", str(root), "-c", "user.name=a", "-c", "user.email=a@b"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "a"]):
        subprocess.run([*git, *words], check=True)
    return subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()


def test_host(tmp_path, monkeypatch):
    root = write_host(tmp_path / "host")
    commit = commit_all(root)
    environ = {"ONEFORMER3D_ROOT": str(root)}
    found = doctor.check_host(environ, works)
    assert found[0].status == WARNING and commit in found[0].value and load_pin().commit in found[0].advice
    assert found[1] == Finding("import oneformer3d", "works")
    assert found[2].name == "PYTHONPATH" and str(root) in found[2].advice
    assert len(doctor.check_host({**environ, "PYTHONPATH": f"/a{os.pathsep}{root}"}, works)) == 2
    pin = load_pin()
    monkeypatch.setattr(doctor, "load_pin", lambda: type(pin)(pin.name, pin.repository, commit, pin.root_env))
    assert doctor.check_host(environ, works)[0].status == OK


def test_host_outside_git(tmp_path):
    found = doctor.check_host({"ONEFORMER3D_ROOT": str(write_host(tmp_path / "host"))}, works)
    assert found[0].status == WARNING and "unknown commit" in found[0].value


def test_no_host():
    (found,) = doctor.check_host({}, works)
    assert found.status == FAILURE and "git clone" in found.advice


@pytest.mark.parametrize(
    "error, advice",
    [
        ("ModuleNotFoundError: No module named 'mmcv._ext'", "mmcv-lite"),
        ("ModuleNotFoundError: No module named 'MinkowskiEngine'", "Dockerfile"),
        ("ModuleNotFoundError: No module named 'torch_scatter'", "install torch-scatter"),
        ("AssertionError: MMCV==2.2.0 is used but incompatible", "out of mmdet3d's range"),
        ("SyntaxError: invalid", "lists everything that is missing"),
    ],
)
def test_import_of_the_host(tmp_path, error, advice):
    environ = {"ONEFORMER3D_ROOT": str(write_host(tmp_path / "host"))}
    found = doctor.check_host(environ, lambda code: error)[1]
    assert (found.status, found.value) == (FAILURE, error) and advice in found.advice


def test_weights_only_trap(monkeypatch):
    monkeypatch.setattr(torch, "__version__", "2.5.1")
    assert not [found for found in doctor.check_torch() if found.name == "checkpoints"]
    monkeypatch.setattr(torch, "__version__", "2.6.0+cu126")
    monkeypatch.delenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", raising=False)
    (found,) = [found for found in doctor.check_torch() if found.name == "checkpoints"]
    assert found.status == WARNING and "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD=1" in found.advice
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    (found,) = [found for found in doctor.check_torch() if found.name == "checkpoints"]
    assert found.status == OK


def test_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", None)
    assert "install a CUDA build" in doctor.check_torch()[1].advice
    monkeypatch.setattr(torch.version, "cuda", "12.6")
    assert "nvidia-smi" in doctor.check_torch()[1].advice
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda number: f"card {number}")
    assert doctor.check_torch()[1] == Finding("GPU", "card 0, card 1")


@pytest.fixture
def gpus(monkeypatch):
    """Two GPUs, the second too old for the kernels; returns the devices that are tried."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: ((8, 6), (7, 5))[device.index])
    monkeypatch.setattr(doctor.importlib.util, "find_spec", lambda name: name)
    return []


@pytest.mark.parametrize("passed", [True, False])
def test_kernels_are_tried_anew_and_timed(gpus, passed):
    def make(device, *, times):
        assert times
        gpus.append(device.index)
        return Verdict(passed, "a reason", {"S3DIS": (18.14, 1.36)} if passed else {})

    first, second = doctor.check_kernels(make)
    assert gpus == [0]
    assert second == Finding("fused kernels, GPU 1", "compute capability below 8.0: impl='auto' takes plain torch")
    if passed:
        value = "a reason; a step of S3DIS: 1.4 ms, plain torch 18.1 ms"
        assert first == Finding("fused kernels, GPU 0", value)
    else:
        assert (first.value, first.status) == ("a reason", WARNING) and "takes plain torch here" in first.advice


def test_kernels_need_a_gpu_and_triton(gpus, monkeypatch):
    monkeypatch.setattr(doctor.importlib.util, "find_spec", lambda name: None)
    assert doctor.check_kernels() == [
        Finding("fused kernels", "triton is not installed: impl='auto' takes plain torch")
    ]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert doctor.check_kernels() == [Finding("fused kernels", "no GPU: impl='auto' takes plain torch")]


@pytest.mark.parametrize("status, code", [(OK, 0), (WARNING, 0), (FAILURE, 1)])
def test_exit_code_and_forms(monkeypatch, capsys, status, code):
    findings = [Finding("python", "3"), Finding("thing", "absent", status, "get it" if status != OK else "")]
    monkeypatch.setattr(doctor, "diagnose", lambda: findings)
    assert cli.main(["doctor"]) == code
    out = capsys.readouterr().out
    assert ("-> get it" in out) is (status != OK) and "in this order" not in out
    assert out.splitlines()[-1] == ("not ready: 1 problem" if code else "ready: training can start")
    assert cli.main(["doctor", "--json"]) == code
    report = json.loads(capsys.readouterr().out)
    assert report["ready"] is (code == 0) and report["problems"] == code and report["findings"][1]["name"] == "thing"


def test_diagnose_reports_what_is_installed_here(monkeypatch):
    monkeypatch.setattr(doctor, "check_spconv", lambda names, cuda: Finding("spconv", ", ".join(names)))
    found = {finding.name: finding for finding in doctor.diagnose({})}
    assert sys.version.split()[0] in found["python"].value
    assert torch.__version__ in found["torch"].value
    assert found["OneFormer3D"].status == FAILURE


def test_every_missing_module_at_once():
    found = doctor.check_modules(
        lambda: ["mmcv", "spconv", "numba", "lyft_dataset_sdk", "torch_scatter", "MinkowskiEngine"]
    )
    assert found.status == FAILURE
    assert found.value == "missing: numba, lyft_dataset_sdk, torch_scatter, MinkowskiEngine"  # the others have lines
    assert "install numba lyft-dataset-sdk==" in found.advice
    assert "install torch-scatter, built for your torch; build MinkowskiEngine" in found.advice
    assert doctor.check_modules(list).status == OK


def test_what_is_missing_comes_with_the_recipe(monkeypatch, capsys):
    monkeypatch.setattr(doctor, "diagnose", lambda: [Finding("imports", "missing: numba", FAILURE, "install numba")])
    assert cli.main(["doctor"]) == 1
    out = capsys.readouterr().out
    assert "in this order the host's stack installs:" in out and "mmcv==" in out
    assert out.splitlines()[-1] == "not ready: 1 problem"


@pytest.mark.parametrize("asked, spconv", [("cpu", "spconv=="), ("12.6", "spconv-cu126"), ("11.6", "spconv-cu116")])
def test_recipe_alone(asked, spconv, capsys):
    assert cli.main(["doctor", "--recipe", asked]) == 0
    out = capsys.readouterr().out
    assert f"pip install {spconv}" in out and "ready" not in out


def test_wrong_recipe(capsys):
    assert cli.main(["doctor", "--recipe", "cuda"]) == 2
    assert "--recipe takes 'cpu' or a version of CUDA such as 12.6, got 'cuda'" in capsys.readouterr().err
