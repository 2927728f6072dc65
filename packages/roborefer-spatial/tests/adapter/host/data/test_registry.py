import pytest
import yaml
from roborefer_spatial.host.data.registry import TARGET, check_name, make_entry, registry_yaml


def test_an_entry_has_absolute_paths(tmp_path, make, monkeypatch):
    path = make.rows(tmp_path, ["A"])
    monkeypatch.chdir(tmp_path)
    assert make_entry("rows.json", image_folder=".") == {
        "_target_": TARGET,
        "data_path": str(path),
        "image_folder": str(tmp_path),
    }


def test_bad_entries(tmp_path, make):
    with pytest.raises(ValueError, match=r"data_path: .*none.json does not exist"):
        make_entry(tmp_path / "none.json")
    path = make.rows(tmp_path / "${oc.env:HOME}", ["A"])
    with pytest.raises(ValueError, match="hydra would expand"):
        make_entry(path)
    with pytest.raises(ValueError, match=r"depth_path: .* does not exist"):
        make_entry(make.rows(tmp_path, ["A"]), depth_path=tmp_path / "none")


@pytest.mark.parametrize("name", ["a+b", "a*2", "a@b", "", "2d", "a b"])
def test_names_that_the_host_would_read_otherwise(name):
    with pytest.raises(ValueError, match="mixture name"):
        check_name(name)


def test_registering_twice_does_nothing_and_taken_names_are_refused(host, make, tmp_path):
    import llava.data.builder as builder
    from roborefer_spatial.host.data.registry import register

    entry = make_entry(make.rows(tmp_path, ["A"]))
    assert register("x3", entry) == register("x3", entry) == "x3"
    other = make_entry(make.rows(tmp_path, ["A"], name="other.json"))
    with pytest.raises(ValueError, match="the host's DATASETS already has 'x3'"):
        register("x3", other)
    with pytest.raises(ValueError, match="the host's MIXTURES already has 'all_of_it'"):
        register("all_of_it", entry)
    builder.DATASETS_LEGACY["old"] = object()
    with pytest.raises(ValueError, match="DATASETS_LEGACY already has 'old'"):
        register("old", entry)


def test_files_of_one_stem_get_names_of_their_own(host, make, tmp_path):
    from roborefer_spatial.host.data.registry import register_file

    paths = [make.rows(tmp_path / folder, ["A"], name="t1 (a+b).json") for folder in "ab"]
    names = [register_file(path) for path in [*paths, paths[0]]]
    assert names == ["x3-t1--a-b-", "x3-t1--a-b--2", "x3-t1--a-b-"]


def test_the_yaml_is_found_by_the_host_and_builds_the_data_module(checkout, clean_imports, make, tmp_path, monkeypatch):
    from types import SimpleNamespace

    from roborefer_spatial.host.locate import put_on_path

    make.correct(checkout)
    path = tmp_path / "x3.yaml"
    path.write_text(registry_yaml({"x3_a": make_entry(make.rows(tmp_path, ["A", "B"]))}))
    assert yaml.safe_load(path.read_text())["x3_a"]["_target_"] == TARGET
    monkeypatch.setenv("VILA_DATASETS", f"default,{path}")
    put_on_path(checkout)
    from llava.data import make_supervised_data_module

    arguments = make.data_args(data_mixture="x3_a")
    training = SimpleNamespace(per_device_train_batch_size=1, gradient_accumulation_steps=1)
    module = make_supervised_data_module(make.tokenizer(), arguments, training)
    assert training.sample_lens == [2]
    assert module["train_dataset"][1]["image"].shape == (2, 3, 8, 8)
