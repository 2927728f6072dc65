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


def test_answers_by_position(tmp_path):
    path = tmp_path / "samples_x3.jsonl"
    path.write_text('{"doc_id": 1, "filtered_resps": ["B"]}\n{"doc_id": 0, "filtered_resps": ["A"]}\n')
    backend = backends.create("file", backends.options("file", {"answers": path}))
    requests = [Request(name, (), "", position=index) for index, name in enumerate("xyz")]
    first, second, missing = backend.answer(requests)
    assert (first, second) == ("A", "B")
    assert str(missing) == f"{path} holds no answer for position '2'"


def test_bad_by(tmp_path):
    with pytest.raises(ValueError, match="--by name: known are id, position"):
        backends.options("file", {"answers": tmp_path, "by": "name"})
