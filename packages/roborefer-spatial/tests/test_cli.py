from roborefer_spatial import __version__, cli


def test_doctor_names_the_missing_root(monkeypatch, capsys):
    monkeypatch.delenv("ROBOREFER_ROOT", raising=False)
    assert cli.main(["doctor"]) == 1
    assert "ROBOREFER_ROOT is not set" in capsys.readouterr().out


def test_doctor_finds_the_host(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("ROBOREFER_ROOT", str(tmp_path))
    assert cli.main(["doctor"]) == 0
    assert f"roborefer-spatial {__version__}" in capsys.readouterr().out
