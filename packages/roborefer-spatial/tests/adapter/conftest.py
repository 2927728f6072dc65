"""The double of RoboRefer as a checkout, and training files for it."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image, ImageFile
from roborefer_spatial.host.locate import Host
from roborefer_spatial.host.options import LaunchOptions

DOUBLE = Path(__file__).parent / "double"


def copy_double(folder: Path) -> Host:
    shutil.copytree(DOUBLE, folder, ignore=shutil.ignore_patterns("__pycache__"))
    data = folder / "llava/data"
    (data / "datasets_mixture.py.published").rename(data / "datasets_mixture.py")
    return Host(folder, "test")


def correct_mixture(host: Host) -> None:
    path = host.file("llava/data/datasets_mixture.py")
    path.write_text(
        path.read_text().replace(" 2D_", " d2_").replace("(2D_", "(d2_").replace(" 3D_", " d3_").replace("(3D_", "(d3_")
    )


CORRECTIONS = {
    "llava/train/llava_trainer.py": [
        ("log(self, logs)", "log(self, logs, start_time=None)"),
        (
            "    def _get_train_sampler",
            "    def _load_from_checkpoint(self):\n        pass\n\n    def _get_train_sampler",
        ),
    ],
    "llava/data/dataset.py": [
        ("data_args.data_mixture", "data_args.data_path"),
        ("        assert self", "        return self"),
    ],
    "llava/train/utils.py": [
        ("config.json", "finished"),
        ("model_dtype =", "model_dtype = training_args.model_dtype or"),
    ],
    "llava/model/language_model/llava_llama.py": [("bool = True", "bool = False")],
    "llava/model/llava_arch.py": [
        (
            "        return self.config.image",
            "        self.config.image_processor = 1\n        return self.config.image",
        )
    ],
}


def correct_all(host: Host) -> None:
    """Correct every defect of the double by hand, as a user might."""
    correct_mixture(host)
    for file, changes in CORRECTIONS.items():
        source = host.source(file)
        for old, new in changes:
            assert old in source
            source = source.replace(old, new)
        host.file(file).write_text(source)


def make_model_folder(folder: Path, *, template=True, parts=("llm", "vision_tower", "mm_projector"), **config) -> Path:
    """Write a checkpoint folder without weights."""
    for part in parts:
        (folder / part).mkdir(parents=True)
        (folder / part / "config.json").write_text("{}")
    if "llm" in parts:
        tokenizer = {"chat_template": "{{ messages }}"} if template else {}
        (folder / "llm/tokenizer_config.json").write_text(json.dumps(tokenizer))
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"llm_cfg": {}, **config}))
    return folder


def make_checkpoint(folder: Path, step: int, *, whole=True) -> Path:
    """Write a checkpoint-N without weights."""
    path = folder / f"checkpoint-{step}"
    (path / "llm").mkdir(parents=True)
    (path / "config.json").write_text("{}")
    if whole:
        (path / "trainer_state.json").write_text(f'{{"global_step": {step}}}')
    return path


@pytest.fixture
def checkout(tmp_path):
    """The double as published, not imported."""
    return copy_double(tmp_path / "RoboRefer")


@pytest.fixture(autouse=True)
def whole_torchvision(monkeypatch):
    """Whatever torchvision this machine has, the tests of the other repairs do not see it."""
    monkeypatch.setattr("roborefer_spatial.host.repairs.inspection.torchvision_lacks_operators", lambda: False)


@pytest.fixture
def clean_imports(monkeypatch):
    """Forget the double, its import repairs and its Pillow setting when a test ends."""
    tolerant, finders, path = ImageFile.LOAD_TRUNCATED_IMAGES, list(sys.meta_path), list(sys.path)
    yield
    ImageFile.LOAD_TRUNCATED_IMAGES = tolerant
    sys.meta_path[:], sys.path[:] = finders, path
    for name in [name for name in sys.modules if name.split(".")[0] in ("llava", "s2wrapper")]:
        del sys.modules[name]


@pytest.fixture
def host(checkout, clean_imports, monkeypatch):
    """The double, imported with the import repairs."""
    from roborefer_spatial.host.locate import put_on_path
    from roborefer_spatial.host.repairs import inspection
    from roborefer_spatial.host.repairs.table import apply_repairs

    monkeypatch.setattr(inspection, "installed", lambda package: package not in ("flash_attn", "s2wrapper"))
    put_on_path(checkout)
    apply_repairs(checkout, LaunchOptions(), {"import"})
    return checkout


def write_rows(folder: Path, answers, *, name="rows.json", images=2, size_wh=(16, 8), depth=None) -> Path:
    """Write a training file with its images; `depth` is a Pillow mode."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    rows = []
    for index, answer in enumerate(answers):
        names = [f"{Path(name).stem}_{index}_{number}.png" for number in range(images)]
        for file in names:
            pixels = rng.integers(0, 256, (size_wh[1], size_wh[0], 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / file)
            if depth:
                Image.fromarray(pixels).convert(depth).save(folder / f"depth_{file}")
        turns = [{"from": "human", "value": "Where is it?"}, {"from": "gpt", "value": answer}]
        row = {"id": str(index), "image": names, "conversations": turns}
        rows.append(row | ({"depth": [f"depth_{file}" for file in names]} if depth else {}))
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / name).write_text(lines if name.endswith(".jsonl") else json.dumps(rows))
    return folder / name


def make_data_args(mode="resize", **more):
    return SimpleNamespace(
        image_aspect_ratio=mode, image_processor=SimpleNamespace(size={"height": 8, "width": 8}),
        min_tiles=1, max_tiles=12, s2_scales=[8, 16], **more,
    )  # fmt: skip


def make_tokenizer(*, depth=False, limit=4096):
    from llava.train.train import Tokenizer

    tokenizer = Tokenizer()
    tokenizer.model_max_length = limit
    if depth:
        tokenizer.media_tokens = {**tokenizer.media_tokens, "depth": "<depth>"}
        tokenizer.media_token_ids = {**tokenizer.media_token_ids, "depth": 2}
        tokenizer.__class__ = _depth_tokenizer(Tokenizer)
    return tokenizer


def _depth_tokenizer(base):
    class DepthTokenizer(base):
        def __call__(self, text, add_special_tokens=True):
            ids = []
            for index, piece in enumerate(text.split("<depth>")):
                ids += ([2] if index else []) + super().__call__(piece).input_ids
            return SimpleNamespace(input_ids=ids)

    return DepthTokenizer


@pytest.fixture
def make():
    """What tests make things with."""
    return SimpleNamespace(
        rows=write_rows, data_args=make_data_args, tokenizer=make_tokenizer, correct=correct_mixture,
        correct_all=correct_all, model_folder=make_model_folder, checkpoint=make_checkpoint,
    )  # fmt: skip


@pytest.fixture
def run_python(checkout):
    """Run a module in a fresh process with the double as its host; return the finished process."""

    def run(module, *words, root=None, env=None):
        import os

        variables = {**os.environ, "ROBOREFER_ROOT": str(root or checkout.root), **(env or {})}
        command = [sys.executable, "-m", module, *map(str, words)]
        return subprocess.run(command, capture_output=True, text=True, env=variables, timeout=240)

    return run
