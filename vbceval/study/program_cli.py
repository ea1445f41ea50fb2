"""`vbceval program ...`: list payment programs, show their rules, settle a file under them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer

from vbceval.core.checks import listed
from vbceval.core.errors import DataError
from vbceval.core.files import atomic_path
from vbceval.data.mssp_settlement import is_results_file, read_settlement_rows
from vbceval.data.mssp_vintage import year_in_name
from vbceval.programs import Settlement, get, names
from vbceval.programs.reference import page
from vbceval.programs.values import write_years
from vbceval.study.mssp_replication import Replication, compare, has_published
from vbceval.study.terminal import counted

program_app = typer.Typer(
    help="Payment programs: list them, show their rules, settle under them.", no_args_is_help=True
)

Name = Annotated[
    str, typer.Argument(metavar="NAME", help="A program of `vbceval program list`, or a TOML file.")
]


@program_app.command("list")
def program_list() -> None:
    """List the programs: name, title, performance years, whether an outside number is reproduced."""
    for name in names():
        program = get(name)
        verified = "verified" if program.verified else "unverified"
        years = write_years(program.years)
        typer.echo(f"{name}\n  title: {program.title}\n  years: {years}\n  status: {verified}")


@program_app.command("show")
def program_show(
    name: Name,
    year: Annotated[
        int | None, typer.Option("--year", metavar="YYYY", help="Only what holds in this year.")
    ] = None,
) -> None:
    """Show the rules of a program with status and source, its inputs and an example."""
    typer.echo(page(get(name), performance_year=year), nl=False)


@program_app.command("settle")
def program_settle(
    name: Name,
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="CSV or Parquet, one row an organization."),
    ],
    year: Annotated[int, typer.Option("--year", metavar="YYYY", help="Performance year.")],
    explain: Annotated[
        list[str] | None,
        typer.Option(
            "--explain", metavar="ID", help="Say how an organization was settled; repeat."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="Write a CSV of every line and organization."),
    ] = None,
) -> None:
    """
    Settle a file under the rules of a year.

    A results file of the Shared Savings Program is also compared with what was earned and owed.
    """
    program = get(name)
    if file.is_dir():
        raise DataError(f"`{file}` is a folder. Name a file in it.")
    if not file.is_file():
        raise DataError(f"there is no file `{file}`. Check the path.")
    if out is not None and not out.parent.is_dir():
        raise DataError(f"there is no folder `{out.parent}`. Make it first.")
    compared, rows = None, None
    published = program.procedure == "mssp" and file.suffix != ".parquet" and is_results_file(file)
    if published:
        rows = read_settlement_rows(file, year)
        compared = compare(rows, program=program) if has_published(rows) else None
    if compared is not None:
        settled = compared.settlement
    elif rows is not None:
        settled = program.settle(rows.frame, performance_year=year)
    else:
        table = _table(file, names=program.organization)
        settled = program.settle(table, performance_year=year)
    explained = [settled.explain(organization) for organization in explain or ()]
    named = year_in_name(file.name)
    if rows is not None and named not in (None, year):
        typer.echo(
            f"`{file.name}` is called after {named}; it is settled under the rules of {year}."
        )
    for line in (*_summary(settled), *(_comparison(compared) if compared else ())):
        typer.echo(line)
    if rows is not None and compared is None:
        typer.echo("not compared: the file has no amounts earned or owed (`EarnSaveLoss`)")
    for explanation in explained:
        typer.echo(f"\n{explanation}")
    if out is not None:
        with atomic_path(out) as target:
            settled.tidy().to_csv(target, index=False)
        typer.echo(f"Wrote {out}.")


def _table(file: Path, *, names: str) -> pd.DataFrame:
    """Read a table; `names` is a column of identifiers, whose leading zeros are kept."""
    try:
        if file.suffix == ".parquet":
            return pd.read_parquet(file)
        table = pd.read_csv(file, dtype={names: "string"})
    except (ValueError, OSError) as error:
        raise DataError(
            f"`{file}` cannot be read as a table: {error}. Give CSV or Parquet."
        ) from error
    if len(table.columns) == 1 and any(mark in str(table.columns[0]) for mark in ";\t|"):
        raise DataError(
            f"`{file}` has one column: its fields are not separated by commas. Save it as CSV with "
            "commas."
        )
    return table


def _summary(settled: Settlement) -> Iterator[str]:
    payment = settled.payment
    paid, owed = payment[payment > 0], payment[payment < 0]
    yield f"{settled.title}, performance year {settled.performance_year}"
    yield f"settled: {counted(len(settled), 'organization')}"
    yield f"paid: {counted(len(paid), 'organization')}, ${paid.sum():,.0f}"
    yield f"owing: {counted(len(owed), 'organization')}, ${abs(owed.sum()):,.0f}"
    for sentence in settled.assumed:
        yield f"assumed: {sentence}"
    doubtful = sorted(set(settled.unconfirmed()["parameter"]))
    yield f"unconfirmed values used: {listed(doubtful, most=20) or 'none'}"


def _comparison(compared: Replication) -> Iterator[str]:
    row = compared.table().to_dict("records")[0]
    yield "compared with the published amounts:"
    yield f"  money due (paid or owing): {row['money_due']}"
    yield f"  within $1: {row['within_1_dollar']}"
    yield (
        f"  within $1 or within the published rounding of quality score and sharing rate: "
        f"{row['within_rounding']}"
    )
    if row["money_due"]:
        yield f"  median half-width of that interval: ${row['median_half_width']:,.0f}"
    yield f"  no money due, published or computed, but for rounding: {row['zero']}"
    yield f"  unexplained: {row['unexplained']}"
    for entry in compared.unexplained().to_dict("records"):
        note = f"; {entry['note']}" if entry["note"] else ""
        yield (
            f"    {entry['organization']} {entry['name']} ({entry['track']}): published "
            f"{entry['published']:,.0f}, computed {entry['computed']:,.2f}, allowed "
            f"{entry['low']:,.2f} to {entry['high']:,.2f}{note}"
        )
