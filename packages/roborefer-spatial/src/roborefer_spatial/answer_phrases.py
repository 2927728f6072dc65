"""What people and models say around a point: one table of phrases, tried in its order.

Each row is a regular expression over the answer in lower case, with typographic quotes and Markdown's
backslashes folded. Tests try every row by an example of its own.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

Meaning = Literal["not_visible", "hidden", "refusal", "reference", "query", "final", "echo", "condition"]
"""What a phrase says.

not_visible: the object cannot be seen; contradicts a point. hidden: something is in front of it; a point beside
it counts. refusal: declines to answer. reference, query: what follows is about the first or the second image.
final: what follows is the answer. echo: repeats the question. condition: begins a clause that says nothing.
"""


@dataclass(frozen=True, slots=True)
class Phrase:
    """A row: what it means, the pattern, and an answer that has it."""

    meaning: Meaning
    pattern: str
    example: str


_BE = r"(?:is|are|was|be|being|to be)"
_SEE = r"(?:visible|seen|present|shown|there|in view|in sight|in (?:the |this )?(?:frame|image|picture|view|scene))"
_IMAGE = r"(?:image|picture|photo|view|frame|half|side|panel|one)"

TABLE: tuple[Phrase, ...] = (
    Phrase(
        "echo", r"the point \[?\([^)]*\)\]? of the whole image",
        "the point [(0.1, 0.2)] of the whole image lies on it",
    ),
    Phrase("echo", r"answer exactly not_visible", "If it cannot be seen, answer exactly NOT_VISIBLE."),
    Phrase("condition", r"\b(?:if|unless|whether|in case|otherwise)\b", "if the object is not visible"),
    Phrase("final", r"\bfinal (?:answer|point|coordinates?)\b(?: is)?\s*[:*=]*", "Final answer: (0.1, 0.2)"),
    Phrase("final", r"\banswer\**\s*(?:is\b\s*:?|:|=)\**", "Answer: 0.1, 0.2"),
    Phrase("final", r"\\boxed\b", "\\boxed{(0.1, 0.2)}"),
    Phrase("final", r"(?:最终)?答案\s*(?:是|为|:)", "答案：(0.1, 0.2)"),
    Phrase("reference", rf"\b(?:first|left(?:-hand)?|reference|original|marked|1st) {_IMAGE}\b", "in the first image"),
    Phrase("reference", r"\b(?:image|picture|view|photo) (?:1|one|a)\b", "Image 1:"),
    Phrase("reference", r"\bin the first\b", "in the first at (0.1, 0.2)"),
    Phrase("reference", r"第一[张幅]|左[图侧边]", "在第一张图中"),
    Phrase("query", rf"\b(?:second|right(?:-hand)?|query|other|inpainted|2nd) {_IMAGE}\b", "in the second image"),
    Phrase("query", r"\b(?:image|picture|view|photo) (?:2|two|b)\b", "Image 2:"),
    Phrase("query", r"\bin the second\b", "in the second at [0.1, 0.2]"),
    Phrase("query", r"第二[张幅]|右[图侧边]", "在第二张图中"),
    Phrase("not_visible", r"\bnot[\s_\-]*visible\b", "NOT\\_VISIBLE"),
    Phrase(
        "not_visible", rf"(?:\b(?:not|never)|n't)\s+(?:\w+\s+){{0,2}}?(?:{_BE} )?{_SEE}\b",
        "It is not currently present.",
    ),
    Phrase("not_visible", r"\bno longer (?:visible|present|there|in)\b", "It is no longer visible."),
    Phrase("not_visible", r"(?<!not )\binvisible\b", "It is invisible."),
    Phrase(
        "not_visible", r"\b(?:cannot|can't|can not|could not|couldn't) (?:be )?(?:seen|see|found)\b",
        "It cannot be seen.",
    ),
    Phrase(
        "not_visible", r"\b(?:does|do|did)(?: not|n't) (?:appear|exist|show up|contain|show)\b",
        "It does not appear.",
    ),
    Phrase(
        "not_visible",
        r"\b(?:out of|outside(?: of)?) (?:the |this )?(?:field of )?(?:view|sight|frame|image|picture)\b",
        "outside the frame",
    ),
    Phrase("not_visible", r"\b(?:is|are) (?:absent|missing)\b", "The lamp is absent."),
    Phrase("not_visible", r"\bthere (?:is|are) (?:none|no (?:such|visible)\b)", "There are none."),
    Phrase("not_visible", r"""['"]?visible['"]?\s*[:=]\s*(?:false|no\b|0\b)""", '{"visible": false}'),
    Phrase(
        "not_visible", r"""['"](?:point_2d|points?|coordinates?|answer)['"]\s*:\s*(?:null|none)\b""",
        '{"point_2d": null}',
    ),
    Phrase("not_visible", r"^\W*(?:none|null|n/a|no)\W*$", "None."),
    Phrase("not_visible", r"不可见|看不[到见]|不在(?:视野|画面|图)|未出现|没有出现|不存在", "不可见"),
    Phrase("not_visible", r"見えません|見えない|映っていません|映っていない", "物体は見えません"),
    Phrase("not_visible", r"보이지 않|보이지않", "물체가 보이지 않습니다"),
    Phrase("not_visible", r"\bnicht (?:sichtbar|zu sehen|im bild)\b", "Das Objekt ist nicht zu sehen."),
    Phrase("not_visible", r"\b(?:pas|non) visible\b|\bn'est pas (?:présent|dans)", "L'objet n'est pas visible."),
    Phrase(
        "not_visible", r"\bno (?:es|está|son) visibles?\b|\bno se (?:ve|puede ver|aprecia)\b",
        "El objeto no es visible.",
    ),
    Phrase("not_visible", r"\bnon (?:è|e') visibile\b|\bnon si vede\b", "L'oggetto non è visibile."),
    Phrase("not_visible", r"\bnão (?:é|está) visível\b|\bnão (?:se vê|aparece)\b", "O objeto não é visível."),
    Phrase("not_visible", r"\bне (?:вид(?:ен|на|но|ны)|виднеется)\b|\bневидим", "Объект не виден."),
    Phrase("hidden", r"\b(?:occluded|hidden|obscured|obstructed|blocked)\b", "It is occluded by the table."),
    Phrase("hidden", r"\bbehind\b", "It is hidden behind the sofa."),
    Phrase("hidden", r"被[^。,]{0,12}(?:遮挡|挡住)", "物体被桌子遮挡"),
    Phrase(
        "refusal",
        r"\b(?:i'?m sorry|i am sorry|sorry,|i apologi[sz]e|as an ai|unable to|not possible to"
        r"|i (?:can ?not|can't|am unable|am not able|don't|won't)|i'm (?:unable|not able|not sure)"
        r"|cannot (?:determine|identify|locate|find|assist|help|provide))\b",
        "I'm sorry, I cannot help with that.",
    ),
    Phrase("refusal", r"抱歉|无法", "抱歉，我无法回答。"),
)  # fmt: skip
"""The table."""

