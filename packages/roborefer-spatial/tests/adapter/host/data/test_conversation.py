import pytest
from roborefer_spatial.host.data.conversation import (
    check_opening,
    media_opening,
    opened_conversation,
    with_media_tokens,
)


@pytest.mark.parametrize(
    ("text", "images", "with_depth", "expected"),
    [
        ("Where?", 1, False, "<image>\nWhere?"),
        ("Where?", 2, False, "<image>\n<image>\nWhere?"),
        ("<image>\n<image>\nWhere?", 2, False, "<image>\n<image>\nWhere?"),
        ("<image>Where <image>is it?\n", 2, False, "<image>\n<image>\nWhere is it?"),
        ("<image> <depth>\nWhere?", 1, True, "<image> <depth>\nWhere?"),
        ("Where?", 0, False, "Where?"),
    ],
)
def test_with_media_tokens(text, images, with_depth, expected):
    assert with_media_tokens(text, images, with_depth=with_depth) == expected


def test_only_the_first_turn_opens_with_tokens_and_the_input_stays():
    turns = [
        {"from": "human", "value": "A"},
        {"from": "gpt", "value": "<image>B"},
        {"from": "human", "value": "C"},
    ]
    opened = opened_conversation(turns, 1)
    assert [turn["value"] for turn in opened] == ["<image>\nA", "B", "C"]
    assert turns[0]["value"] == "A"


@pytest.mark.parametrize(
    "prompt", ["Where?", "<image>\nWhere?", "<image>\n<image>\n<image>\nWhere?", "Hi <image>\n<image>\n"]
)
def test_a_wrong_opening_is_shown(prompt):
    with pytest.raises(AssertionError) as caught:
        check_opening(prompt, 2)
    assert repr(prompt) in str(caught.value)


def test_a_right_opening_passes():
    check_opening("<image>\n<image>\nWhere?", 2)
    check_opening("<image> <depth>\nWhere?", 1, with_depth=True)


@pytest.mark.parametrize(
    ("prompt", "opening"),
    [("<image>\n<image>\nWhere?", "<image>\n<image>"), ("<image> <depth>\nA", "<image> <depth>"), ("A", "")],
)
def test_media_opening(prompt, opening):
    assert media_opening(prompt) == opening
