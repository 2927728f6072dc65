import pytest
from roborefer_spatial.predicting import backends
from roborefer_spatial.predicting.backends import Request


def test_answers_by_id(tmp_path):
    path = tmp_path / "Location.jsonl"
    path.write_text('{"question_id": 1, "answer": "(0.1, 0.2)"}\n')
    options = backends.options("file", {"answers": path, "id_key": "question_id", "text_key": "answer"})
    found, missing = backends.create("file", options).answer([Request("1", (), ""), Request("2", (), "")])
    assert found == "(0.1, 0.2)"
    assert isinstance(missing, ValueError)
    assert str(missing) == f"{path} holds no answer for id '2'"


def test_no_file(tmp_path):
    with pytest.raises(ValueError, match="no such file"):
        backends.create("file", backends.options("file", {"answers": tmp_path / "gone.jsonl"}))
