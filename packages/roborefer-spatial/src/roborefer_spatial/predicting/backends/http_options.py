"""How to reach a server, and how to sample: the options of `--backend http`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args
from urllib.parse import urlsplit

from roborefer_spatial.files import decode_json

Api = Literal["roborefer", "openai"]
TokenField = Literal["max_tokens", "max_completion_tokens"]
_OPENAI_ONLY = (
    "model", "max_new_tokens", "token_field", "temperature", "top_p", "request_seed", "extra_body", "api_key_env",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How to reach the server.

    Attributes
    ----------
    url
        "roborefer": the server's root, such as http://127.0.0.1:25547. "openai": the base URL, which usually
        ends in /v1.
    api
        Which protocol it speaks.
    model
        The model's name; "openai" only, and required there.
    max_new_tokens
        Longest answer in tokens; "openai" only (RoboRefer's server decides by itself). 64 unless given; a
        model that reasons needs thousands.
    token_field
        Name under which the server takes it: "max_tokens" (unless given) or "max_completion_tokens".
    temperature
        Of the sampling, as text: a number (0 unless given: greedy) or "server" to leave it to the server,
        where a model refuses the field. "openai" only, as are the following.
    top_p, request_seed
        Further fields of the sampling, sent only if given.
    extra_body
        JSON object whose fields are sent along, such as {"reasoning_effort": "low"}.
    enable_depth
        1 asks RoboRefer's server to use depth: that of the samples, or its own estimate; "roborefer" only.
    api_key_env
        Environment variable with the key that is sent as bearer token; "openai" only.
    timeout_s
        Seconds for one attempt at an answer.
    retries
        Further attempts, with growing pauses, after a broken connection, no answer in time, or status 429,
        502, 503 or 504.
    concurrency
        Requests under way at once.
    """

    url: str
    api: Api = "roborefer"
    model: str | None = None
    max_new_tokens: int | None = None
    token_field: TokenField | None = None
    temperature: str | None = None
    top_p: float | None = None
    request_seed: int | None = None
    extra_body: str | None = None
    enable_depth: Literal[0, 1] | None = None
    api_key_env: str | None = None
    timeout_s: float = 120.0
    retries: int = 3
    concurrency: int = 4

    def __post_init__(self) -> None:
        if self.api not in get_args(Api):
            raise ValueError(f"--api {self.api}: known are {', '.join(get_args(Api))}")
        if urlsplit(self.url).scheme not in ("http", "https"):
            raise ValueError(f"--url {self.url}: expected http://host:port or https://...")
        foreign = ("enable_depth",) if self.api == "openai" else _OPENAI_ONLY
        for name in foreign:
            if getattr(self, name) is not None:
                raise ValueError(f"--{name.replace('_', '-')} means nothing to --api {self.api}")
        if self.api == "openai" and not self.model:
            raise ValueError("--api openai needs --model, the name under which the server knows the model")
        if self.enable_depth not in (None, 0, 1):
            raise ValueError(f"--enable-depth is 0 or 1, got {self.enable_depth}")
        if self.token_field not in (None, *get_args(TokenField)):
            raise ValueError(f"--token-field {self.token_field}: known are {', '.join(get_args(TokenField))}")
        if self.max_new_tokens is not None and self.max_new_tokens < 1:
            raise ValueError(f"--max-new-tokens is {self.max_new_tokens}: expected at least 1")
        temperature_of(self.temperature)
        extra_fields(self.extra_body)
        if self.timeout_s <= 0 or self.retries < 0 or self.concurrency < 1:
            raise ValueError("--timeout-s must be above 0, --retries at least 0, --concurrency at least 1")


def temperature_of(text: str | None) -> float | None:
    """Return the temperature to send, or None to send none; ValueError unless it is a number or "server"."""
    if text is None:
        return 0.0
    if text == "server":
        return None
    try:
        value = float(text)
    except ValueError as error:
        raise ValueError(f"--temperature {text}: expected a number of at least 0, or 'server'") from error
    if not 0 <= value <= 100:
        raise ValueError(f"--temperature {text}: expected a number of at least 0, or 'server'")
    return value


def extra_fields(text: str | None) -> dict[str, Any]:
    """Return the fields of `--extra_body`; ValueError unless it is a JSON object with none of our own fields."""
    if text is None:
        return {}
    fields = decode_json(text, f"--extra-body {text}")
    if not isinstance(fields, dict):
        raise ValueError(f"--extra-body {text}: expected a JSON object")
    own = sorted({"model", "messages", "stream", "n"} & set(fields))
    if own:
        raise ValueError(f"--extra-body {text}: {', '.join(own)} cannot be set here")
    return fields
