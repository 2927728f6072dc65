from mapanything_opv2v import cli


def test_doctor_names_the_missing_root(monkeypatch, capsys):
    monkeypatch.delenv("MAPANYTHING_ROOT", raising=False)
    assert cli.main(["doctor"]) == 1
    assert "MAPANYTHING_ROOT is not set" in capsys.readouterr().out
