from types import SimpleNamespace

import pytest
from roborefer_spatial.host.repairs import inspection

FILES = {
    "trainer": "llava/train/llava_trainer.py",
    "dataset": "llava/data/dataset.py",
    "utils": "llava/train/utils.py",
    "model": "llava/model/language_model/llava_llama.py",
    "architecture": "llava/model/llava_arch.py",
    "vision": "llava/model/multimodal_encoder/vision_encoder.py",
}

# What sees a defect, where it is, and a text that takes the place of another to correct it.
CASES = [
    (inspection.log_lacks_start_time, "trainer", "log(self, logs)", "log(self, logs, start_time=None)"),
    (inspection.log_lacks_start_time, "trainer", "log(self, logs)", "log(self, logs, *rest)"),
    (inspection.data_path_is_unread, "dataset", "data_args.data_mixture", "data_args.data_path"),
    (inspection.spatial_dataset_needs_tiles, "dataset", "        assert self", "        return self"),
    (inspection.finished_means_any_config, "utils", "config.json", "finished"),
    (inspection.resume_wants_flat_weights, "trainer", "def _get_train_sampler", "def _load_from_checkpoint"),
    (inspection.model_dtype_is_ignored, "utils", "dtype = ", "dtype = training_args.model_dtype or "),
    (inspection.packs_by_default, "model", "bool = True", "bool = False"),
    (
        inspection.generation_lacks_processor,
        "architecture",
        "        if self.",
        "        x.image_processor = 1\n        if self.",
    ),
    (inspection.imports_s2wrapper, "vision", "from s2wrapper", "def late():\n    from s2wrapper"),
]


@pytest.mark.parametrize(("is_there", "file", "old", "new"), CASES)
def test_a_defect_is_seen_where_it_is_and_not_where_it_is_not(checkout, is_there, file, old, new):
    assert is_there(checkout)
    source = checkout.source(FILES[file])
    assert old in source
    checkout.file(FILES[file]).write_text(source.replace(old, new))
    assert not is_there(checkout)


def test_the_mixture(checkout, make):
    assert inspection.mixture_is_invalid(checkout)
    make.correct(checkout)
    assert not inspection.mixture_is_invalid(checkout)


def test_a_broken_checkout_is_named(checkout):
    checkout.file("llava/train/utils.py").unlink()
    with pytest.raises(FileNotFoundError, match=r"utils.py is missing: .*RoboRefer \(test\) is not a whole"):
        inspection.model_dtype_is_ignored(checkout)


def test_installed():
    assert inspection.installed("json")
    assert not inspection.installed("no_such_package_at_all")


@pytest.mark.parametrize(
    ("torch", "source", "refused"),
    [
        ("2.5.1", "torch.load(path)", False),
        ("2.13.0+cpu", "torch.load(path)", True),
        ("2.6.0", "torch.load(path, weights_only=False)", False),
    ],
)
def test_deepspeed_checkpoints(tmp_path, monkeypatch, torch, source, refused):
    loader = tmp_path / "deepspeed" / inspection.DEEPSPEED_LOADER
    loader.parent.mkdir(parents=True)
    loader.write_text(source)
    spec = SimpleNamespace(origin=str(tmp_path / "deepspeed/__init__.py"))
    monkeypatch.setattr(inspection, "find_spec", lambda name: spec)
    monkeypatch.setattr(inspection, "version", lambda name: torch)
    assert inspection.deepspeed_checkpoint_is_refused() == refused
    monkeypatch.setattr(inspection, "find_spec", lambda name: None)
    assert not inspection.deepspeed_checkpoint_is_refused()
