"""The command line: `vbceval study|data|moments|program ...`."""

from __future__ import annotations

import sys
from importlib import metadata
from pathlib import Path
from typing import Annotated

import typer

from vbceval.core.errors import VbcevalError
from vbceval.data import datasets, get, read_file, read_mssp
from vbceval.study.config import Found, find_study, list_studies, study_roots
from vbceval.study.moments_cli import moments_app
from vbceval.study.program_cli import program_app
from vbceval.study.progress import TerminalDisplay, TerminalDownloads, seconds
from vbceval.study.reproduce import accept, verify
from vbceval.study.run import run_study
from vbceval.study.scaffold import new_study
from vbceval.study.terminal import counted, interruptible

app = typer.Typer(
    name="vbceval",
    help="Evaluate value-based payment programs: run studies and verify their numbers.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
study_app = typer.Typer(help="Run studies and verify them.", no_args_is_help=True)
data_app = typer.Typer(help="Get public data and check files.", no_args_is_help=True)
app.add_typer(study_app, name="study")
app.add_typer(data_app, name="data")
app.add_typer(moments_app, name="moments")
app.add_typer(program_app, name="program")

Name = Annotated[
    str, typer.Argument(metavar="NAME", help="Name of a study, or the path of its folder.")
]
Data = Annotated[
    Path | None,
    typer.Option("--data", metavar="DIR", help="Folder of the data that the study reads."),
]
Fast = Annotated[bool, typer.Option("--fast", help="Use the small sizes of the study.")]


def main(arguments: list[str] | None = None) -> None:
    """
    Run the command line and exit.

    Exit status: 0 done; 1 an error of `vbceval`, whose message goes to the standard error stream
    without a traceback; 2 wrong use; 130 interrupted. An unexpected error keeps its traceback.

    Parameters
    ----------
    arguments : list of str, optional
        Words after the command; those of the process by default.
    """
    try:
        app(args=arguments, prog_name="vbceval")
    except VbcevalError as error:
        typer.echo(f"Error: {error}", err=True)
        sys.exit(1)


def _show_version(value: bool) -> None:
    if value:
        typer.echo(f"vbceval {metadata.version('vbceval')}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Evaluate value-based payment programs: run studies and verify their numbers."""


# -------------------------------------------------------------------------------------- study


@study_app.command("list")
def study_list() -> None:
    """List the studies that are found: id, title, inputs, status."""
    found = list_studies()
    if not found:
        places = ", ".join(map(str, study_roots())) or "no folder of studies"
        typer.echo(f"No studies found in {places}. `vbceval study new NAME` makes one.")
    for entry in found:
        typer.echo(_describe(entry))


def _describe(entry: Found) -> str:
    study = entry.study
    if study is None:
        return f"{entry.id}\n  status: cannot be used. {entry.problem}"
    n = len(list(study.expected().glob("*.csv")))
    status = f"{counted(n, 'table')} of record" if n else "no numbers of record yet"
    if any(study.expected(fast=True).glob("*.csv")):
        status += ", also at fast size"
    # several inputs may be files of one data set
    inputs = "; ".join(dict.fromkeys(item.label for item in study.inputs)) or "none"
    return f"{study.id}\n  title: {study.title}\n  inputs: {inputs}\n  status: {status}"


@study_app.command("run")
def study_run(
    name: Name,
    data: Data = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="DIR", help="Output folder, new or empty; default output/NAME."
        ),
    ] = None,
    fast: Fast = False,
    force: Annotated[
        bool,
        typer.Option("--force", help="Replace an earlier run of the same study in the folder."),
    ] = False,
) -> None:
    """Run a study: tables, figures, report.html and manifest.json, all or nothing."""
    with interruptible("Interrupted, nothing written."):
        run = run_study(name, data=data, out=out, fast=fast, force=force, display=TerminalDisplay())
    took = seconds(run.manifest["seconds"])
    n = len(run.manifest["warnings"])
    noted = f", {counted(n, 'warning')}" if n else ""
    typer.echo(f"Study '{run.study.id}' finished in {took}{noted}. Report: {run.report}")


@study_app.command("verify")
def study_verify(name: Name, data: Data = None, fast: Fast = False) -> None:
    """Run a study again and compare it with its numbers of record."""
    with interruptible("Interrupted, nothing written."):
        done = verify(name, data, fast=fast, display=TerminalDisplay())
    inputs = f" and the {counted(done.n_inputs, 'input')}" if done.n_inputs else ""
    typer.echo(
        f"Study '{done.study.id}' reproduces: all {counted(done.n_tables, 'table')}{inputs} agree "
        f"with the record ({done.size} size, {seconds(done.seconds)})."
    )


