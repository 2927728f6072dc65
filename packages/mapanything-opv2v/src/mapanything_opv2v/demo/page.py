"""The demo's page: figures, sections and links, in one file that opens offline."""

from __future__ import annotations

import base64
import html
from dataclasses import dataclass, field
from string import Template

from mapanything_opv2v import pictures

SYNTHETIC = "The town, its images, depth maps and LiDAR sweeps are ray-cast from formulas."


@dataclass
class Story:
    """What the page tells, in order."""

    quiet: bool = False
    figures: list[tuple[str, str]] = field(default_factory=list)
    sections: list[tuple[str, str, pictures.Picture | None]] = field(default_factory=list)
    links: list[tuple[str, str]] = field(default_factory=list)  # page beside this one, and what it shows

    def figure(self, label: str, value: str) -> None:
        """Add a figure, and print it."""
        self.figures.append((label, value))
        self.say(f"{label}: {value}")

    def say(self, text: str) -> None:
        """Print, unless quiet."""
        if not self.quiet:
            print(text)


def page_html(story: Story, seconds: float) -> str:
    """Return the page as one file that opens offline."""
    rows = "".join(f"<tr><th>{html.escape(k)}</th><td>{html.escape(v)}</td></tr>" for k, v in story.figures)
    parts = []
    for title, text, picture in story.sections:
        image = ""
        if picture is not None:
            data = base64.b64encode(pictures.encode_png(picture)).decode()
            image = f'<img alt="{html.escape(title)}" src="data:image/png;base64,{data}">'
        parts.append(f"<h2>{html.escape(title)}</h2><p>{html.escape(text)}</p>{image}")
    links = "".join(f'<li><a href="{html.escape(to)}">{html.escape(text)}</a></li>' for to, text in story.links)
    return _PAGE.substitute(
        rows=rows, links=links, sections="".join(parts), synthetic=SYNTHETIC, seconds=f"{seconds:.0f}"
    )


_PAGE = Template(
    """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>mapanything-opv2v demo</title>
<meta name="viewport" content="width=device-width">
<style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 1060px; margin: 2rem auto; padding: 0 1rem; color:
#1c1c22; } table { border-collapse: collapse; } th { text-align: left; font-weight: 500; padding: 0.2rem
1.5rem 0.2rem 0; } td { font-variant-numeric: tabular-nums; } tr { border-bottom: 1px solid #ddd; }
img { width: 100%; border: 1px solid #ccc; } p { white-space: pre-line; } .note { color: #555; }
</style></head><body>
<h1>Panoramas of a synthetic town against ray-cast truth</h1>
<p class="note">$synthetic Made in $seconds s.</p>
<table>$rows</table>
<h2>Look around</h2>
<ul>$links</ul>
$sections
</body></html>
"""
)
