import json
import re

import pytest
from roborefer_spatial.predicting import backends
from roborefer_spatial.predicting.backends import Unavailable, http_messages
from roborefer_spatial.predicting.backends.http_messages import answer, message, refusal

OPENAI = {"url": "http://h/v1", "api": "openai", "model": "m"}


def options(**given):
    return backends.options("http", OPENAI | given)


def body(**given):
    return message(options(**given), "where?", ["AA", "BB"], [])[1]


def read(choice, **given):
    document = {"choices": [choice]}
    return answer(document, options(**given), where="http://h", text=json.dumps(document))


def test_what_is_sent_unless_asked_otherwise():
    sent = body()
    assert {key: value for key, value in sent.items() if key != "messages"} == {
        "model": "m", "max_tokens": 64, "temperature": 0.0,
    }  # fmt: skip
    [turn] = sent["messages"]
    assert [part["type"] for part in turn["content"]] == ["image_url", "image_url", "text"]


def test_the_fields_that_reasoning_models_want():
    sent = body(
        token_field="max_completion_tokens", max_new_tokens=4096, temperature="server", top_p=0.9, request_seed=7,
        extra_body='{"reasoning_effort": "low"}',
    )  # fmt: skip
    assert {key: value for key, value in sent.items() if key not in ("messages", "model")} == {
        "max_completion_tokens": 4096, "top_p": 0.9, "seed": 7, "reasoning_effort": "low",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"temperature": "hot"}, "--temperature hot: expected a number of at least 0, or 'server'"),
        ({"temperature": "-1"}, "--temperature -1: expected a number"),
        ({"temperature": "nan"}, "--temperature nan: expected a number"),
        ({"extra_body": "{"}, "--extra-body {: not valid JSON"),
        ({"extra_body": "[]"}, "--extra-body []: expected a JSON object"),
        ({"extra_body": '{"messages": []}'}, "messages cannot be set here"),
        ({"token_field": "tokens"}, "--token-field tokens: known are max_tokens, max_completion_tokens"),
        ({"max_new_tokens": 0}, "--max-new-tokens is 0: expected at least 1"),
    ],
)
def test_bad_options(given, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        options(**given)


@pytest.mark.parametrize(
    ("choice", "text", "finish"),
    [
        ({"message": {"content": "a"}, "finish_reason": "stop"}, "a", None),
        ({"message": {"content": "a"}}, "a", None),
        ({"message": {"content": ""}, "finish_reason": "stop"}, "", None),
        ({"message": {"content": "a (0."}, "finish_reason": "length"}, "a (0.", "length"),
        ({"message": {"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}}, "ab", None),
        ({"message": {"content": [{"type": "reasoning"}, "b"]}}, "b", None),
    ],
)
def test_texts(choice, text, finish):
    assert (read(choice).text, read(choice).finish) == (text, finish)


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        ({"message": {"content": None}, "finish_reason": "length"}, "cut by max_tokens: no answer within 64 tokens"),
        ({"message": {"content": ""}, "finish_reason": "length"}, "raise --max-new-tokens"),
        ({"message": {"content": None, "refusal": "I will not"}}, "the model refused: 'I will not'"),
        ({"message": {"content": None}, "finish_reason": "content_filter"}, "(finish_reason 'content_filter')"),
        ({"message": {"content": 3}}, "not a reply of the openai protocol"),
        ({"message": {"content": [{"text": 3}]}}, "not a reply of the openai protocol"),
        ({"message": None}, "not a reply of the openai protocol"),
        ({}, "not a reply of the openai protocol"),
    ],
)
def test_replies_without_text_say_why(choice, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        read(choice)


@pytest.mark.parametrize(
    ("status", "text", "hint"),
    [
        (400, "At most 1 image(s) may be provided in one prompt.", "--limit-mm-per-prompt with 2 images"),
        (
            400,
            "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens'",
            "--token-field max_completion_tokens",
        ),
        (400, "'temperature' does not support 0 with this model", "--temperature server leaves the field out"),
        (400, "This model's maximum context length is 4096 tokens", "lower --max-new-tokens"),
        (401, "no key", "check --url, --api and the key"),
    ],
)
def test_what_concerns_every_sample_stops_the_run_with_a_hint(status, text, hint):
    error = refusal("http://h", status, text)
    assert isinstance(error, Unavailable)
    assert hint in str(error) and f"status {status}" in str(error)


@pytest.mark.parametrize(("status", "text"), [(400, "this image is broken"), (500, "temperature of the GPU")])
def test_other_refusals_are_one_samples_error(status, text):
    error = refusal("http://h", status, text)
    assert isinstance(error, ValueError)
    assert str(error) == f"http://h: status {status}: {text!r}"


def test_every_hint_is_tested_above():
    tested = [mark.args[1] for mark in test_what_concerns_every_sample_stops_the_run_with_a_hint.pytestmark]
    hints = [hint for _, hint in http_messages.HINTS if "--top-p" not in hint]
    assert all(any(case[2] in hint for case in tested[0]) for hint in hints)
