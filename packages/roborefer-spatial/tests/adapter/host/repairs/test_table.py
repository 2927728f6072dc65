import logging
from dataclasses import replace
from types import SimpleNamespace

import pytest
from roborefer_spatial.host.options import LaunchOptions
from roborefer_spatial.host.repairs import inspection
from roborefer_spatial.host.repairs.table import NAMES, REPAIRS, apply_repairs, check_names

LATE = {"model", "train"}


def repaired(host, name, *words):
    """Import the training code and make one repair, if it is needed."""
    import llava.model.builder
    import llava.train.train  # noqa: F401

    others = frozenset(NAMES) - {name}
    options = LaunchOptions(host_arguments=words, without=others)
    assert apply_repairs(host, options, LATE) == [name]


def test_names_are_unique_and_unknown_ones_are_refused():
    assert len(set(NAMES)) == len(NAMES) == len(REPAIRS)
    assert check_names(["packing", "resume"]) == {"packing", "resume"}
    with pytest.raises(ValueError, match=r"no repair paking; there are torchvision, mixture-syntax, "):
        check_names(["paking"])


def test_a_published_host_is_imported_and_its_file_is_left_alone(checkout, clean_imports, monkeypatch):
    from roborefer_spatial.host.locate import put_on_path

    monkeypatch.setattr(inspection, "installed", lambda package: package not in ("flash_attn", "s2wrapper"))
    path = checkout.file(inspection.MIXTURE)
    before = path.read_bytes()
    put_on_path(checkout)
    assert apply_repairs(checkout, LaunchOptions(), {"import"}) == [
        "mixture-syntax",
        "intern-flash-attn",
        "s2wrapper",
    ]
    from llava.data import datasets_mixture

    datasets_mixture.register_datasets_mixtures()
    assert list(datasets_mixture.DATASETS_LEGACY) == [
        "2D_choice_qa",
        "3D_vacant_qa_RGB",
        "simulation_dataset",
    ]
    assert path.read_bytes() == before


def test_torchvision_is_repaired_where_it_lacks_its_operators(checkout, clean_imports, monkeypatch):
    made = []
    monkeypatch.setattr(inspection, "installed", lambda package: True)
    monkeypatch.setattr(inspection, "torchvision_lacks_operators", lambda: True)
    monkeypatch.setattr("roborefer_spatial.torchvision_cpu.make_importable", lambda: made.append(1))
    assert apply_repairs(checkout, LaunchOptions(), {"import"}) == ["torchvision", "mixture-syntax"]
    assert made == [1]


def test_no_repair_is_made_where_no_defect_is(checkout, monkeypatch):
    clean = [replace(repair, present=lambda host: False, apply=None) for repair in REPAIRS]
    monkeypatch.setattr("roborefer_spatial.host.repairs.table.REPAIRS", clean)
    assert apply_repairs(checkout, LaunchOptions(), {"import", "model", "train"}) == []


def test_a_repair_switched_off_is_said(checkout, caplog, clean_imports, monkeypatch):
    monkeypatch.setattr(inspection, "installed", lambda package: True)
    with caplog.at_level(logging.WARNING):
        assert apply_repairs(checkout, LaunchOptions(without=frozenset({"mixture-syntax"})), {"import"}) == []
    assert "repair mixture-syntax is switched off" in caplog.text


def test_a_mixture_file_beyond_repair_is_named(checkout, clean_imports, monkeypatch):
    from roborefer_spatial.host.api import import_host
    from roborefer_spatial.host.locate import put_on_path

    monkeypatch.setattr(inspection, "installed", lambda package: package not in ("flash_attn", "s2wrapper"))
    path = checkout.file(inspection.MIXTURE)
    path.write_text(path.read_text() + "\nelse\n")
    put_on_path(checkout)
    apply_repairs(checkout, LaunchOptions(), {"import"})
    with pytest.raises(ImportError, match=r"datasets_mixture.py, line .*: still not valid Python"):
        import_host("llava.data")


def test_a_repair_is_made_once(host):
    assert apply_repairs(host, LaunchOptions(), {"import"}) == []


