"""The commands of docs/mapanything-opv2v/recipe.md, in order."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path

PAGE = Path(__file__).parents[3] / "docs" / "mapanything-opv2v" / "recipe.md"


def commands(section: str) -> list[list[str]]:
    """Return the words of each command under a heading, with variables of the environment put in; no exports."""
    text = PAGE.read_text(encoding="utf-8")
    (part,) = re.findall(rf"^## {section}$(.*?)(?=^## |\Z)", text, flags=re.MULTILINE | re.DOTALL)
    found = []
    for block in re.findall(r"^```bash\n(.*?)^```", part, flags=re.MULTILINE | re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words and words[0] != "export":
                found.append([os.path.expanduser(os.path.expandvars(word)) for word in words])  # noqa: PTH111
    return found
