"""`doctor`: what is installed, whether training can start with it, and what to do about each thing that is amiss.

Imports that may fail are tried in a process of their own, with the host on its path.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, distributions, version
from pathlib import Path

import torch
from packaging.version import Version

from influencer_mmdet3d.host.pin import host_root, load_pin

OK, WARNING, FAILURE = "ok", "warning", "failure"
SPCONV_WHEELS = ("102", "113", "114", "116", "117", "118", "120", "121", "124", "126")
"""CUDA versions with a `spconv-cu...` wheel on PyPI, looked up on 2026-11-20."""

RANGES = {
    "mmengine": ("0.7.3", "1.0.0"),
    "mmcv": ("2.0.0", "2.2.0"),
    "mmdet": ("3.0.0", "3.4.0"),
    "mmdet3d": ("1.1.0", "1.5.0"),
}
"""Versions from (included) and up to (not included) that go together, as mmdet3d asserts on import."""

SPARSE_STEP = """
import torch, spconv.pytorch as spconv
device = "cuda" if torch.cuda.is_available() else "cpu"
voxels = torch.tensor([[0, 0, 0, 0], [0, 0, 0, 1], [0, 1, 0, 0]], dtype=torch.int32, device=device)
features = torch.ones(3, 4, device=device, requires_grad=True)
convolution = spconv.SubMConv3d(4, 8, 3, indice_key="a").to(device)
convolution(spconv.SparseConvTensor(features, voxels, [8, 8, 8], 1)).features.sum().backward()
assert features.grad.isfinite().all()
"""

Probe = Callable[[str], "str | None"]


@dataclass(frozen=True)
class Finding:
    """One line of the report: `advice` says what to do and is empty when all is well."""

    name: str
    value: str
    status: str = OK
    advice: str = ""


def probe(code: str) -> str | None:
    """Run Python code with the host on the path; return None, or the last line of its error."""
    env = dict(os.environ)
    root = env.get(load_pin().root_env)
    env["PYTHONPATH"] = os.pathsep.join(filter(None, [root, env.get("PYTHONPATH")]))
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    if done.returncode == 0:
        return None
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    return lines[-1] if lines else f"ended with code {done.returncode}"


def installed_version(name: str) -> str | None:
    """Return the version of a distribution, or None."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def check_python() -> Finding:
    """Python's version."""
    return Finding("python", f"{sys.version.split()[0]} ({sys.executable})")


def check_torch() -> list[Finding]:
    """Torch, its CUDA, the GPUs, and the loading of checkpoints."""
    build = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "built without CUDA"
    findings = [Finding("torch", f"{torch.__version__}, {build}")]
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
        findings.append(Finding("GPU", ", ".join(names)))
    else:
        advice = "training the host takes a GPU with 24 GB or more" + (
            "; the driver does not serve this torch: compare `nvidia-smi` with the CUDA version above"
            if torch.version.cuda
            else "; install a CUDA build of torch"
        )
        findings.append(Finding("GPU", "none that torch can use", WARNING, advice))
    if Version(torch.__version__) >= Version("2.6"):
        findings.append(
            Finding(
                "checkpoints",
                "this torch refuses mmengine's checkpoints (weights_only)",
                OK if os.environ.get("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD") == "1" else WARNING,
                "the train and eval launchers set TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD=1 after checking what is in the "
                "file; set it yourself when you call the host's tools directly",
            )
        )
    return findings


def check_frameworks(find: Callable[[str], str | None] = installed_version) -> list[Finding]:
    """mmengine, mmcv, mmdet and mmdet3d against the ranges that go together."""
    findings = []
    for name, (low, high) in RANGES.items():
        wanted = f">= {low}, < {high}"
        found = find(name)
        if name == "mmcv" and (lite := find("mmcv-lite")) is not None:
            if found is not None:
                advice = "both overwrite each other's files: pip uninstall mmcv mmcv-lite, then install mmcv"
                findings.append(Finding("mmcv", f"{found} and mmcv-lite {lite}", FAILURE, advice))
                continue
            name, found = "mmcv-lite", lite
        if found is None:
            findings.append(Finding(name, "not installed", FAILURE, f"install {name} {wanted}"))
        elif not Version(low) <= Version(found) < Version(high):
            advice = f"mmdet3d raises AssertionError on import: install {name} {wanted}"
            findings.append(Finding(name, found, FAILURE, advice))
        elif name == "mmcv-lite":
            advice = f"it has no compiled ops, which the host imports: replace it by mmcv {wanted}"
            findings.append(Finding(name, found, WARNING, advice))
        else:
            findings.append(Finding(name, found))
    return findings


def fitting_spconv(cuda: str | None) -> str | None:
    """Return the wheel for torch's CUDA version: its own, or the highest below it of the same major version.

    >>> fitting_spconv("11.6"), fitting_spconv("12.8"), fitting_spconv(None)
    ('spconv-cu116', 'spconv-cu126', 'spconv')
    """
    if cuda is None:
        return "spconv"
    major, minor = (int(part) for part in cuda.split(".")[:2])
    minors = [int(wheel[2:]) for wheel in SPCONV_WHEELS if int(wheel[:2]) == major and int(wheel[2:]) <= minor]
    return f"spconv-cu{major}{max(minors)}" if minors else None


