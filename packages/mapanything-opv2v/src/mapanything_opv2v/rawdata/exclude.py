"""What of a tree is left out by name: whole sequences, frames, agents.

A name is ``[SPLIT/]SEQUENCE[/FRAME][/agentID]``: ``2021_09_09_13_20_58``, ``2021_08_20_21_10_24/000265``,
``2021_08_20_21_10_24/agent1996``, ``test/2021_08_20_21_10_24/000265/agent1996``. `KNOWN` stands for what is known to be
broken in the published data (`KNOWN_BAD`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mapanything_opv2v.rawdata.names import SPLITS, AgentFolder, SequenceFolder

KNOWN = "known"
"""The entry that stands for `KNOWN_BAD`; the default wherever something can be excluded."""

NOTHING = "none"
"""The entry that excludes nothing, not even `KNOWN_BAD`."""

KNOWN_BAD = {
    "2021_09_09_13_20_58": "published without camera3 (OpenCOOD issue 167, BM2CP issue 9; CoBEVT says to remove it)",
    "2021_08_20_21_10_24/000265": "published incomplete; the public loaders skip this frame",
}
"""What is known to be broken in the published OPV2V and V2XSet, and how."""

_FRAME, _AGENT = re.compile(r"\d{6}"), re.compile(r"agent(-?\d{1,9})")


@dataclass(frozen=True)
class Rule:
    """One entry.

    Attributes
    ----------
    name : str
        As it was given.
    reason : str
        Why it is left out.
    split, sequence, frame, agent
        What it matches; None matches all.
    """

    name: str
    reason: str
    sequence: str
    split: str | None = None
    frame: int | None = None
    agent: int | None = None

    def matches(self, split: str, sequence: str, frame: str | None = None, agent: int | None = None) -> bool:
        """Whether this is left out; a frame or agent of None stands for a whole sequence."""
        return (
            self.sequence == sequence
            and self.split in (None, split)
            and (self.frame is None or (frame is not None and frame.isdecimal() and int(frame) == self.frame))
            and self.agent in (None, agent)
        )


@dataclass(frozen=True)
class Excluded:
    """How much one rule left out of a split."""

    split: str
    rule: Rule
    agent_frames: int

    def __str__(self) -> str:
        """Return one line for people."""
        return f"{self.split}: left out {self.rule.name}, {self.agent_frames} agents at frames: {self.rule.reason}"


def parse(entries: str | Path | Iterable[str | Path] | None) -> tuple[Rule, ...]:
    """Return the rules that entries stand for.

    Parameters
    ----------
    entries : str or iterable of str
        Names (see the module), `KNOWN`, `NOTHING`, or paths of files with one entry a line (``#`` begins a comment).
        None is nothing.

    Raises
    ------
    ValueError
        If an entry is neither a name nor a file; says what a name looks like.
    """
    given = [] if entries is None else [entries] if isinstance(entries, (str, Path)) else list(entries)
    rules: dict[str, Rule] = {}
    for entry in (line for item in given for line in _lines(str(item).strip())):
        if entry == NOTHING:
            if len(given) > 1:
                raise ValueError(f"exclude: {NOTHING!r} beside other entries {given}; give it alone, or leave it out")
        elif entry == KNOWN:
            rules |= {name: _rule(name, reason) for name, reason in KNOWN_BAD.items()}
        else:
            rules.setdefault(entry, _rule(entry, "asked for"))
    return tuple(rules.values())


def apply(
    split: str, sequences: Sequence[SequenceFolder], rules: Sequence[Rule]
) -> tuple[list[SequenceFolder], list[Excluded]]:
    """Return a split's sequences without what the rules match, and how much each rule left out."""
    mine = [rule for rule in rules if rule.split in (None, split)]
    kept, counts = [], dict.fromkeys(mine, 0)
    for sequence in sequences:
        here = [rule for rule in mine if rule.sequence == sequence.name]
        if not here:
            kept.append(sequence)
            continue
        agents = [_without(agent, here, counts) for agent in sequence.agents]
        left = tuple(agent for agent in agents if len(agent.frames))
        if left:
            kept.append(replace(sequence, agents=left))
    return kept, [Excluded(split, rule, count) for rule, count in counts.items() if count]


def _without(agent: AgentFolder, rules: Sequence[Rule], counts: dict[Rule, int]) -> AgentFolder:
    keep = np.ones(len(agent.frames), dtype=bool)
    for rule in rules:
        if rule.agent in (None, agent.agent_id):
            hit = keep & (True if rule.frame is None else agent.frames == rule.frame)
            counts[rule] += int(hit.sum())
            keep &= ~hit
    return AgentFolder(agent.agent_id, agent.name, agent.frames[keep], agent.flags[keep])


def _lines(entry: str) -> list[str]:
    """Return the entries of a file, or the entry itself."""
    path = Path(entry).expanduser()
    if entry in (KNOWN, NOTHING) or not path.is_file():
        return [entry]
    words = [line.partition("#")[0].strip() for line in path.read_text(encoding="utf-8").splitlines()]
    return [word for word in words if word]


def _rule(name: str, reason: str) -> Rule:
    parts = name.split("/")
    split = parts.pop(0) if len(parts) > 1 and parts[0] in SPLITS else None
    sequence, rest = parts[0], parts[1:]
    frame = int(rest.pop(0)) if rest and _FRAME.fullmatch(rest[0]) else None
    match = _AGENT.fullmatch(rest[0]) if len(rest) == 1 else None
    if not sequence or sequence.startswith(".") or (rest and match is None):
        raise ValueError(
            f"exclude: {name!r} is neither a file nor a name; expected [SPLIT/]SEQUENCE[/FRAME][/agentID], "
            f"such as 2021_08_20_21_10_24/000265 or 2021_08_20_21_10_24/agent1996, or {KNOWN!r} or {NOTHING!r}"
        )
    return Rule(name, reason, sequence, split, frame, int(match[1]) if match else None)
