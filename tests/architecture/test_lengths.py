"""Files and functions stay short enough to be read at once."""

from __future__ import annotations

import ast
import io
import tokenize
from collections.abc import Mapping

import pytest

MOST_LINES_OF_A_FILE = 450
LINES_OF_CODE_BELOW = 60

NOT_CODE = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
}
Function = ast.FunctionDef | ast.AsyncFunctionDef


def code_lines(source: str) -> set[int]:
    """Return the line numbers that hold code: not blank, not a comment, not in a docstring."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    lines = {
        line
        for token in tokens
        if token.type not in NOT_CODE
        for line in range(token.start[0], token.end[0] + 1)
    }
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, Function | ast.ClassDef | ast.Module) and ast.get_docstring(node):
            docstring = node.body[0]
            lines -= set(range(docstring.lineno, (docstring.end_lineno or docstring.lineno) + 1))
    return lines


def long_files(sources: Mapping[str, str]) -> list[str]:
    """Return one line for each module with too many lines."""
    counts = {name: len(text.splitlines()) for name, text in sources.items()}
    return [f"{name}: {n} lines" for name, n in counts.items() if n > MOST_LINES_OF_A_FILE]


def long_functions(sources: Mapping[str, str]) -> list[str]:
    """Return one line for each function with too many lines of code, signature included."""
    found = []
    for name, text in sources.items():
        lines = code_lines(text)
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, Function):
                last = node.end_lineno or node.lineno
                size = sum(node.lineno <= line <= last for line in lines)
                if size >= LINES_OF_CODE_BELOW:
                    found.append(f"{name}.{node.name} (line {node.lineno}): {size} lines of code")
    return found


def test_files_are_short(sources: dict[str, str]) -> None:
    assert long_files(sources) == [], f"more than {MOST_LINES_OF_A_FILE}: is it one job or two?"


def test_functions_are_short(sources: dict[str, str]) -> None:
    assert long_functions(sources) == [], f"fewer than {LINES_OF_CODE_BELOW} lines of code"


def test_a_long_file_is_found() -> None:
    assert long_files({"m": "x = 1\n" * 450}) == []
    assert long_files({"m": "x = 1\n" * 451}) == ["m: 451 lines"]


@pytest.mark.parametrize(("body", "reported"), [(58, False), (59, True)])
def test_a_long_function_is_found(body: int, reported: bool) -> None:
    # Only the signature and the body count: 1 + body lines.
    statements = "    x = 1  # said\n\n    # a comment\n" * body
    source = f'class C:\n  def f():\n    """Say.\n\n    More.\n    """\n{statements}'
    found = long_functions({"m": source})
    assert found == ([f"m.f (line 2): {body + 1} lines of code"] if reported else [])


def test_a_long_text_counts_as_code_unless_it_is_the_docstring() -> None:
    text = "\n".join(["line"] * 70)
    assert long_functions({"m": f'def f():\n    """{text}"""\n    return 1\n'}) == []
    assert len(long_functions({"m": f'def f():\n    return """{text}"""\n'})) == 1
