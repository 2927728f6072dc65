"""Against servers of our own that follow the two protocols."""

import base64
import json
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from PIL import Image
from roborefer_spatial.predicting import backends
from roborefer_spatial.predicting.backends import Request, Unavailable

PNG = b"\x89PNG\r\n\x1a\n"


class Server(ThreadingHTTPServer):
    """Keeps the requests; `replies` are used up first: (status, body[, headers]) each."""

    def __init__(self):
        self.seen, self.headers, self.replies, self.hold = [], [], [], None
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.seen.append((self.path, body))
        self.server.headers.append(dict(self.headers))
        if self.server.hold:
            self.server.hold.wait(10)
        extra = {}
        if self.server.replies:
            status, reply, *rest = self.server.replies.pop(0)
            extra = rest[0] if rest else {}
        elif self.path == "/query":
            status, reply = 200, {"result": 1, "answer": "answer to" + body["text"].replace("\n", " ")}
        else:
            text = body["messages"][0]["content"][-1]["text"]
            status, reply = 200, {"choices": [{"message": {"content": f"answer to {text}"}}]}
        data = reply.encode() if isinstance(reply, str) else json.dumps(reply).encode()
        self.send_response(status)
        for name, value in extra.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    server = Server()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def images(tmp_path):
    Image.new("RGB", (4, 3), "red").save(tmp_path / "a.png")
    Image.new("RGB", (4, 3), "blue").save(tmp_path / "b.jpg")
    return (tmp_path / "a.png", tmp_path / "b.jpg")


def backend(server, **given):
    given = {"url": server.url, "retries": 2} | given
    return backends.create("http", backends.options("http", given))


def test_roborefers_protocol(server, images):
    answers = backend(server).answer([Request(str(i), images, f"q{i}") for i in range(9)])
    assert answers == [f"answer to q{i}" for i in range(9)]
    path, body = server.seen[0]
    assert path == "/query"
    assert (body["enable_depth"], body["depth_url"]) == (0, [])
    assert [base64.b64decode(image)[:8] for image in body["image_url"]] == [PNG, PNG]
    assert base64.b64decode(body["image_url"][0]) == images[0].read_bytes()
    assert body["text"].startswith("\nq")
    backend(server, enable_depth=1).answer([Request("x", images, "q")])
    assert server.seen[-1][1]["enable_depth"] == 1


def test_openais_protocol(server, images, monkeypatch):
    monkeypatch.setenv("MY_KEY", "secret")
    client = backend(server, api="openai", model="vlm", url=server.url + "/v1/", api_key_env="MY_KEY")
    assert client.answer([Request("a", images, "where?")]) == ["answer to where?"]
    path, body = server.seen[0]
    assert path == "/v1/chat/completions"
    assert (body["model"], body["max_tokens"], body["temperature"]) == ("vlm", 64, 0)
    parts = body["messages"][0]["content"]
    assert [part["type"] for part in parts] == ["image_url", "image_url", "text"]
    assert all(part["image_url"]["url"].startswith("data:image/png;base64,") for part in parts[:2])
    assert server.headers[0]["Authorization"] == "Bearer secret"


def test_missing_key(server):
    with pytest.raises(ValueError, match="--api-key-env NO_SUCH_KEY: this environment variable is not set"):
        backend(server, api="openai", model="m", api_key_env="NO_SUCH_KEY")


def test_busy_servers_are_asked_again(server, images):
    server.replies = [(503, "busy"), (429, "slow down")]
    assert backend(server).answer([Request("a", images, "q")]) == ["answer to q"]
    assert len(server.seen) == 3


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        ((500, "traceback"), "/query: status 500: 'traceback'"),
        ((200, "<html>"), "/query: not a reply of the roborefer protocol: '<html>'"),
        ((200, {"result": 0, "answer": "x"}), "not a reply of the roborefer protocol"),
        ((200, {"result": 1, "answer": None}), "not a reply of the roborefer protocol"),
        ((200, []), "not a reply of the roborefer protocol: '[]'"),
    ],
)
def test_a_refused_request_is_that_samples_error(server, images, reply, message):
    client = backend(server, concurrency=1)
    server.replies = [reply]
    bad, good = client.answer([Request("a", images, "q"), Request("b", images, "r")])
    assert isinstance(bad, ValueError)
    assert message in str(bad)
    assert good == "answer to r"


def test_wrong_address_or_key_stops_the_run_and_the_others_answers_are_kept(server, images):
    server.replies = [(404, "no such path")]
    bad, good = backend(server, concurrency=1).answer([Request("a", images, "q"), Request("b", images, "r")])
    assert isinstance(bad, Unavailable)
    assert re.search("status 404: 'no such path'; check --url, --api and the key", str(bad))
    assert good == "answer to r"


def test_a_server_that_says_when_is_asked_again_then(server, images):
    server.replies = [(429, "slow down", {"Retry-After": "1"})]
    started = time.monotonic()
    assert backend(server).answer([Request("a", images, "q")]) == ["answer to q"]
    assert 1 <= time.monotonic() - started < 5
    server.replies = [(429, "quota", {"Retry-After": "3600"})]
    [error] = backend(server).answer([Request("a", images, "q")])
    assert isinstance(error, Unavailable)
    assert "status 429, and the server asks to wait 3600 s; run the same command again then" in str(error)


def test_depth_of_the_samples_reaches_roborefers_server(server, images):
    backend(server).answer([Request("a", images, "q", depth=images)])
    body = server.seen[-1][1]
    assert body["enable_depth"] == 1
    assert body["depth_url"] == body["image_url"]
    backend(server, enable_depth=0).answer([Request("a", images, "q", depth=images)])
    assert (server.seen[-1][1]["enable_depth"], server.seen[-1][1]["depth_url"]) == (0, [])


def test_an_answer_cut_short_says_so(server, images):
    choice = {"message": {"content": "[(0.1,"}, "finish_reason": "length"}
    server.replies = [(200, {"choices": [choice]})]
    client = backend(server, api="openai", model="m")
    assert client.answer([Request("a", images, "q")]) == [backends.Answer("[(0.1,", "length")]


def test_no_answer_in_time(server, images):
    server.hold = threading.Event()
    [error] = backend(server, timeout_s=0.2, retries=0).answer([Request("a", images, "q")])
    server.hold.set()
    assert isinstance(error, ValueError)
    assert re.search(r"/query: no answer within 0\.2 s in 1 attempt\(s\); see --timeout-s", str(error))


def test_unreadable_image_is_that_samples_error(server, tmp_path):
    [error] = backend(server).answer([Request("a", (Path(tmp_path / "gone.jpg"),), "q")])
    assert isinstance(error, ValueError)
    assert "gone.jpg: cannot be read" in str(error)
