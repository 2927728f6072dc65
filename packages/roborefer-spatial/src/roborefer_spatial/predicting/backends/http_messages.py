"""What is sent to a server and what comes back, in RoboRefer's own protocol and in OpenAI's. No network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from roborefer_spatial.predicting.backends import Answer, Unavailable
from roborefer_spatial.predicting.backends.http_options import Options, extra_fields, temperature_of

DEFAULT_TOKENS = 64

HINTS: tuple[tuple[tuple[str, ...], str], ...] = (
    (
        ("at most", "image"),
        "the server takes fewer images a question than these samples have: raise its limit (vLLM: "
        "--limit-mm-per-prompt with 2 images), or ask side-by-side samples (t1_*_concat), which have one",
    ),
    (
        ("max_completion_tokens",),
        "--token-field max_completion_tokens sends the limit under the name that this server takes",
    ),
    (("temperature",), "--temperature server leaves the field out"),
    (("top_p",), "leave --top-p out, or give another value"),
    (
        ("maximum context length",),
        "the images and --max-new-tokens do not fit into the model's context: lower --max-new-tokens, or serve "
        "the model with a longer context",
    ),
)
"""Words of a refusal (all of them must occur) -> what to do. It concerns every sample, so the run stops."""


def message(options: Options, prompt: str, pictures: Sequence[str], depth: Sequence[str]) -> tuple[str, dict[str, Any]]:
    """Return the path below the server's URL, and the body; pictures and depth maps are base64 PNGs."""
    if options.api == "roborefer":
        # the server puts one <image> per picture directly before the text; training has a newline there
        use = options.enable_depth if options.enable_depth is not None else int(bool(depth))
        return "/query", {
            "image_url": list(pictures),
            "depth_url": list(depth) if use else [],
            "enable_depth": use,
            "text": "\n" + prompt,
        }
    content: list[dict[str, Any]] = [
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{picture}"}} for picture in pictures
    ]
    content.append({"type": "text", "text": prompt})
    body: dict[str, Any] = {
        "model": options.model,
        "messages": [{"role": "user", "content": content}],
        options.token_field or "max_tokens": options.max_new_tokens or DEFAULT_TOKENS,
    }
    sampling = {
        "temperature": temperature_of(options.temperature),
        "top_p": options.top_p,
        "seed": options.request_seed,
    }
    body |= {name: value for name, value in sampling.items() if value is not None}
    return "/chat/completions", body | extra_fields(options.extra_body)


def refusal(url: str, status: int, text: str) -> Exception:
    """Return the error of a reply with another status than 200."""
    what = f"{url}: status {status}: {excerpt(text)}"
    if status in (401, 403, 404):
        return Unavailable(f"{what}; check --url, --api and the key")
    if 400 <= status < 500:
        lower = text.lower()
        for words, hint in HINTS:
            if all(word in lower for word in words):
                return Unavailable(f"{what}; {hint}")
    return ValueError(what)


def answer(document: Any, options: Options, *, where: str, text: str) -> Answer:
    """Return the answer that a reply holds.

    Raises
    ------
    ValueError
        It is no reply of the protocol, or holds no text; the message says which, and why.
    """
    try:
        if options.api == "roborefer":
            found = document["answer"] if document["result"] == 1 else None
            if not isinstance(found, str):
                raise TypeError("the answer is not a string")
            return Answer(found)
        choice = document["choices"][0]
        said, finish = choice["message"], choice.get("finish_reason")
        content = _joined(said.get("content"))
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise not_a_reply(where, options.api, text) from error
    if content is None or (not content.strip() and finish not in (None, "stop")):
        raise ValueError(f"{where}: {_why_no_text(said, finish, options)}")
    return Answer(content, "length" if finish == "length" else None)


def _joined(content: Any) -> str | None:
    """Return the text of a message: a string, the text parts of a list, or None; TypeError for anything else."""
    if content is None or isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise TypeError("the content is neither text nor a list of parts")
    texts = [part if isinstance(part, str) else part.get("text", "") for part in content]
    if not all(isinstance(text, str) for text in texts):
        raise TypeError("a part's text is not a string")
    return "".join(texts)


def _why_no_text(said: dict[str, Any], finish: Any, options: Options) -> str:
    if finish == "length":
        limit = options.max_new_tokens or DEFAULT_TOKENS
        return (
            f"cut by max_tokens: no answer within {limit} tokens, perhaps all spent on reasoning; raise "
            "--max-new-tokens"
        )
    if said.get("refusal"):
        return f"the model refused: {excerpt(str(said['refusal']))}"
    return f"an answer without text (finish_reason {finish!r})"


def not_a_reply(url: str, api: str, text: str) -> ValueError:
    """Return the error of a reply that does not follow the protocol."""
    return ValueError(f"{url}: not a reply of the {api} protocol: {excerpt(text)}")


def excerpt(text: str) -> str:
    """Return a text's beginning, quoted."""
    return repr(text if len(text) <= 200 else text[:197] + "...")
