"""Strings of a saved program that PyTorch evaluates or writes into Python code when it loads and runs the program.

Sizes are expressions that SymPy evaluates with Python's ``eval``; names of values, inputs and parameters stand in the
code that ``torch.fx`` generates. So a file can hold code in either. Guards are code too, which ``flat`` leaves out.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from typing import Any

_NAME = re.compile(r"[\w.:/ <>+-]*")  # without brackets nothing is called; operator names have colons and dots
_SHOWN = 60  # characters
_TEXT = frozenset(["metadata", "as_string", "as_strings", "out_spec", "guards_code"])  # keys of what is not evaluated
# Of SymPy, and of torch.utils._sympy.functions.
_ALLOWED = """
    Symbol Integer Rational Float Add Mul Pow Mod Max Min Abs floor ceiling Eq Ne Lt Le Gt Ge And Or Not Equality
    Unequality StrictLessThan LessThan StrictGreaterThan GreaterThan Piecewise ExprCondPair FloorDiv ModularIndexing
    Where PythonMod CleanDiv CeilToInt FloorToInt CeilDiv LShift RShift PowByNatural FloatPow FloatTrueDiv IntTrueDiv
    IsNonOverlappingAndDenseIndicator TruncToFloat TruncToInt RoundToInt RoundDecimal ToFloat Identity
"""
_FUNCTIONS = frozenset(_ALLOWED.split())
_ARITHMETIC = (
    *(ast.Expression, ast.Constant, ast.Name, ast.Load, ast.keyword),
    *(ast.BinOp, ast.UnaryOp, ast.Compare, ast.BoolOp),
    *(ast.operator, ast.unaryop, ast.cmpop, ast.boolop),
)


def first_code(program: Any) -> str | None:
    """The first string of a program, as JSON has it, that may be more than a name or a size; shortened."""
    found = next(_strings(program), None)
    return found if found is None or len(found) <= _SHOWN else found[:_SHOWN] + "…"


def _strings(value: Any) -> Iterator[str]:
    """All that is neither a name nor arithmetic."""
    if isinstance(value, str):
        if not _NAME.fullmatch(value):
            yield value
    elif isinstance(value, list):
        for each in value:
            yield from _strings(each)
    elif isinstance(value, dict):
        for key, each in value.items():
            yield from _strings(key)
            yield from _of_entry(key, each)


def _of_entry(key: str, value: Any) -> Iterator[str]:
    if key in _TEXT:
        return
    if key == "expr_str":
        if not _is_size(value):
            yield str(value)
    elif key in ("in_spec", "context") and isinstance(value, str):  # JSON in JSON
        yield from _strings(_inner(value))
    else:
        yield from _strings(value)


def _inner(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _is_size(text: Any) -> bool:
    """Whether a string is arithmetic of numbers and symbols."""
    try:
        tree = ast.parse(str(text), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    nodes = list(ast.walk(tree))
    symbols = {id(name) for node in nodes if isinstance(node, ast.Call) for name in node.args if _is_symbol(node)}
    return all(_is_arithmetic(node, id(node) in symbols) for node in nodes)


def _is_symbol(call: ast.Call) -> bool:
    return isinstance(call.func, ast.Name) and call.func.id == "Symbol"


def _is_arithmetic(node: ast.AST, names_symbol: bool) -> bool:
    match node:
        case ast.Call(func=ast.Name(id=name)):
            return name in _FUNCTIONS or name.startswith("OpaqueUnaryFn_")
        case ast.Constant(value=str(text)):
            return names_symbol and text.isidentifier()
        case ast.Name(id=name):
            return not name.startswith("_")
        case _:
            return isinstance(node, _ARITHMETIC)
