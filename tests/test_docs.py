"""Every command and every Python block in READMEs and docs parses; links lead somewhere; READMEs are short."""

import importlib
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from repo import PACKAGES, ROOT

READMES = [ROOT / "README.md", *sorted(ROOT.glob("packages/*/README*.md"))]
OTHERS = ["CONTRIBUTING.md", "tools/README.md", "configs/README.md"]
PAGES = [*READMES, *(ROOT / name for name in OTHERS), *sorted(ROOT.glob("docs/**/*.md"))]
GENERATED = {"commands.md", "api.md"}  # made while the site is built
FENCE = re.compile(r"^ *```(?:bash|sh|shell|console)\n(.*?)^ *```", re.M | re.S)
PYTHON = re.compile(r"^```python\n(.*?)^```", re.M | re.S)
SCRIPTS = {package.name: package.module for package in PACKAGES}


def blocks(path):
    return [re.sub(r"^\$ ", "", text, flags=re.M) for text in FENCE.findall(path.read_text())]


def commands(block):
    """Words of each simple command of a block, without assignments in front."""
    for line in block.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars="&|;><")
        lexer.whitespace_split = True
        words: list[str] = []
        for word in [*lexer, "&&"]:
            if set(word) <= set("&|;"):
                while words and re.fullmatch(r"\w+=.*", words[0]):
                    words.pop(0)
                if words:
                    yield words
                words = []
            else:
                words.append(word)


def sessions():
    listed = subprocess.run(["nox", "-l"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return set(re.findall(r"^[*-] (\S+)", listed, re.M))


def label(value):
    """Name a README or a command in pytest's output."""
    return " ".join(value)[:60] if isinstance(value, list) else str(value.relative_to(ROOT))


CASES = [(path, words) for path in PAGES for block in blocks(path) for words in commands(block)]


@pytest.mark.parametrize("path", READMES, ids=label)
def test_readme_is_short_and_shows_a_command(path):
    assert len(path.read_text().splitlines()) <= 150
    assert blocks(path), f"{path} shows no command"


@pytest.mark.parametrize("path", PAGES, ids=label)
def test_python_blocks_compile(path):
    for block in PYTHON.findall(path.read_text()):
        compile(block, str(path), "exec")


@pytest.mark.parametrize("path", PAGES, ids=label)
def test_blocks_are_valid_shell(path):
    for block in blocks(path):
        subprocess.run(["bash", "-n"], input=block, text=True, check=True)


@pytest.mark.parametrize("chinese", sorted(ROOT.glob("docs/*/guide.zh-CN.md")), ids=label)
def test_chinese_guides_name_every_command_of_the_english_pages(chinese):
    english = [path for path in chinese.parent.glob("*.md") if path.name not in GENERATED and path != chinese]
    verbs = {tuple(w[:2]) for path, w in CASES if path in english and w[0] in SCRIPTS and not w[1].startswith("-")}
    text = chinese.read_text()
    missing = [verb for name, verb in sorted(verbs) if f"{name} {verb}" not in text and f"`{verb}`" not in text]
    assert not missing, f"{chinese.relative_to(ROOT)} does not name {', '.join(missing)}"


@pytest.mark.parametrize("path, words", [c for c in CASES if c[1][0] in SCRIPTS], ids=label)
def test_console_scripts_parse(path, words):
    cli = importlib.import_module(f"{SCRIPTS[words[0]]}.cli")
    try:
        cli.build_parser().parse_args(words[1:])
    except SystemExit as stop:
        assert stop.code == 0, f"{path.relative_to(ROOT)}: {' '.join(words)}"


@pytest.mark.parametrize("path, words", [c for c in CASES if "nox" in c[1]], ids=label)
def test_nox_sessions_exist(path, words):
    if "--" in words:  # what follows goes to the session
        words = words[: words.index("--")]
    if "-s" in words:
        named = [word for word in words[words.index("-s") + 1 :] if not word.startswith("-")]
        assert named and set(named) <= sessions(), f"{path.relative_to(ROOT)}: {' '.join(words)}"


@pytest.mark.parametrize("path, words", [c for c in CASES if any("tools/" in w for w in c[1][:3])], ids=label)
def test_launchers_exist_and_know_their_flags(path, words):
    (launcher,) = [word for word in words[:3] if "tools/" in word]
    file = ROOT / launcher[launcher.index("tools/") :]
    if not file.exists() and words[0] in ("torchrun", "python", "python3"):
        pytest.skip("a launcher of the host")
    assert file.is_file(), f"{path.relative_to(ROOT)}: no {launcher}"
    runner = ["bash"] if file.suffix == ".sh" else [sys.executable]
    shown = subprocess.run([*runner, str(file), "--help"], capture_output=True, text=True, check=True).stdout
    for word in words:
        if word.startswith("--"):
            assert word.split("=")[0].replace("_", "-") in shown.replace("_", "-"), (
                f"{path.relative_to(ROOT)}: {launcher} has no {word}"
            )


@pytest.mark.parametrize("path", PAGES, ids=label)
def test_links_lead_somewhere(path):
    for target in re.findall(r"\]\((?!https?://|#|mailto:)([^)#\s]+)", path.read_text()):
        if Path(target).name in GENERATED:
            continue
        assert (path.parent / target).exists(), f"{path.relative_to(ROOT)} links to {target}"
