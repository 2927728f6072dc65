import pytest
from roborefer_spatial.answers import NOT_VISIBLE
from roborefer_spatial.tasks import prompts

SIDE_BY_SIDE = prompts.correspondence_side_by_side("[(0.125, 0.250)]")
ALL = (prompts.CORRESPONDENCE, prompts.DIFFERENCE, SIDE_BY_SIDE)


@pytest.mark.parametrize("text", ALL)
def test_no_media_tokens_and_no_placeholders(text):
    assert "<" not in text
    assert "{" not in text


@pytest.mark.parametrize("text", ALL)
def test_the_answer_format_is_asked_for(text):
    assert "[(x, y)]" in text
    assert (NOT_VISIBLE in text) == (text is not prompts.DIFFERENCE)


def test_the_side_by_side_question_gives_its_point_and_frame():
    assert "[(0.125, 0.250)]" in SIDE_BY_SIDE
    assert "of the whole image" in SIDE_BY_SIDE


def test_a_changed_text_raises_the_version():
    """Manifests record the version: whoever changes a question raises it, and writes the new hash here."""
    import hashlib

    from roborefer_spatial.tasks import prompts

    texts = (prompts.CORRESPONDENCE, prompts.DIFFERENCE, prompts.correspondence_side_by_side("[(0.1, 0.2)]"))
    assert (prompts.VERSION, hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]) == (1, "e8c566c0b84d03f2")
