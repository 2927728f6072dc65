import pytest
from roborefer_spatial.host.checkpoints import checkpoints, is_finished, latest_checkpoint, steps_done


def test_checkpoints_are_ordered_by_step(tmp_path, make):
    expected = [make.checkpoint(tmp_path, step) for step in (9, 10, 100)]
    (tmp_path / "tmp-checkpoint-200").mkdir()
    (tmp_path / "checkpoint-x").mkdir()
    (tmp_path / "checkpoint-300").write_text("a file")
    assert checkpoints(tmp_path) == expected
    assert latest_checkpoint(tmp_path) == expected[-1]
    assert steps_done(expected[-1]) == 100


def test_a_folder_that_is_not_there(tmp_path):
    assert checkpoints(tmp_path / "none") == []
    assert latest_checkpoint(tmp_path / "none") is None
    assert steps_done(tmp_path / "none") is None
    assert not is_finished(tmp_path / "none")


def test_an_incomplete_checkpoint_is_named_with_what_to_do(tmp_path, make):
    make.checkpoint(tmp_path, 5)
    make.checkpoint(tmp_path, 10, whole=False)
    with pytest.raises(ValueError, match=r"checkpoint-10 is incomplete \(no trainer_state.json\).*from checkpoint-5"):
        latest_checkpoint(tmp_path)


@pytest.mark.parametrize("text", ["{", "[]", "[" * 100_000, '{"global_step": Infinity}', '{"global_step": "x"}', "{}"])
def test_a_broken_state_is_named(tmp_path, text):
    (tmp_path / "trainer_state.json").write_text(text)
    with pytest.raises(ValueError, match="no trainer state of transformers"):
        steps_done(tmp_path)
