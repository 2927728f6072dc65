"""What the host's stack consists of: which versions go together, what to install in which order, what is missing.

Versions stand in the package's pyproject, under `[tool.influencer-mmdet3d]`; this is the only place that reads them.
"""

from __future__ import annotations

import importlib.util
import shlex
from collections.abc import Iterable

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from influencer_mmdet3d.host.pin import load_pin, settings

SPCONV_WHEELS = ("102", "113", "114", "116", "117", "118", "120", "121", "124", "126")
"""CUDA versions that have a wheel `spconv-cu...`, looked up on 2026-11-20."""

MODULES = {
    "mmengine": "mmengine",
    "mmcv": "mmcv",
    "mmdet": "mmdet",
    "mmdet3d": "mmdet3d",
    "spconv": "spconv",
    "torch_scatter": "torch-scatter",
    "MinkowskiEngine": "MinkowskiEngine",
    "pkg_resources": "setuptools",
    "cv2": "opencv-python",
    "scipy": "scipy",
    "numba": "numba",
    "pandas": "pandas",
    "pycocotools": "pycocotools",
    "shapely": "shapely",
    "terminaltables": "terminaltables",
    "plyfile": "plyfile",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "trimesh": "trimesh",
    "networkx": "networkx",
    "tensorboard": "tensorboard",
    "six": "six",
    "cachetools": "cachetools",
    "fire": "fire",
    "pyquaternion": "pyquaternion",
    "nuscenes": "nuscenes-devkit",
    "lyft_dataset_sdk": "lyft-dataset-sdk",
}
"""Modules that an import of the host needs, its own and those of what it imports, and the name to install each by."""

IMPORT_ADVICE = {
    "mmcv._ext": "mmcv-lite has no compiled ops: pip uninstall mmcv-lite, then install mmcv",
    "MinkowskiEngine": "build MinkowskiEngine as the host's Dockerfile shows: the host imports it in any case",
    "torch_scatter": "install torch-scatter, built for your torch",
    "spconv": "the line of spconv in `influencer-mmdet3d doctor` names the wheel for your CUDA",
    "AssertionError": "a version is out of mmdet3d's range: see the lines of mmcv, mmengine and mmdet in "
    "`influencer-mmdet3d doctor`",
}
"""What to do about an import error that contains the name."""

_SEE_DOCTOR = "`influencer-mmdet3d doctor` lists everything that is missing, and in which order to install it"


def import_advice(error: str) -> str:
    """Return what to do about an import error, by its text."""
    return next((text for name, text in IMPORT_ADVICE.items() if name in error), _SEE_DOCTOR)


def version_ranges() -> dict[str, SpecifierSet]:
    """Return the versions of the OpenMMLab packages that go together, by name."""
    wanted = [Requirement(text) for text in settings()["host"]["versions"]]
    return {requirement.name: requirement.specifier for requirement in wanted}


def pinned(name: str) -> str:
    """Return the requirement by which this package's own environment installs a distribution, e.g. 'mmdet3d==1.4.0'."""
    environment = settings()["environment"]
    listed = [*environment["requires"], *environment["requires-no-deps"]]
    return next((text for text in listed if Requirement(text).name == name), name)


def missing_modules() -> list[str]:
    """Return all modules of `MODULES` that are not there; nothing is imported."""
    return [name for name in MODULES if importlib.util.find_spec(name) is None]


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


def install_steps(cuda: str | None) -> list[str]:
    """Return the shell lines that install the host's stack, in order; comments say what no line can.

    Parameters
    ----------
    cuda : str, optional
        Version of CUDA, e.g. '12.6'; None for a machine without a GPU.
    """
    environment = settings()["environment"]
    apart = {"torch", "numpy", "setuptools", "mmengine", "mmcv-lite", "spconv", *environment["tests"]}
    rest = [text for text in environment["requires"] if Requirement(text).name not in apart]
    alone = [text for text in environment["requires-no-deps"] if Requirement(text).name not in apart]
    mmcv = pinned("mmcv-lite").replace("mmcv-lite", "mmcv")
    spconv = fitting_spconv(cuda)
    build = f"CUDA {cuda}" if cuda else "CPU"
    flags = "--cpu_only" if cuda is None else "--force_cuda"
    return [
        f"# 1. torch for {build}: PyTorch's page 'Start Locally' has the index line (older CUDA: 'Previous Versions')",
        _pip([pinned("torch")] if cuda is None else ["torch"]),
        "# 2. what the builds below expect",
        _pip([pinned("numpy"), pinned("setuptools"), "wheel", pinned("mmengine")]),
        "# 3. mmcv with its ops: for some versions of torch there is a wheel, with the -f line of mmcv's page",
        "#    'Installation'; else pip builds it, which takes a compiler and a while",
        _pip([mmcv], "--no-build-isolation"),
        "# 4. the frameworks without what they ask for, and of that what is needed",
        _pip(alone, "--no-deps"),
        _pip([pinned("numpy"), *rest]),  # again: the newest plyfile would lift it, and the host needs the older one
        f"# 5. spconv for {build}" if spconv else f"# 5. spconv has no wheel for {build}: build it from source",
        *([_pip([spconv if cuda else pinned("spconv")])] if spconv else []),
        "# 6. torch-scatter: wheels with the -f line of its page 'Installation', else a build",
        _pip(["torch-scatter"], "--no-build-isolation"),
        f"# 7. MinkowskiEngine, without a wheel: build the commit of the host's Dockerfile with {flags} and OpenBLAS",
        "# 8. the host itself",
        load_pin().how_to_get,
    ]


def _pip(wanted: Iterable[str], *options: str) -> str:
    return shlex.join(["python", "-m", "pip", "install", *options, *wanted])
