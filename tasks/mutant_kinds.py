"""Small faults for the mutation run, made by Cosmic Ray's operators: which kinds, where, and the code with them."""

from __future__ import annotations

import ast
from functools import cache
from typing import Any, NamedTuple

from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.operators.provider import OperatorProvider

# Cosmic Ray replaces every operator by every other. `a + b` turned into `a << b` fails at once and says nothing about
# the tests, so these are the replacements that a person could have written by mistake.
BINARY = {
    "Add": ("Sub", "Mul"),
    "Sub": ("Add", "Div"),
    "Mul": ("Add", "Div", "Pow"),
    "Div": ("Mul", "FloorDiv", "Sub"),
    "FloorDiv": ("Div", "Mul"),
    "Mod": ("FloorDiv", "Mul"),
    "Pow": ("Mul", "Add"),
    "RShift": ("LShift",),
    "LShift": ("RShift",),
    "BitOr": ("BitAnd", "BitXor"),
    "BitAnd": ("BitOr", "BitXor"),
    "BitXor": ("BitOr", "BitAnd"),
}
ORDER = ("Eq", "NotEq", "Lt", "LtE", "Gt", "GtE")
COMPARISON = {name: tuple(other for other in ORDER if other != name) for name in ORDER} | {
    "Is": ("IsNot",),
    "IsNot": ("Is",),
}
UNARY = {"USub": ("Delete",), "Invert": ("Delete",), "Not": ("Delete",)}
OTHERS = (
    "AddNot",
    "ReplaceTrueWithFalse",
    "ReplaceFalseWithTrue",
    "ReplaceAndWithOr",
    "ReplaceOrWithAnd",
    "ReplaceBreakWithContinue",
    "ReplaceContinueWithBreak",
    "ExceptionReplacer",
    "NumberReplacer",
    "RemoveDecorator",
    "ZeroIterationForLoop",
)
KINDS = (
    *(f"ReplaceBinaryOperator_{a}_{b}" for a, others in BINARY.items() for b in others),
    *(f"ReplaceComparisonOperator_{a}_{b}" for a, others in COMPARISON.items() for b in others),
    *(f"ReplaceUnaryOperator_{b}_{a}" for a, others in UNARY.items() for b in others),
    *OTHERS,
)


class Mutant(NamedTuple):
    """One small fault: the module's name (`loss/losses`), the kind, which occurrence of it, and the line."""

    module: str
    kind: str
    occurrence: int
    line: int


@cache
def _operator(kind: str) -> Any:
    return OperatorProvider()[kind]()


def find(module: str, source: str) -> list[Mutant]:
    """Return every mutant of a module's source, those that change nothing among them."""
    nodes = list(ast_nodes(get_ast(source)))
    found = []
    for kind in KINDS:
        places = [(node, place) for node in nodes for place in _operator(kind).mutation_positions(node)]
        found += [
            Mutant(module, kind, index, place[0][0])
            for index, (node, place) in enumerate(places)
            if not _orders_words(kind, node) and getattr(node.parent, "type", "") != "parameters"  # a lone *
        ]
    return found


def _orders_words(kind: str, node: Any) -> bool:
    """Whether `name == "word"` would become `name >= "word"`, which nobody writes by mistake."""
    is_order = kind.startswith("ReplaceComparisonOperator") and kind.rpartition("_")[2] in ("Lt", "LtE", "Gt", "GtE")
    return is_order and any(child.type == "string" for child in node.children)


def mutated(mutant: Mutant, source: str) -> str | None:
    """Return the source with the fault in it; None if the program stays the same (an annotation, a doubled form)."""
    text = mutate_code(source, _operator(mutant.kind), mutant.occurrence)
    if text is None:
        raise ValueError(f"{mutant.module}: no occurrence {mutant.occurrence} of {mutant.kind}")
    try:
        tree = ast.parse(text)
    except SyntaxError:
        return None
    return None if _program(tree) == _program(ast.parse(source)) else text


def _program(tree: ast.AST) -> str:
    """Return a syntax tree as text, without annotations, which nothing reads while the program runs."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            node.returns = None
        elif isinstance(node, ast.arg):
            node.annotation = None
        elif isinstance(node, ast.AnnAssign):
            node.annotation = ast.Constant(None)
    return ast.dump(tree)


def change(source: str, text: str) -> tuple[str, str]:
    """Return the first line that differs, before and after."""
    for before, after in zip(source.splitlines(), text.splitlines()):
        if before != after:
            return before.strip(), after.strip()
    return "", ""