def test_the_launcher_must_come_first(host, monkeypatch):
    import llava.data  # noqa: F401

    monkeypatch.setattr("roborefer_spatial.host.repairs.table._MADE", set())
    with pytest.raises(RuntimeError, match="already imported: the launcher must come first"):
        apply_repairs(host, LaunchOptions(), {"import"})


def test_stand_ins_raise_when_they_are_used(host):
    from llava.model.multimodal_encoder.siglip_encoder import FlashAttention, VisionTower

    with pytest.raises(ImportError, match="needs flash-attn"):
        FlashAttention()
    with pytest.raises(ImportError, match="--s2 needs s2wrapper"):
        VisionTower.scaled(None, None)


def test_attention_asks_for_sdpa_and_leaves_other_choices(host):
    repaired(host, "attention")
    from llava.model import LlavaLlamaModel

    config = SimpleNamespace(image_aspect_ratio="resize")
    model = LlavaLlamaModel(config, attn_implementation="flash_attention_2")
    assert model.llm == {"attn_implementation": "sdpa"}
    assert model.vision_tower.vision_tower.attn_implementation == "sdpa"
    assert LlavaLlamaModel(config, attn_implementation="eager").llm == {"attn_implementation": "eager"}


def test_packing_is_off_unless_asked_for(host):
    repaired(host, "packing")
    from llava.model import LlavaLlamaModel

    assert LlavaLlamaModel.forward(None) == {"packing": False}
    assert LlavaLlamaModel.forward(None, packing=True) == {"packing": True}


@pytest.mark.parametrize("mode", ["resize", "dynamic"])
def test_generate_content_has_a_processor_and_the_config_stays_savable(host, mode):
    repaired(host, "generate-content")
    from llava.model import LlavaLlamaModel

    model = LlavaLlamaModel(SimpleNamespace(image_aspect_ratio=mode))
    assert model.generate_content("Q") == model.generate_content("Q") == "the tower's"
    assert not hasattr(model.config, "image_processor")


def trainer(model=None, **arguments):
    from llava.train.llava_trainer import LLaVATrainer

    return LLaVATrainer(model, SimpleNamespace(**arguments), [], None)


def test_log_takes_a_second_argument(host, tmp_path):
    with pytest.raises(TypeError):
        trainer(output_dir=tmp_path).log({"loss": 1.0}, 0.0)
    repaired(host, "trainer-log")
    trainer(output_dir=tmp_path).log({"loss": 1.0}, 0.0)
    assert (tmp_path / "log.jsonl").read_text() == '{"loss": 1.0}\n'


def test_resume_leaves_out_the_load_only_if_the_model_comes_from_there(host, tmp_path):
    (tmp_path / "llm").mkdir()
    model = SimpleNamespace(config=SimpleNamespace(resume_path=str(tmp_path)))
    with pytest.raises(ValueError, match="Can't find a valid checkpoint"):
        trainer(model)._load_from_checkpoint(str(tmp_path))
    repaired(host, "resume")
    assert trainer(model)._load_from_checkpoint(str(tmp_path)) is None
    elsewhere = SimpleNamespace(config=SimpleNamespace(resume_path=str(tmp_path / "llm")))
    with pytest.raises(ValueError, match="is to be resumed, but the model was built from"):
        trainer(elsewhere)._load_from_checkpoint(str(tmp_path))
    (tmp_path / "llm").rmdir()
    with pytest.raises(ValueError, match="Can't find a valid checkpoint"):  # the host's own, for another layout
        trainer(model)._load_from_checkpoint(str(tmp_path))


def finished(folder, *, step, checkpoint=None):
    for place in [folder] + ([folder / f"checkpoint-{checkpoint}"] if checkpoint else []):
        (place / "llm").mkdir(parents=True, exist_ok=True)
        (place / "config.json").write_text("{}")
        (place / "trainer_state.json").write_text(f'{{"global_step": {step}}}')
    return str(folder)


def test_a_finished_folder_is_said(host, tmp_path, caplog):
    repaired(host, "finished-directory", "--max_steps", "5")
    from llava.train import train

    folder = finished(tmp_path / "out", step=5)
    with caplog.at_level(logging.WARNING):
        assert train.get_checkpoint_path(folder) == (folder, False)
    assert "is finished (5 steps): nothing is trained" in caplog.text
    assert train.get_checkpoint_path(str(tmp_path / "new")) == (None, True)


