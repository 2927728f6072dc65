"""Pages hold together: escaped names, a closed policy, arrays that come back."""

import base64
import hashlib
import json
import re

import numpy as np
from mapanything_opv2v.views import html

ATTACK = "</script><img src=x onerror=\"document.title='owned'\">"


def data_of(text):
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)[1])


def write(path, **changes):
    values = {
        "title": ATTACK,
        "facts": {"scene": ATTACK},
        "body": "panels.html",
        "scripts": ("panels.js",),
        "data": {"name": ATTACK},
        **changes,
    }
    html.write_page(path, **values)
    return path.read_text()


def test_untrusted_text_is_text(tmp_path):
    text = write(tmp_path / "deep" / "page.html")
    assert text.count("<script") == text.count("</script>") == 2
    assert "<img" not in text and 'onerror="' not in text
    assert "<title>&lt;/script&gt;&lt;img" in text
    assert data_of(text)["name"] == ATTACK
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["page.html"]


def test_braces_in_names_are_not_placeholders(tmp_path):
    text = write(tmp_path / "p.html", title="{{script}}", facts={"{{data}}": "{{css}}"}, data={"name": "{{title}}"})
    assert "<title>{{script}}</title>" in text and "{{data}} <b>{{css}}</b>" in text
    assert data_of(text)["name"] == "{{title}}"


def test_only_the_pages_own_script_and_style_may_act_and_nothing_is_loaded(tmp_path):
    text = write(tmp_path / "p.html")
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)[1].replace("&#x27;", "'")
    for tag, directive in (("style", "style-src"), ("script", "script-src")):
        inside = re.search(rf"<{tag}>(.*?)</{tag}>", text, re.S)[1]
        digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
        assert f"{directive} 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert not re.search(r"(?:src|href)\s*=\s*[\"']?(?:https?:)?//", text)


def test_arrays_come_back_little_endian():
    values = np.array([[1.5, np.nan], [-2, 0]], ">f4")
    back = np.frombuffer(base64.b64decode(html.encode(values)), "<f4")
    np.testing.assert_array_equal(back, [1.5, np.nan, -2, 0])
    assert base64.b64decode(html.encode(np.arange(6, dtype=np.uint8).reshape(2, 3)[:, ::-1])) == bytes(
        [2, 1, 0, 5, 4, 3]
    )


def test_the_ramp_runs_from_blue_to_red(tmp_path):
    ramp = np.frombuffer(base64.b64decode(data_of(write(tmp_path / "p.html"))["turbo"]), np.uint8).reshape(256, 3)
    assert ramp[60, 2] > ramp[60, 0] and ramp[220, 0] > ramp[220, 2]