def check_spconv(names: list[str], cuda: str | None, run: Probe = probe) -> Finding:
    """The installed spconv wheel against torch's CUDA, and one step forward and backward through it."""
    fitting = fitting_spconv(cuda)
    if fitting is None:
        return Finding(
            "spconv",
            ", ".join(names) or "not installed",
            WARNING,
            f"there is no wheel for CUDA {cuda}: build spconv from source, or install torch for CUDA 12.6",
        )
    value = ", ".join(f"{name} {installed_version(name) or '?'}" for name in names) or "not installed"
    install = f"pip install {fitting} (torch's CUDA: {cuda or 'none'})"
    if len(names) > 1:
        return Finding("spconv", value, FAILURE, f"one only: pip uninstall {' '.join(names)} and cumm*, then {install}")
    if not names:
        return Finding("spconv", value, FAILURE, install)
    if error := run(SPARSE_STEP):
        advice = f"a training step through one layer fails: {error}. "
        if names != [fitting]:
            advice += f"pip uninstall {names[0]} and its cumm, then {install}"
        elif cuda is None:
            advice += "spconv's backward pass asks for a CUDA stream: training needs a GPU"
        return Finding("spconv", value, FAILURE, advice.strip())
    value += ", a training step through one layer works"
    if names != [fitting]:
        return Finding("spconv", value, WARNING, f"{fitting} is the wheel for torch's CUDA {cuda or '(none)'}")
    return Finding("spconv", value)


def check_host(environ: Mapping[str, str], run: Probe = probe) -> list[Finding]:
    """The host's checkout: where, at which commit, and whether it can be imported."""
    pin = load_pin()
    try:
        root = host_root(environ)
    except ValueError as error:
        return [Finding(pin.name, "no checkout", FAILURE, str(error))]
    commit = _commit(root)
    if commit == pin.commit:
        findings = [Finding(pin.name, f"{root} at the pin {commit[:10]}")]
    else:
        advice = f"tested with {pin.commit}: git -C {root} checkout {pin.commit}"
        findings = [Finding(pin.name, f"{root} at {commit or 'an unknown commit'}", WARNING, advice)]
    if failed := run("import oneformer3d"):
        advice = next((text for name, text in IMPORT_ADVICE.items() if name in failed), "solve this import first")
        findings.append(Finding("import oneformer3d", failed, FAILURE, advice))
    else:
        findings.append(Finding("import oneformer3d", "works"))
    if str(root) not in [
        str(Path(entry).resolve()) for entry in environ.get("PYTHONPATH", "").split(os.pathsep) if entry
    ]:
        advice = f"the launchers add it; for your own commands: export PYTHONPATH={root}${{PYTHONPATH:+:$PYTHONPATH}}"
        findings.append(Finding("PYTHONPATH", f"does not contain {root}", WARNING, advice))
    return findings


IMPORT_ADVICE = {
    "mmcv._ext": "mmcv-lite has no compiled ops: install mmcv itself",
    "MinkowskiEngine": "the host imports it even for spconv models: build it as the host's Dockerfile shows",
    "torch_scatter": "pip install torch-scatter, built for your torch",
    "spconv": "see the line of spconv",
    "AssertionError": "a version is out of mmdet3d's range: see the lines of mmcv, mmengine and mmdet",
}
"""What to do about an import error that contains the name."""


def diagnose(environ: Mapping[str, str] = os.environ) -> list[Finding]:
    """Return every finding, in the order of installation."""
    names = sorted(
        name for found in distributions() if (name := (found.metadata["Name"] or "").lower()).startswith("spconv")
    )
    return [
        check_python(),
        Finding("influencer-mmdet3d", version("influencer-mmdet3d")),
        *check_torch(),
        *check_frameworks(),
        check_spconv(list(dict.fromkeys(names)), torch.version.cuda),
        *check_host(environ),
    ]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `doctor`."""
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")


def run(args: argparse.Namespace) -> int:
    """Print the findings; 0 if training can start, 1 if something stands in its way."""
    findings = diagnose()
    ready = all(finding.status != FAILURE for finding in findings)
    if args.json:
        print(json.dumps({"ready": ready, "findings": [asdict(finding) for finding in findings]}, indent=2))
        return 0 if ready else 1
    width = max(len(finding.name) for finding in findings)
    for finding in findings:
        print(f"{finding.status:8} {finding.name:{width}}  {finding.value}")
        if finding.advice and finding.status != OK:
            print(f"{'':{width + 9}}  -> {finding.advice}")
    print("training can start" if ready else "training cannot start: see the failures above")
    return 0 if ready else 1


def _commit(root: Path) -> str:
    """Return the commit of a checkout, or an empty string if git cannot tell."""
    try:
        done = subprocess.run(["git", "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True)
    except FileNotFoundError:  # no git
        return ""
    return done.stdout.strip()
