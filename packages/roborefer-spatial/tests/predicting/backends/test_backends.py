import argparse
import dataclasses
import re

import pytest
from roborefer_spatial.predicting import backends


def parsed(*arguments):
    parser = argparse.ArgumentParser()
    backends.add_arguments(parser)
    return parser.parse_args(arguments)


def test_only_given_flags_are_options():
    args = parsed("--backend", "http", "--url", "http://h", "--retries", "0")
    assert backends.given_options(args) == {"url": "http://h", "retries": 0}
    assert backends.options("http", backends.given_options(args)).retries == 0


@pytest.mark.parametrize("name", backends.MODULES)
def test_every_field_has_a_flag(name, capsys):
    with pytest.raises(SystemExit):
        parsed("--help")
    printed = capsys.readouterr().out
    for field in dataclasses.fields(backends._module(name).Options):
        assert "--" + field.name.replace("_", "-") in printed


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("telepathy", {}, "unknown backend 'telepathy'; known: file, host, http, matcher, transformers"),
        ("transformers", {}, "backend transformers needs --model"),
        ("transformers", {"model": "m", "url": "http://h"}, "backend transformers does not take --url"),
        ("transformers", {"model": "m", "dtype": "int3"}, "--dtype int3: known are auto, float32"),
        ("transformers", {"model": "m", "max_new_tokens": 0}, "--max-new-tokens is 0: expected at least 1"),
        ("http", {"url": "h:1"}, "--url h:1: expected http://host:port or https://..."),
        ("http", {"url": "http://h", "api": "soap"}, "--api soap: known are roborefer, openai"),
        ("http", {"url": "http://h", "model": "m"}, "--model means nothing to --api roborefer"),
        (
            "http",
            {"url": "http://h", "max_new_tokens": 9},
            "--max-new-tokens means nothing to --api roborefer",
        ),
        ("http", {"url": "http://h", "api": "openai"}, "--api openai needs --model"),
        (
            "http",
            {"url": "http://h", "api": "openai", "model": "m", "enable_depth": 1},
            "--enable-depth means nothing",
        ),
        ("http", {"url": "http://h", "enable_depth": 2}, "--enable-depth is 0 or 1, got 2"),
        ("http", {"url": "http://h", "concurrency": 0}, "--concurrency at least 1"),
    ],
)
def test_bad_options(name, given, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        backends.options(name, given)
