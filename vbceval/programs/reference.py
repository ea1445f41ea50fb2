"""The reference page of a program, written from its data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from vbceval.programs.inputs import Input
from vbceval.programs.program import Example, Program
from vbceval.programs.values import Cell, Dated, Parameter, write_years

LINE = 100  # characters of a line of code


def page(program: Program, *, performance_year: int | None = None) -> str:
    """
    Write the reference page of a program: tracks, inputs, rules with source, steps, example.

    Parameters
    ----------
    program : Program
        The program.
    performance_year : int, optional
        Show only what holds in this year.

    Returns
    -------
    str
        Markdown.

    Raises
    ------
    DesignError
        If the program has no such performance year.
    """
    if performance_year is not None:
        program.terms(performance_year, [])
    return "\n".join(_lines(program, performance_year)) + "\n"


def _lines(program: Program, year: int | None) -> Iterator[str]:
    yield f"# {program.title}"
    yield ""
    yield f"Name `{program.name}`; performance years {write_years(program.years)}."
    yield f"Rests on {program.authority}."
    if year is not None:
        yield f"Only what holds in {year} is shown."
    yield ""
    verified = program.verified or "no number from outside this package has been reproduced."
    yield f"**{'Verified' if program.verified else 'Unverified'}**: {verified.rstrip('.')}."
    yield ""
    yield f"This page is what `vbceval program show {program.name}` prints."
    if len(program.variants) > 1:
        yield from ("", "## Variants", "", "| name | title | years |", "|---|---|---|")
        for variant in program.variants.values():
            if year is None or year in variant.years:
                yield f"| `{variant.name}` | {variant.title} | {write_years(variant.years)} |"
    yield from ("", "## Inputs", "", f"One row for each `{program.organization}`.", "")
    yield from ("| column | kind | needed | what |", "|---|---|---|---|")
    if program.variant_column is not None:
        yield f"| `{program.variant_column}` | text | yes | name of the variant |"
    for entry in program.inputs.values():
        yield f"| `{entry.name}` | {_kind(entry)} | {'yes' if entry.required else ''} | {entry.what} |"
    yield from ("", "## Rules", "")
    yield "Status: confirmed in the text of the rule or a document of the payer; secondary, in a summary;"
    yield "unconfirmed, to be checked before a figure is published; user, set by the user."
    for parameter in program.parameters.values():
        held = [v for v in parameter.values if year is None or year in v.years]
        if held:
            yield from _parameter(program, parameter, held)
    if program.examples:
        yield from ("", "## Steps", "", *_steps(program, program.examples[0]))
    if program.notes:
        yield from ("", "## Notes", "", *(f"- {note}" for note in program.notes))
    if program.examples:
        yield from ("", "## Example", "", *_example(program, program.examples[0]))


def _steps(program: Program, example: Example) -> Iterator[str]:
    settled = program.settle(example.frame(), performance_year=example.performance_year)
    yield "Lines of a settlement in their order, as in the example below."
    yield from ("", "| line | unit | what |", "|---|---|---|")
    for line in settled.lines:
        name = f"**`{line.name}`**" if line.name == settled.final else f"`{line.name}`"
        yield f"| {name} | {line.unit} | {line.what} |"


def _kind(entry: Input) -> str:
    return f"{entry.kind}: {', '.join(entry.choices)}" if entry.choices else entry.kind


def _parameter(program: Program, parameter: Parameter, held: list[Dated]) -> Iterator[str]:
    what = f"{parameter.what[:1].upper()}{parameter.what[1:]}."
    yield from ("", f"### `{parameter.name}`", "", what, "")
    yield from ("| variants | years | value | status | source |", "|---|---|---|---|---|")
    below: list[tuple[tuple[Cell, ...], ...]] = []
    for dated in held:
        value = dated.value
        if isinstance(value, tuple):
            below.append(value)
            shown = "below" if len(held) == 1 else f"table {len(below)} below"
        else:
            shown = _number(value)
        yield (
            f"| {program.said(dated.variants)} | {write_years(program.in_force(dated))} | {shown} | "
            f"{dated.status} | {dated.source} |"
        )
    names = ("up to", "share") if parameter.kind == "bands" else parameter.columns
    for i, rows in enumerate(below, 1):
        yield from ("", *([] if len(held) == 1 else [f"Table {i}:", ""]))
        yield from (f"| {' | '.join(names)} |", f"|{'---|' * len(names)}")
        yield from (f"| {' | '.join(map(_number, row))} |" for row in rows)


def _number(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,.10g}" if isinstance(value, float) else str(value)


def _example(program: Program, example: Example) -> Iterator[str]:
    # written as the formatter of this package writes code, which formats the pages as well
    yield f"{example.title}"
    yield from ("", "```py", "import numpy as np", "import pandas as pd", "")
    yield from ("import vbceval as vbc", "")
    yield from ("table = pd.DataFrame(", "    {", *_entries(example.table, 8), "    }", ")")
    settle = f"settle(table, performance_year={example.performance_year})"
    yield f'settled = vbc.programs.get("{program.name}").{settle}'
    yield from ("expected = {", *_entries(example.gives, 4), "}")
    yield "for line, value in expected.items():"
    yield "    assert np.allclose(settled[line], value, rtol=1e-9)"
    yield "print(settled.explain(settled.organizations[0]))"
    yield "```"


def _entries(columns: Mapping[str, object], indent: int) -> Iterator[str]:
    pad = " " * indent
    for name, column in columns.items():
        cells = [_code(cell) for cell in (column if isinstance(column, list) else [column])]
        whole = f'{pad}"{name}": [{", ".join(cells)}],'
        if len(whole) <= LINE:
            yield whole
        else:
            yield from (f'{pad}"{name}": [', *(f"{pad}    {cell}," for cell in cells), f"{pad}],")


def _code(cell: object) -> str:
    return f'"{cell}"' if isinstance(cell, str) else repr(cell)