_HEDGED = re.compile(
    r"\b(?:partly|partially|mostly|fully|entirely|completely|barely|only|slightly|half|clearly|directly)\W+(?:\w+\W+){0,2}$"
)
_NEGATED = re.compile(r"\b(?:not|never|isn't|aren't|wasn't)\s+(?:\w+\s+){0,1}$")
_BEFORE = 40

_COMPILED = {
    meaning: re.compile("|".join(f"(?:{row.pattern})" for row in TABLE if row.meaning == meaning))
    for meaning in dict.fromkeys(row.meaning for row in TABLE)
}
_CLAUSE_END = re.compile(r"[.!?\n。]|$")


def folded(text: str) -> str:
    """Return the text as the table wants it, of the same length."""
    lower = text.lower()
    lower = lower if len(lower) == len(text) else text  # a few letters grow in lower case
    return lower.replace("’", "'").replace("‘", "'")


def places(meaning: Meaning, text: str) -> list[tuple[int, int]]:
    """Return where a folded text has phrases of a meaning."""
    return [match.span() for match in _COMPILED[meaning].finditer(text)]


def without(meaning: Meaning, text: str) -> str:
    """Return a folded text with the phrases of a meaning blanked out, each up to the end of its clause if it
    begins one (condition).
    """
    for start, end in places(meaning, text):
        if meaning == "condition":
            found = _CLAUSE_END.search(text, end)
            end = found.start() if found else len(text)
        text = text[:start] + " " * (end - start) + text[end:]
    return text


def visibility(text: str) -> tuple[list[int], list[int], list[int]]:
    """Return where a folded text says that the object cannot be seen: firmly, with a hedge, or as hidden.

    "partly not visible" is a hedge, and so is "not clearly visible"; "not occluded" says nothing.
    """
    firm: list[int] = []
    hedged: list[int] = []
    hidden: list[int] = []
    for start, end in places("not_visible", text):
        before = text[max(0, start - _BEFORE) : start]
        if _NEGATED.search(before) and not text.startswith(("not", "n't", "never"), start):
            continue  # "is not outside the frame"
        said = text[start:end]
        soft = _HEDGED.search(before) or re.search(r"\b(?:fully|entirely|completely|clearly|directly)\b", said)
        (hedged if soft else firm).append(start)
    for start, _ in places("hidden", text):
        if not _NEGATED.search(text[max(0, start - _BEFORE) : start]):
            hidden.append(start)
    return firm, hedged, hidden
