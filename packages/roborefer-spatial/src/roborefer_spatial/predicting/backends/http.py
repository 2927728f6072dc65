"""Servers: RoboRefer's own `/query`, and OpenAI-compatible ones such as vLLM, SGLang and llama.cpp.

What the two protocols say stands in `http_messages`; here is how a server is reached.
"""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from PIL import Image

from roborefer_spatial.images import read_rgb, refuse_turned
from roborefer_spatial.predicting.backends import Answer, Reply, Request, Unavailable, http_messages
from roborefer_spatial.predicting.backends.http_options import Options

RETRIED_STATUS = (429, 502, 503, 504)
LONGEST_PAUSE_S = 120
EXTRA = ""
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def same_answers(options: Options) -> frozenset[str]:
    """Name the options that do not change answers: an OpenAI server's model has a name, wherever it runs."""
    names = {"timeout_s", "retries", "concurrency", "api_key_env"}
    return frozenset(names | {"url"} if options.api == "openai" else names)


def takes_depth(options: Options) -> bool:
    """Whether depth maps reach the model: RoboRefer's own protocol has a place for them."""
    return options.api == "roborefer"


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

        class Patient(Retry):
            def sleep_for_retry(self, response: Any) -> bool:
                pause = self.get_retry_after(response)
                if pause is not None and pause > LONGEST_PAUSE_S:
                    raise Unavailable(
                        f"{options.url}: status {response.status}, and the server asks to wait {pause:.0f} s; run "
                        "the same command again then"
                    )
                return super().sleep_for_retry(response)

        retry = Patient(
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

    def answer(self, requests: Sequence[Request]) -> list[Reply]:
        """Ask all requests at once; one that the server refuses has its exception in its place."""
        with ThreadPoolExecutor(self.options.concurrency) as pool:
            return list(pool.map(self._guarded, requests))

    def _guarded(self, request: Request) -> Reply:
        try:
            answer = self._ask(request)
            return answer if answer.finish else answer.text
        except (ValueError, Unavailable) as error:  # in this one's place: the others' answers are kept
            return error

    def _ask(self, request: Request) -> Answer:
        import requests

        pictures = [_png_base64(path) for path in request.images]
        depth = [_png_base64(path) for path in request.depth or ()]
        path, body = http_messages.message(self.options, request.prompt, pictures, depth)
        url = self.options.url.rstrip("/") + path
        try:
            reply = self.session.post(url, json=body, timeout=self.options.timeout_s)
        except requests.RequestException as error:
            tries = f"{self.options.retries + 1} attempt(s)"
            if "Read timed out" in str(error):  # after retries it arrives as a ConnectionError
                limit = f"{self.options.timeout_s:g} s"
                raise ValueError(f"{url}: no answer within {limit} in {tries}; see --timeout-s") from error
            raise Unavailable(f"{url}: cannot be reached after {tries}: {error}") from error
        if reply.status_code != 200:
            raise http_messages.refusal(url, reply.status_code, reply.text)
        try:
            document = reply.json()
        except ValueError as error:
            raise http_messages.not_a_reply(url, self.options.api, reply.text) from error
        return http_messages.answer(document, self.options, where=url, text=reply.text)


def _png_base64(path: Path) -> str:
    """Return the image as base64 PNG, the format that RoboRefer's server stores it under."""
    data = path.read_bytes() if path.is_file() else b""
    if data.startswith(_PNG_SIGNATURE):
        refuse_turned(data, path)
    else:
        buffer = io.BytesIO()
        Image.fromarray(read_rgb(path)).save(buffer, "PNG")
        data = buffer.getvalue()
    return base64.b64encode(data).decode("ascii")
