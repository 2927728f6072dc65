"""Servers: RoboRefer's own `/query`, and OpenAI-compatible ones such as vLLM, SGLang and llama.cpp."""

from __future__ import annotations

import argparse
import base64
import io
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args
from urllib.parse import urlsplit

from PIL import Image

from roborefer_spatial.images import read_rgb
from roborefer_spatial.predicting.backends import Request, Unavailable

Api = Literal["roborefer", "openai"]
RETRIED_STATUS = (429, 502, 503, 504)
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


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
        Longest answer in tokens; "openai" only (RoboRefer's server decides by itself). 64 unless given.
    enable_depth
        1 asks RoboRefer's server to estimate depth; "roborefer" only.
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
    enable_depth: int | None = None
    api_key_env: str | None = None
    timeout_s: float = 120.0
    retries: int = 3
    concurrency: int = 4

    def __post_init__(self) -> None:
        if self.api not in get_args(Api):
            raise ValueError(f"--api {self.api}: known are {', '.join(get_args(Api))}")
        if urlsplit(self.url).scheme not in ("http", "https"):
            raise ValueError(f"--url {self.url}: expected http://host:port or https://...")
        foreign = ("enable_depth",) if self.api == "openai" else ("model", "max_new_tokens", "api_key_env")
        for name in foreign:
            if getattr(self, name) is not None:
                raise ValueError(f"--{name.replace('_', '-')} means nothing to --api {self.api}")
        if self.api == "openai" and not self.model:
            raise ValueError("--api openai needs --model, the name under which the server knows the model")
        if self.enable_depth not in (None, 0, 1):
            raise ValueError(f"--enable-depth is 0 or 1, got {self.enable_depth}")
        if self.timeout_s <= 0 or self.retries < 0 or self.concurrency < 1:
            raise ValueError("--timeout-s must be above 0, --retries at least 0, --concurrency at least 1")


def add_arguments(group: argparse._ArgumentGroup) -> None:
    """Add this backend's flags."""
    add = group.add_argument
    add("--url", default=argparse.SUPPRESS, help="server, e.g. http://127.0.0.1:25547 or http://host:8000/v1")
    add("--api", choices=get_args(Api), default=argparse.SUPPRESS, help="protocol (default: roborefer)")
    add("--enable-depth", type=int, choices=(0, 1), default=argparse.SUPPRESS, help="roborefer: use depth")
    add("--api-key-env", default=argparse.SUPPRESS, help="openai: environment variable that holds the key")
    add("--timeout-s", type=float, default=argparse.SUPPRESS, help="seconds for one answer (default: 120)")
    add("--retries", type=int, default=argparse.SUPPRESS, help="attempts after a failed one (default: 3)")
    add("--concurrency", type=int, default=argparse.SUPPRESS, help="requests under way at once (default: 4)")


def create(options: Options) -> HttpBackend:
    """Return the client; the first request shows whether the server is there."""
    return HttpBackend(options)


class HttpBackend:
    """Asks a server, several requests at a time."""

    def __init__(self, options: Options) -> None:
        import requests
        from urllib3.util.retry import Retry

        self.options = options
        self.session = requests.Session()
        retry = Retry(
            total=options.retries,
            backoff_factor=0.5,
            status_forcelist=RETRIED_STATUS,
            allowed_methods=None,
            raise_on_status=False,
        )
        adapter = requests.adapters.HTTPAdapter(max_retries=retry, pool_maxsize=options.concurrency)
        self.session.mount("http://", adapter)
        self.session.mount("https://", adapter)
        if options.api_key_env is not None:
            if options.api_key_env not in os.environ:
                raise ValueError(f"--api-key-env {options.api_key_env}: this environment variable is not set")
            self.session.headers["Authorization"] = f"Bearer {os.environ[options.api_key_env]}"

    def answer(self, requests: Sequence[Request]) -> list[str | Exception]:
        """Ask all requests at once; one that the server refuses has its exception in its place."""
        with ThreadPoolExecutor(self.options.concurrency) as pool:
            return list(pool.map(self._guarded, requests))

    def _guarded(self, request: Request) -> str | Exception:
        try:
            return self._ask(request)
        except ValueError as error:
            return error

    def _ask(self, request: Request) -> str:
        import requests

        path, body = self._message(request)
        url = self.options.url.rstrip("/") + path
        try:
            reply = self.session.post(url, json=body, timeout=self.options.timeout_s)
        except requests.RequestException as error:
            tries = f"{self.options.retries + 1} attempt(s)"
            if "Read timed out" in str(error):  # after retries it arrives as a ConnectionError
                limit = f"{self.options.timeout_s:g} s"
                raise ValueError(f"{url}: no answer within {limit} in {tries}; see --timeout-s") from error
            raise Unavailable(f"{url}: cannot be reached after {tries}: {error}") from error
        if reply.status_code in (401, 403, 404):
            raise Unavailable(
                f"{url}: status {reply.status_code}: {_excerpt(reply.text)}; check --url, --api and the key"
            )
        if reply.status_code != 200:
            raise ValueError(f"{url}: status {reply.status_code}: {_excerpt(reply.text)}")
        try:
            return self._text(reply.json())
        except (ValueError, KeyError, IndexError, TypeError) as error:
            raise ValueError(
                f"{url}: not a reply of the {self.options.api} protocol: {_excerpt(reply.text)}"
            ) from error

    def _message(self, request: Request) -> tuple[str, dict[str, Any]]:
        pictures = [_png_base64(path) for path in request.images]
        if self.options.api == "roborefer":
            # the server puts one <image> per picture directly before the text; training has a newline there
            text = "\n" + request.prompt
            depth = self.options.enable_depth or 0
            return "/query", {"image_url": pictures, "depth_url": [], "enable_depth": depth, "text": text}
        content: list[dict[str, Any]] = [
            {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{picture}"}} for picture in pictures
        ]
        content.append({"type": "text", "text": request.prompt})
        return "/chat/completions", {
            "model": self.options.model,
            "messages": [{"role": "user", "content": content}],
            "max_tokens": self.options.max_new_tokens or 64,
            "temperature": 0,
        }

    def _text(self, reply: Any) -> str:
        if self.options.api == "roborefer":
            text = reply["answer"] if reply["result"] == 1 else None
        else:
            text = reply["choices"][0]["message"]["content"]
        if not isinstance(text, str):
            raise TypeError("the answer is not a string")
        return text


def _png_base64(path: Path) -> str:
    """Return the image as base64 PNG, the format that RoboRefer's server stores it under."""
    data = path.read_bytes() if path.is_file() else b""
    if not data.startswith(_PNG_SIGNATURE):
        buffer = io.BytesIO()
        Image.fromarray(read_rgb(path)).save(buffer, "PNG")
        data = buffer.getvalue()
    return base64.b64encode(data).decode("ascii")


def _excerpt(text: str) -> str:
    return repr(text if len(text) <= 200 else text[:197] + "...")