def test_a_finished_folder_goes_on_if_more_steps_are_asked_for(host, tmp_path):
    repaired(host, "finished-directory", "--max_steps=9")
    from llava.train import train

    folder = finished(tmp_path / "kept", step=5, checkpoint=5)
    assert train.get_checkpoint_path(folder) == (f"{folder}/checkpoint-5", True)
    with pytest.raises(ValueError, match="is finished at step 5, --max_steps asks for 9, and no checkpoint-N"):
        train.get_checkpoint_path(finished(tmp_path / "lost", step=5))


@pytest.mark.parametrize(
    ("words", "dtype"), [(("--model_dtype", "torch.float32"), "torch.float32"), ((), "torch.float16")]
)
def test_model_dtype_is_obeyed_where_it_is_given(host, words, dtype):
    repaired(host, "model-dtype", *words)
    from llava.train import train

    config = SimpleNamespace()
    train.prepare_config_for_training(config, None, SimpleNamespace(bf16="False"), None)
    assert config.model_dtype == dtype


def test_model_dtype_must_be_one(host):
    import llava.train.train  # noqa: F401

    options = LaunchOptions(host_arguments=("--model_dtype", "__import__('os')"))
    with pytest.raises(ValueError, match=r"--model_dtype must be one of torch.float32"):
        apply_repairs(host, options, {"train"})


def data_module(make, data_path, mixture="", **more):
    from llava.train import train

    arguments = make.data_args(data_path=data_path, data_mixture=mixture, image_folder=None, **more)
    training = SimpleNamespace(per_device_train_batch_size=1, gradient_accumulation_steps=1)
    return train.make_supervised_data_module(make.tokenizer(), arguments, training), training


def test_data_path_trains_on_files(host, make, tmp_path):
    files = [make.rows(tmp_path, answers, name=name) for name, answers in (("b.json", "AB"), ("a.jsonl", "CDE"))]
    with pytest.raises(ValueError, match="Dataset '' is not found"):
        data_module(make, str(files[0]))
    repaired(host, "data-path")
    module, training = data_module(make, ",".join(map(str, files)))
    assert training.sample_lens == [3, 2]  # the host sorts a mixture by name
    assert len(module["train_dataset"]) == 5
    module, training = data_module(make, None, "x3-a")
    assert training.sample_lens == [3]


def test_data_path_and_a_mixture_exclude_each_other(host, make, tmp_path):
    repaired(host, "data-path")
    with pytest.raises(ValueError, match='only one of them can be obeyed; pass --data_mixture ""'):
        data_module(make, str(make.rows(tmp_path, ["A"])), "llava_1_5_mm_align")


def test_a_comma_in_a_file_name_is_no_separator(tmp_path, make):
    from roborefer_spatial.host.repairs.training import split_data_paths

    path = str(make.rows(tmp_path, ["A"], name="a,b.json"))
    assert split_data_paths(path) == [path]
    assert split_data_paths("a.json,b.json") == ["a.json", "b.json"]


def test_refspatial_sets_work_with_resize(host, make, tmp_path, monkeypatch):
    repaired(host, "spatial-dataset", "--image_aspect_ratio", "resize")
    from llava.data import datasets_mixture

    monkeypatch.setattr(datasets_mixture, "register_datasets_mixtures", lambda: None)
    old = SimpleNamespace(data_path=str(make.rows(tmp_path, ["A"])), image_path=str(tmp_path), depth_path=None)
    monkeypatch.setitem(datasets_mixture.DATASETS_LEGACY, "old", old)
    module, _ = data_module(make, None, "old")
    assert module["train_dataset"][0]["image"].shape == (2, 3, 8, 8)


def test_the_hosts_class_stays_in_the_tiled_modes(host):
    from llava.data import dataset

    own = dataset.LazySupervisedSpatialDataset
    repaired(host, "spatial-dataset", "--image_aspect_ratio", "dynamic")
    assert dataset.LazySupervisedSpatialDataset is own


def test_options_read_the_hosts_words():
    options = LaunchOptions(host_arguments=("--a", "1", "--b=2", "--a", "3"))
    assert (options.value("--a"), options.value("--b"), options.value("--c", "x")) == ("3", "2", "x")
    assert replace(options, host_arguments=("--a",)).value("--a") is None
