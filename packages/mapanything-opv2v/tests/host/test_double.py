"""The double of the CI tests and the real BaseDataset agree."""

from __future__ import annotations

import importlib
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mapanything_opv2v.commands import doctor

CASES = {
    "pinhole": ("OPV2VDataset", {"resolution": (56, 42), "num_views": 3}),
    "cooperative pinhole": ("OPV2VCoopDataset", {"resolution": (40, 40), "num_views": 5}),
    "augmented crop": ("OPV2VCoopDataset", {"resolution": (56, 42), "num_views": 2, "aug_crop": 8}),
    "panorama": ("OPV2VCylindricalDataset", {"resolution": (112, 28), "num_views": 1}),
    "cooperative panorama": ("OPV2VCoopCylindricalDataset", {"resolution": (112, 28), "num_views": 2}),
}


def views_of(datasets, town, name, options):
    dataset = getattr(datasets, name)(
        ROOT=town.root,
        depth_root=town.depth_root,
        split="train",
        seed=5,
        transform="imgnorm",
        data_norm_type="dinov2",
        **options,
    )
    return [view for index in range(len(dataset)) for view in dataset[index]]


@pytest.fixture
def double_datasets(monkeypatch):
    """Our dataset classes on the double; the real ones are back afterwards."""
    path = Path(__file__).parents[1] / "host_double.py"
    spec = importlib.util.spec_from_file_location("opv2v_host_double", path)
    double = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(double)
    ours = [n for n in sys.modules if n == "mapanything_opv2v.host" or n.startswith("mapanything_opv2v.host.")]
    for name in ours:
        monkeypatch.delitem(sys.modules, name)
    for name, module in double.modules().items():
        monkeypatch.setitem(sys.modules, name, module)
    yield importlib.import_module("mapanything_opv2v.host.datasets")
    double.clear()


@pytest.mark.parametrize("case", CASES)
def test_same_views_from_the_double_and_the_host(datasets, double_datasets, small_town, case):
    name, options = CASES[case]
    real = views_of(datasets, small_town, name, options)
    ours = views_of(double_datasets, small_town, name, options)
    assert len(real) == len(ours)
    for a, b in zip(real, ours):
        assert set(a) == set(b)
        for key in a:
            assert type(a[key]) is type(b[key]), key
            if isinstance(a[key], (np.ndarray, torch.Tensor)):
                assert a[key].dtype == b[key].dtype and a[key].shape == b[key].shape, key
                x, y = np.asarray(a[key], dtype=np.float64), np.asarray(b[key], dtype=np.float64)
                assert np.abs(x - y).mean() < 1e-3 * (1 + np.abs(x).mean()), key
            else:
                assert a[key] == b[key], key


def test_same_constructor_and_wrappers(datasets, small_town):
    import inspect

    from mapanything.datasets.base import base_dataset, easy_dataset

    path = Path(__file__).parents[1] / "host_double.py"
    spec = importlib.util.spec_from_file_location("opv2v_host_double", path)
    double = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(double)
    names = inspect.signature(base_dataset.BaseDataset.__init__).parameters
    mine = inspect.signature(double.BaseDataset.__init__).parameters
    assert list(names) == list(mine)
    for name, parameter in names.items():
        assert parameter.default == mine[name].default, name
    for cls in ("EasyDataset", "MulDataset", "ResizedDataset", "CatDataset"):
        assert hasattr(easy_dataset, cls) and hasattr(double, cls)


def test_same_signatures_of_what_the_launcher_replaces(datasets):
    import inspect

    path = Path(__file__).parents[1] / "training_double.py"
    spec = importlib.util.spec_from_file_location("opv2v_training_double", path)
    double = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(double)
    for functions, module in (
        (double.TOOLS, "mapanything.utils.train_tools"),
        (double.TRAINING, "mapanything.train.training"),
    ):
        for function in functions:
            real = inspect.signature(getattr(importlib.import_module(module), function.__name__))
            assert list(real.parameters) == list(inspect.signature(function).parameters), function.__name__


def test_same_losses_and_model():
    """Signatures and protocol of the double's losses and model; what they compute is compared in test_losses."""
    import inspect

    import mapanything.models as host_models
    import mapanything.train.training as host_training

    path = Path(__file__).parents[1] / "host_double_training.py"
    spec = importlib.util.spec_from_file_location("opv2v_host_double_training", path)
    double = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(double)

    def options(cls):
        return {
            name: parameter.default
            for name, parameter in inspect.signature(cls.__init__).parameters.items()
            if name != "self" and parameter.kind is parameter.POSITIONAL_OR_KEYWORD
        }

    for cls in double.LOSSES:
        real = getattr(host_training, cls.__name__)
        if "PixelLoss" not in cls.__name__:  # the double's take any option
            assert options(cls) == options(real), cls
        assert issubclass(real, host_training.MultiLoss) == issubclass(cls, double.MultiLoss), cls
        assert all(hasattr(real, name) for name in vars(cls) if not name.startswith("_")), cls
    model = options(host_models.MapAnything)
    assert options(double.MapAnything).items() <= model.items()
    for name in ("_encode_n_views", "_load_pretrained_weights", "forward", "infer"):
        assert hasattr(host_models.MapAnything, name)
        first = [
            list(inspect.signature(getattr(cls, name)).parameters)[:2]
            for cls in (double.MapAnything, host_models.MapAnything)
        ]
        assert first[0] == first[1]
    assert host_models.MODEL_CONFIGS["mapanything"] == {"class": host_models.MapAnything}


def test_the_pin_names_what_the_host_imports(host_root):
    """Of the modules that registering our names brings in: those that the host's own files and uniception import."""
    code = (
        "import ast, json, sys\n"
        "from mapanything_opv2v.host import torchvision_ops\n"
        "from mapanything_opv2v.host.register import register\n"
        "torchvision_ops.define_missing()\n"
        "register()\n"
        "loaded, wanted = {name.split('.')[0] for name in sys.modules}, set()\n"
        "for module in list(sys.modules.values()):\n"
        "    path = getattr(module, '__file__', None) or ''\n"
        "    if path.startswith(sys.argv[1]) or '/uniception/' in path:\n"
        "        for node in ast.walk(ast.parse(open(path).read())):\n"
        "            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []\n"
        "            names += [node.module] if isinstance(node, ast.ImportFrom) and node.level == 0 else []\n"
        "            wanted |= {name.split('.')[0] for name in names}\n"
        "print(json.dumps(sorted(wanted & loaded - set(sys.stdlib_module_names) - {'mapanything'})))\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(host_root)], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.splitlines()[-1]) == sorted(doctor.pin()["imports"])
