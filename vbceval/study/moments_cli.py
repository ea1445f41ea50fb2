"""`vbceval moments ...`: take the moments of a table, look at them, and make the copy to share."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from vbceval.core.checks import listed
from vbceval.core.disclosure import SMALLEST_SHOWN
from vbceval.core.errors import DataError
from vbceval.core.files import only_writer
from vbceval.engine import connect
from vbceval.moments import Moments
from vbceval.study.moments_config import Build, read_build
from vbceval.study.progress import TerminalDisplay, seconds
from vbceval.study.terminal import counted, interruptible

moments_app = typer.Typer(
    help="Take moments of a table, look at them, share them.", no_args_is_help=True
)

MomentsFile = Annotated[
    Path, typer.Argument(metavar="FILE", help="A moments file, of `vbceval moments build`.")
]
Force = Annotated[bool, typer.Option("--force", help="Replace the file if it is there.")]


@moments_app.command("build")
def build(
    config: Annotated[
        Path, typer.Argument(metavar="CONFIG", help="TOML file: source, engine, columns, digits.")
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="Moments file; default `output` of CONFIG."),
    ] = None,
    force: Force = False,
) -> None:
    """Take the moments of a table inside an engine and write them to a file."""
    plan = read_build(config)
    path = out or plan.output or Path(f"{config.stem}.moments.parquet")
    start = time.perf_counter()
    with interruptible("Interrupted, nothing written."), _place(path, force):
        moments = _take(plan)
        moments.save(path)
    took = seconds(time.perf_counter() - start)
    typer.echo(
        f"Wrote {path}: {counted(len(moments), 'cell')} of "
        f"{counted(len(moments.units), 'cluster')} in {took}. It holds cells of few people and "
        "stays inside; `vbceval moments share` makes the copy that may leave."
    )


def _take(plan: Build) -> Moments:
    # the names of engines and their options were checked with the file
    with TerminalDisplay().stage(f"moments of {plan.source} in {plan.engine}"):
        options: Mapping[str, Any] = plan.engine_options
        engine = connect(plan.engine, **options)  # type: ignore[call-overload]  # name is a str here
        with engine:
            return Moments.from_table(plan.source, engine=engine, **plan.options)


@moments_app.command("inspect")
def inspect(file: MomentsFile) -> None:
    """Say what a moments file holds: keys, columns, sizes, where it came from."""
    for line in summary(Moments.load(file)):
        typer.echo(line)


@moments_app.command("share")
def share(
    file: MomentsFile,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="The copy; default FILE with `.shared`."),
    ] = None,
    minimum: Annotated[
        int, typer.Option("--minimum", metavar="N", help="Smallest number of people shown.")
    ] = SMALLEST_SHOWN,
    published: Annotated[
        list[Path] | None,
        typer.Option("--published", metavar="FILE", help="A file shared before; repeat."),
    ] = None,
    dominance: Annotated[
        float | None,
        typer.Option("--dominance", metavar="SHARE", help="Most of an amount one row may have."),
    ] = None,
    margin: Annotated[
        list[str] | None,
        typer.Option(
            "--margin", metavar="KEYS",
            help="Totals that readers know, as `quarter,dual`; repeat, or `none`.",
        ),
    ] = None,
    without_squares: Annotated[
        list[str] | None,
        typer.Option(
            "--without-squares", metavar="OUTCOME", help="Its squares stay behind; repeat."
        ),
    ] = None,
    force: Force = False,
) -> None:  # fmt: skip
    """Make the copy of a moments file that may leave, audit it, and say what was merged."""
    path = out or file.with_suffix(".shared.parquet")
    start = time.perf_counter()
    with interruptible("Interrupted, nothing written."), _place(path, force):
        moments = Moments.load(file)
        with TerminalDisplay().stage(f"sharing {file}"):
            shared = moments.shareable(
                minimum=minimum, published=published or (), dominance=dominance,
                margins=_margins(margin), without_squares=without_squares or (),
            )  # fmt: skip
        shared.save(path)
    # those of the source less those of the copy would tell which cells of the source are empty
    for line in (f"cells: {len(shared):,} in the copy", *_said(shared.meta["share"])):
        typer.echo(line)
    took = seconds(time.perf_counter() - start)
    typer.echo(f"Wrote {path} in {took}. Numbers of record are those estimated from this file.")


def _margins(given: list[str] | None) -> list[list[str]] | None:
    """Return lists of keys; `none` alone is no totals, and nothing given the usual ones."""
    if not given:
        return None
    if "none" in given:
        if len(given) > 1:
            raise DataError("`--margin none` stands with other totals. Name totals, or none.")
        return []
    return [[key.strip() for key in keys.split(",")] for keys in given]


def summary(moments: Moments) -> Iterator[str]:
    """
    Yield lines that say what moments hold; nothing in them counts 1-10 people.

    Parameters
    ----------
    moments : Moments
        As `Moments.load` returns them.
    """
    meta, schema = moments.meta, moments.sums.schema if moments.sums is not None else None
    if schema is None:
        raise DataError("these moments hold no sums; only those of a moments file are described.")
    yield f"source: {meta['source']['label']} ({meta['engine']})"
    shared = "share" in meta
    yield f"may leave: {'yes, made by share' if shared else 'no, it holds cells of few people'}"
    n = int(moments.n.sum())
    yield f"rows: {n:,}" if n >= SMALLEST_SHOWN else "rows: fewer than are shown"
    cohorts = moments.units["cohort"]
    treated = int(cohorts.notna().sum())
    yield (
        f"{schema.cluster}: {counted(len(moments.units), 'cluster')}, {treated:,} treated in "
        f"{counted(cohorts.nunique(), 'cohort')}"
    )
    periods = moments.cells["period"]
    yield f"{schema.period}: {counted(periods.nunique(), 'period')}, {periods.min():g} to {periods.max():g}"
    for name in schema.strata:
        yield f"{name}: {', '.join(map(str, sorted(moments.cells[name].unique(), key=str)))}"
    counts = "no count of people" if schema.unit is None else f"people by {schema.unit}"
    yield f"cells: {len(moments):,}, {counts}"
    yield f"weight: {schema.weight or 'none'}; exposure: {schema.exposure or 'none'}"
    yield (
        f"histograms: {', '.join(schema.histograms) or 'none'}; largest amounts: "
        f"{'kept' if schema.dominance else 'none'}"
    )
    for warning in meta.get("warnings", ()):
        yield f"warning: {warning}"
    for role, names in (("outcome", schema.outcomes), ("covariate", schema.covariates)):
        for name in names:
            yield f"{role} {name}: {_column(moments, name)}"


def _column(moments: Moments, name: str) -> str:
    # no mean: beside the number of rows, that of a 0/1 column is a count
    schema = moments.sums.schema if moments.sums is not None else None
    digits = None if schema is None else schema.digits[name]
    kept = "doubles" if digits is None else f"exact, {counted(digits, 'digit')}"
    return f"{kept}{', missing in some rows' if name in moments.blocks else ''}"


def _said(report: Mapping[str, Any]) -> Iterator[str]:
    cells = report["cells"]
    for key in ("strata", "periods", "clusters"):
        if cells[f"merged_over_{key}"]:
            yield f"merged over {key}: {counted(cells[f'merged_over_{key}'], 'cell')}"
    if report["clusters_left_out"]:
        yield f"left out: {counted(report['clusters_left_out'], 'cluster')}"
    for what, part in report["share_in_merged_cells"].items():
        yield f"share of {what} in merged cells: {part:.1%}"
    if report["merged_because_of"]:
        yield f"too small somewhere, most often first: {listed(report['merged_because_of'])}"
    if 2 * cells["merged_over_clusters"] > cells["published"]:
        yield (
            "most cells hold several organizations: moments with fewer strata, longer periods or "
            "fewer columns of rare events keep more of them apart"
        )
    yield f"audit: {report['audit']}"
    for gap in report["not_checked"]:
        yield f"not checked: {gap}"


@contextlib.contextmanager
def _place(path: Path, force: bool) -> Iterator[None]:
    """Hold the place of a file while it is made, so that two commands do not make one file."""
    if path.is_dir():
        raise DataError(f"`{path}` is a folder. Name a file with --out.")
    if not path.parent.is_dir():
        raise DataError(f"there is no folder `{path.parent}`. Make it first.")
    with only_writer(path):
        if path.exists() and not force:
            raise DataError(f"`{path}` exists. Name another file with --out, or pass --force.")
        yield
