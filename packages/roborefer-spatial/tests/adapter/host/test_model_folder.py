import pytest
from roborefer_spatial.host.model_folder import open_model_folder
from roborefer_spatial.host.options import flag_value


def test_what_the_config_says_is_passed_on_and_roborefers_recipe_otherwise(tmp_path, make):
    folder = make.model_folder(
        tmp_path / "m", enable_depth=False, mm_vision_select_feature="patch", s2_scales=[448, 896]
    )
    words = open_model_folder(folder).arguments()
    given = {flag: flag_value(words, flag) for flag in words[::2]}
    assert given["--enable_depth"] == "False"
    assert given["--mm_vision_select_feature"] == "patch"
    assert given["--mm_vision_select_layer"] == "-2"
    assert given["--s2_scales"] == "448,896"
    assert "--chat_template" not in given


def test_a_tokenizer_without_a_template_gets_the_hosts(tmp_path, make):
    words = open_model_folder(make.model_folder(tmp_path / "m", template=False)).arguments()
    assert flag_value(words, "--chat_template") == "qwen2"


def test_a_tokenizer_config_that_is_none_is_named(tmp_path, make):
    folder = make.model_folder(tmp_path / "m")
    (folder / "llm/tokenizer_config.json").write_text("[]")
    with pytest.raises(ValueError, match=r"tokenizer_config.json: expected a JSON object, got list"):
        open_model_folder(folder).arguments()


def test_a_folder_with_model_in_it_means_that_one(tmp_path, make):
    make.model_folder(tmp_path / "run/model")
    assert open_model_folder(tmp_path / "run").path == tmp_path / "run/model"


def test_what_is_no_checkpoint(tmp_path, make):
    with pytest.raises(ValueError, match=r"gone: no such folder; a RoboRefer checkpoint folder is wanted"):
        open_model_folder(tmp_path / "gone")
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"file: is a file; a RoboRefer checkpoint folder is wanted"):
        open_model_folder(tmp_path / "file")
    with pytest.raises(ValueError, match=r"no config.json; a RoboRefer checkpoint folder is wanted"):
        open_model_folder(tmp_path)
    with pytest.raises(ValueError, match=r"not a RoboRefer checkpoint \(no vision_tower in it\)"):
        open_model_folder(make.model_folder(tmp_path / "a", parts=("llm", "mm_projector")))
    (tmp_path / "config.json").write_text("[" * 100_000)
    with pytest.raises(ValueError, match=r"config.json: not valid JSON: nested too deeply"):
        open_model_folder(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config.json: not valid JSON"):
        open_model_folder(tmp_path)
    (make.model_folder(tmp_path / "b") / "config.json").write_text("{}")
    with pytest.raises(ValueError, match=r"config.json has no llm_cfg"):
        open_model_folder(tmp_path / "b")
    (make.model_folder(tmp_path / "lora") / "adapter_config.json").write_text("{}")
    with pytest.raises(ValueError, match="is a LoRA adapter: merge it"):
        open_model_folder(tmp_path / "lora")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"architectures": ["__import__('os')"]}, "architectures: only LlavaLlamaModel is known"),
        (
            {"image_encoder": {"_target_": "os.system"}},
            "image_encoder: must be a class of llava.model.encoders, got 'os.system'",
        ),
        ({"depth_encoder": "{"}, "config.json, depth_encoder: not valid JSON"),
        (
            {"depth_encoder": '{"_target_": "subprocess.run"}'},
            "depth_encoder: must be a class of llava.model.encoders",
        ),
    ],
)
def test_a_config_that_names_code_is_refused(tmp_path, make, config, message):
    with pytest.raises(ValueError, match=message):
        open_model_folder(make.model_folder(tmp_path / "m", **config))


def test_the_hosts_own_encoders_pass(tmp_path, make):
    encoder = '{"_target_": "llava.model.encoders.BasicImageEncoder"}'
    open_model_folder(make.model_folder(tmp_path / "m", architectures=["LlavaLlamaModel"], image_encoder=encoder))


def test_remote_code_in_a_part_is_refused(tmp_path, make):
    folder = make.model_folder(tmp_path / "m")
    (folder / "vision_tower/config.json").write_text('{"auto_map": {"AutoConfig": "evil.Config"}}')
    with pytest.raises(ValueError, match=r"vision_tower.config.json: auto_map asks to run Python files"):
        open_model_folder(folder)
