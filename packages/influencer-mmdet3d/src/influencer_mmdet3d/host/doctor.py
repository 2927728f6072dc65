"""`doctor`: what is installed, whether training can start with it, and what to do about each thing that is amiss.

Imports that may fail are tried in a process of their own, with the host on its path.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, distributions, version
from pathlib import Path

import torch
from packaging.version import Version

from influencer_mmdet3d.host.pin import host_root, load_pin
from influencer_mmdet3d.host.recipe import (
    IMPORT_ADVICE,
    MODULES,
    fitting_spconv,
    import_advice,
    install_steps,
    missing_modules,
    pinned,
    version_ranges,
)
from influencer_mmdet3d.loss.kernels.trial import Verdict, make_trial
from influencer_mmdet3d.terminal import DONE, FAILED

OK, WARNING, FAILURE = "ok", "warning", "failure"
INSTALLED = ("mmengine", "mmcv", "mmcv-lite", "mmdet", "mmdet3d", "spconv", "imports")
"""Findings that an installation mends."""

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
    """mmengine, mmcv, mmdet and mmdet3d against the versions that go together."""
    findings = []
    for name, versions in version_ranges().items():
        wanted = f"{name} {versions}"
        found = find(name)
        if name == "mmcv" and (lite := find("mmcv-lite")) is not None:
            if found is not None:
                advice = "both overwrite each other's files: pip uninstall mmcv mmcv-lite, then install mmcv"
                findings.append(Finding("mmcv", f"{found} and mmcv-lite {lite}", FAILURE, advice))
                continue
            name, found = "mmcv-lite", lite
        if found is None:
            findings.append(Finding(name, "not installed", FAILURE, f"install {wanted}"))
        elif Version(found) not in versions:
            advice = f"mmdet3d raises AssertionError on import: install {wanted}"
            findings.append(Finding(name, found, FAILURE, advice))
        elif name == "mmcv-lite":
            advice = f"it has no compiled ops, which the host imports: replace it by {wanted}"
            findings.append(Finding(name, found, WARNING, advice))
        else:
            findings.append(Finding(name, found))
    return findings


def check_modules(find: Callable[[], list[str]] = missing_modules) -> Finding:
    """Every other module that the host or mmdet3d imports and that is not there, all at once."""
    missing = [name for name in find() if name not in version_ranges() and name != "spconv"]
    if not missing:
        return Finding("imports", "all that the host needs are there")
    special = [IMPORT_ADVICE[name] for name in missing if name in IMPORT_ADVICE]
    usual = " ".join(pinned(MODULES[name]) for name in missing if name not in IMPORT_ADVICE)
    advice = "; ".join([*([f"install {usual}"] if usual else []), *special])
    return Finding("imports", f"missing: {', '.join(missing)}", FAILURE, advice)


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
        findings.append(Finding("import oneformer3d", failed, FAILURE, import_advice(failed)))
    else:
        findings.append(Finding("import oneformer3d", "works"))
    if str(root) not in [
        str(Path(entry).resolve()) for entry in environ.get("PYTHONPATH", "").split(os.pathsep) if entry
    ]:
        advice = f"the launchers add it; for your own commands: export PYTHONPATH={root}${{PYTHONPATH:+:$PYTHONPATH}}"
        findings.append(Finding("PYTHONPATH", f"does not contain {root}", WARNING, advice))
    return findings


def check_kernels(make: Callable[..., Verdict] = make_trial) -> list[Finding]:
    """The fused kernels, tried anew against plain torch on every GPU, and timed."""
    if importlib.util.find_spec("triton") is None or not torch.cuda.is_available():
        missing = "no GPU" if not torch.cuda.is_available() else "triton is not installed"
        return [Finding("fused kernels", f"{missing}: impl='auto' takes plain torch")]
    findings = []
    for number in range(torch.cuda.device_count()):
        device = torch.device("cuda", number)
        name = f"fused kernels, GPU {number}"
        if torch.cuda.get_device_capability(device) < (8, 0):
            findings.append(Finding(name, "compute capability below 8.0: impl='auto' takes plain torch"))
            continue
        found = make(device, times=True)
        value = f"{found.reason}" + "".join(
            f"; a step of {size}: {fused:.1f} ms, plain torch {plain:.1f} ms"
            for size, (plain, fused) in found.times.items()
        )
        if found.passed:
            findings.append(Finding(name, value))
        else:
            advice = "impl='auto' takes plain torch here, which is right but slower; please report this line"
            findings.append(Finding(name, value, WARNING, advice))
    return findings


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
        check_modules(),
        *check_host(environ),
        *check_kernels(),
    ]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `doctor`."""
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")
    parser.add_argument(
        "--recipe",
        metavar="CUDA",
        help="only print how to install the host's stack, for a version of CUDA (12.6) or for 'cpu'",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the findings; 0 if training can start, 1 if something stands in its way."""
    if args.recipe:
        print(*install_steps(_cuda_version(args.recipe)), sep="\n")
        return DONE
    findings = diagnose()
    problems = sum(finding.status == FAILURE for finding in findings)
    if args.json:
        report = {"ready": not problems, "problems": problems, "findings": [asdict(finding) for finding in findings]}
        print(json.dumps(report, indent=2))
        return FAILED if problems else DONE
    width = max(len(finding.name) for finding in findings)
    for finding in findings:
        print(f"{finding.status:8} {finding.name:{width}}  {finding.value}")
        if finding.advice and finding.status != OK:
            print(f"{'':{width + 9}}  -> {finding.advice}")
    if any(finding.status == FAILURE and finding.name in INSTALLED for finding in findings):
        print("\nin this order the host's stack installs:", *install_steps(torch.version.cuda), "", sep="\n")
    print(f"not ready: {problems} problem{'s' * (problems > 1)}" if problems else "ready: training can start")
    return FAILED if problems else DONE


def _cuda_version(text: str) -> str | None:
    """Return the version of CUDA that `--recipe` asks for, None for a CPU."""
    if text == "cpu":
        return None
    if not re.fullmatch(r"\d+\.\d+", text):
        raise ValueError(f"--recipe takes 'cpu' or a version of CUDA such as 12.6, got {text!r}")
    return text


def _commit(root: Path) -> str:
    """Return the commit of a checkout, or an empty string if git cannot tell."""
    try:
        done = subprocess.run(["git", "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True)
    except FileNotFoundError:  # no git
        return ""
    return done.stdout.strip()
