from mapanything_opv2v import __version__, cli


def test_doctor_names_the_missing_root(monkeypatch, capsys):
    monkeypatch.delenv("MAPANYTHING_ROOT", raising=False)
    assert cli.main(["doctor"]) == 1
    assert "MAPANYTHING_ROOT is not set" in capsys.readouterr().out


def test_doctor_finds_the_host(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("MAPANYTHING_ROOT", str(tmp_path))
    assert cli.main(["doctor"]) == 0
    assert f"mapanything-opv2v {__version__}" in capsys.readouterr().out
