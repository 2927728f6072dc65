import pytest
import yaml
from roborefer_spatial import cli


def register(*words):
    return cli.main(["register", *map(str, words)])


def test_it_writes_what_vila_datasets_takes(make, tmp_path, capsys):
    path = make.rows(tmp_path, ["A"])
    assert register("--out", tmp_path / "x3.yaml", f"x3_t1={path}", f"x3_t2b={path}") == 0
    assert f"VILA_DATASETS=default,{tmp_path}/x3.yaml" in capsys.readouterr().out
    assert list(yaml.safe_load((tmp_path / "x3.yaml").read_text())) == ["x3_t1", "x3_t2b"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["x3"], "must be NAME=FILE"),
        (["x+3=a"], "mixture name 'x+3'"),
        (["x3=none.json"], "none.json does not exist"),
    ],
)
def test_bad_words(tmp_path, capsys, words, message):
    assert register("--out", tmp_path / "x3.yaml", *words) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "x3.yaml").exists()


def test_a_name_given_twice_and_a_path_that_the_host_would_split(make, tmp_path, capsys):
    path = make.rows(tmp_path, ["A"])
    assert register("--out", tmp_path / "x3.yaml", f"a={path}", f"a={path}") == 2
    assert "'a' is given twice" in capsys.readouterr().err
    assert register("--out", tmp_path / "x,3.yaml", f"a={path}") == 2
    assert "splits VILA_DATASETS at commas" in capsys.readouterr().err


def test_the_shipped_yaml_names_the_data_module():
    from importlib.resources import files

    from roborefer_spatial.host.data.registry import TARGET, check_name

    entries = yaml.safe_load((files("roborefer_spatial") / "configs/datasets.yaml").read_text())
    assert {entry["_target_"] for entry in entries.values()} == {TARGET}
    assert all(check_name(name) and set(entry) == {"_target_", "data_path"} for name, entry in entries.items())
