"""Write one page that links what each package's demo made: `python3 tasks/demo_index.py demo_out`."""

from __future__ import annotations

import argparse
import html
import json
from pathlib import Path

PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Demo results</title>
<style>
 body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; color: #1c1e21 }}
 article {{ border: 1px solid #ccd; border-radius: 8px; padding: 1rem 1.5rem; margin: 1.5rem 0 }}
 img {{ max-width: 100%; height: auto; border: 1px solid #ccd }}
 td, th {{ text-align: left; padding: .2rem 1.5rem .2rem 0 }}
 .note {{ background: #fff6d6; padding: .5rem .8rem; border-radius: 6px }}
</style>
<h1>Demo results</h1>
<p>Made by <code>nox -s demo</code> on this machine. Nothing here is real sensor data.</p>
{articles}
</html>
"""

ARTICLE = """<article>
<h2>{package}: {title}</h2>
<p class="note">Synthetic: {synthetic}</p>
<p><a href="{page}"><img src="{picture}" alt="{title}"></a></p>
<table>{rows}</table>
<p><a href="{page}">Open the full result</a> ({seconds:.0f} s)</p>
</article>"""


def article(folder: Path) -> str:
    """Return the part of the page about one package."""
    path = folder / "result.json"
    result = json.loads(path.read_text())
    for key in ("page", "picture"):
        if not (folder / result[key]).is_file():
            raise SystemExit(f"{path}: names {result[key]!r} as {key}, which is not there")
    text = {key: html.escape(str(result[key])) for key in ("package", "title", "synthetic")}
    links = {key: html.escape(f"{folder.name}/{result[key]}") for key in ("page", "picture")}
    rows = "".join(
        f"<tr><th>{html.escape(str(label))}</th><td>{html.escape(str(value))}</td></tr>"
        for label, value in result["figures"]
    )
    return ARTICLE.format(**text, **links, rows=rows, seconds=float(result["seconds"]))


def main() -> int:
    """Write index.html beside the packages' folders."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="where the demos wrote, one folder for each package")
    folder = parser.parse_args().folder
    results = sorted(folder.glob("*/result.json"))
    if not results:
        raise SystemExit(f"{folder}: no */result.json; run `nox -s demo` first")
    page = folder / "index.html"
    beside = page.with_suffix(".tmp")
    beside.write_text(PAGE.format(articles="\n".join(article(path.parent) for path in results)), encoding="utf-8")
    beside.replace(page)
    print(f"wrote {page}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