@study_app.command("accept")
def study_accept(
    name: Name,
    source: Annotated[
        Path | None,
        typer.Option("--from", metavar="DIR", help="Output folder of a run; default output/NAME."),
    ] = None,
) -> None:
    """Make the tables of a finished run the numbers of record."""
    study = find_study(name)
    folder = Path("output") / study.id if source is None else source
    tables = accept(study, folder)
    typer.echo(
        f"Accepted {counted(len(tables), 'table')} of {folder} as the numbers of record of "
        f"'{study.id}'. If they replace others, say what changed and why under the amendments in "
        "protocol.md."
    )


@study_app.command("new")
def study_new(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Lower-case letters, digits and hyphens.")
    ],
    within: Annotated[
        Path, typer.Option("--in", metavar="DIR", help="Folder that holds studies.")
    ] = Path("studies"),
) -> None:
    """Make the folder of a new study, with a protocol to fill in and an example that runs."""
    folder = new_study(name, within=within)
    typer.echo(f"Made {folder}. Write protocol.md first; `vbceval study run {folder}` runs it.")


# --------------------------------------------------------------------------------------- data


@data_app.command("list")
def data_list() -> None:
    """List the public data sets that can be fetched: publisher, licence, years, page."""
    for name, entry in datasets().items():
        years = f"{entry.years[0]} to {entry.years[-1]}, " if entry.years else ""
        typer.echo(
            f"{name}\n  title: {entry.title}\n  publisher: {entry.publisher}\n"
            f"  licence: {entry.license}\n  holds: {years}{counted(len(entry.files), 'file')}\n"
            f"  page: {entry.page}"
        )


@data_app.command("get")
def data_get(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Name of a data set of `vbceval data list`.")
    ],
    source: Annotated[
        Path | None,
        typer.Option("--from", metavar="DIR", help="Take files that are here already."),
    ] = None,
    cache: Annotated[
        Path | None,
        typer.Option(
            "--cache", metavar="DIR", help="Keep files in DIR/NAME, not the user's cache."
        ),
    ] = None,
    years: Annotated[
        str | None,
        typer.Option("--years", metavar="YEARS", help="Performance years, such as 2014-2018,2020."),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Fetch again, and accept files that changed.")
    ] = False,
) -> None:
    """Fetch a public data set into the cache, or check and remember files that are here."""
    wanted = None if years is None else _years(years)
    kept = "Interrupted. Finished files are kept; the same command goes on from there."
    with interruptible(kept), TerminalDownloads() as progress:
        found = get(name, years=wanted, cache=cache, source=source, force=force, progress=progress)
    for why in found.missing.values():
        typer.echo(f"not at hand: {why}", err=True)
    for folder in sorted({path.parent for path in found.paths}):
        n = sum(path.parent == folder for path in found.paths)
        typer.echo(f"{counted(n, 'file')} of '{name}' in {folder}. Give it to a study as `--data`.")


def _years(text: str) -> list[int]:
    """Read ``2014-2018,2020``."""
    found: list[int] = []
    for part in text.split(","):
        first, dash, last = part.partition("-")
        last = last if dash else first
        if not (first.strip().isdigit() and last.strip().isdigit()):
            raise typer.BadParameter(
                f"'{part}' is not a year or a range of years, such as 2014-2018,2020",
                param_hint="--years",
            )
        found += range(int(first), int(last) + 1)
    return sorted(set(found))


@data_app.command("check")
def data_check(
    path: Annotated[
        Path,
        typer.Argument(metavar="PATH", help="A file, or a folder of files, of the MSSP results."),
    ],
) -> None:
    """Read published files and check each against itself; nothing is written."""
    with interruptible("Interrupted."):
        results = read_file(path) if path.is_file() else read_mssp(path)
    rows = results.aco_year.groupby("source_file")["aco_id"].nunique()
    for file, year in results.sources[["source_file", "performance_year"]].itertuples(index=False):
        typer.echo(f"{file}: performance year {year}, {counted(int(rows[file]), 'ACO')}, passes")
    typer.echo(
        f"{counted(len(results.flags), 'cell')} are missing: suppressed by the publisher, or here "
        "because they count 1-10 people or would reveal such a count."
    )


if __name__ == "__main__":
    main()
