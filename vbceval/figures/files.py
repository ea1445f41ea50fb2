"""Figures on disk: picture, plotted values, alternative text and provenance, all or nothing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from vbceval.core.errors import DataError
from vbceval.core.files import atomic_path, sha256
from vbceval.figures import canvas, disclosure
from vbceval.figures.records import FigureRecord, record

if TYPE_CHECKING:
    from vbceval.figures.canvas import Figure


def save(
    fig: Figure,
    path: str | Path,
    *,
    data: pd.DataFrame | None = None,
    note: str | None = None,
    alt: str | None = None,
    formats: Sequence[str] = ("png",),
    dpi: int = 300,
    people: Sequence[str] = (),
) -> dict[str, Path]:
    """
    Write a figure and everything a reader needs to check it.

    Beside each picture go ``<name>.csv`` with every plotted value, ``<name>.alt.txt`` with the
    alternative text, and ``<name>.json`` with the note, the provenance and the hashes of the
    other files. No clock and no path is written, so equal input gives equal bytes. Either all files
    are replaced or none.

    Parameters
    ----------
    fig : Figure
        A figure of this package, or any matplotlib figure with `data` and `alt`.
    path : str or Path
        Where to write; its suffix, if any, is replaced by that of each file.
    data : DataFrame, optional
        Plotted values, instead of those that the figure carries.
    note, alt : str, optional
        Note and alternative text of a figure that was drawn by something else.
    formats : sequence of {"png", "svg", "pdf"}, default ("png",)
        Pictures to write.
    dpi : int, default 300
        Resolution of PNG; journals ask for 600 for line art.
    people : sequence of str
        Columns of `data` that count people and are not known by name.

    Returns
    -------
    dict
        Path of each file, by "png", "svg", "pdf", "csv", "alt", "json".

    Raises
    ------
    DataError
        If a format is not known, or a figure of something else lacks `data` or `alt`.
    """
    unknown = [f for f in formats if f not in canvas.FORMATS]
    if unknown or not formats:
        raise DataError(
            f"`formats` is {list(formats)}: give at least one of {', '.join(canvas.FORMATS)}."
        )
    used = _record(fig, data, note, alt)
    # figures of this package are checked when drawn; the check is cheap and the file leaves
    checked = disclosure.check(used.data, people=people)
    values = used.data.copy()
    for column in checked.columns:
        values[column] = checked.frame[column].to_numpy()
    base = Path(path)
    base = base.with_suffix("") if base.suffix.lstrip(".") in canvas.FORMATS else base
    paths = {kind: base.with_name(f"{base.name}.{kind}") for kind in (*formats, "csv")}
    paths["alt"] = base.with_name(f"{base.name}.alt.txt")
    paths["json"] = base.with_name(f"{base.name}.json")
    with ExitStack() as stack:
        temporary = {kind: stack.enter_context(atomic_path(p)) for kind, p in paths.items()}
        for kind in formats:
            canvas.write_image(fig, temporary[kind], kind, dpi=dpi)
        # twelve digits: the last ones differ between processors, and the hash with them
        values.to_csv(temporary["csv"], index=False, lineterminator="\n", float_format="%.12g")
        temporary["alt"].write_text(used.alt + "\n", encoding="utf-8", newline="\n")
        hashes = {paths[k].name: sha256(temporary[k]) for k in (*formats, "csv", "alt")}
        text = json.dumps(_provenance(used, values, hashes), indent=1, ensure_ascii=False)
        temporary["json"].write_text(text + "\n", encoding="utf-8", newline="\n")
    return paths


def _record(
    fig: Figure, data: pd.DataFrame | None, note: str | None, alt: str | None
) -> FigureRecord:
    if data is not None and "vbceval_record" not in vars(fig):
        if alt is None:
            raise DataError(
                "the figure has no alternative text, which readers who cannot see it need. Say in "
                "`alt=` what it shows."
            )
        return FigureRecord(kind="figure", data=data, note=note or "", alt=alt, style="jama")
    found = record(fig)
    changes: dict[str, Any] = {"data": data, "note": note, "alt": alt}
    return replace(found, **{k: v for k, v in changes.items() if v is not None})


def _provenance(used: FigureRecord, values: pd.DataFrame, hashes: dict[str, str]) -> dict[str, Any]:
    return {
        "kind": used.kind,
        "note": used.note,
        "alt": used.alt,
        "style": used.style,
        "level": used.level,
        "rows": len(values),
        "columns": [str(c) for c in values.columns],
        "made_from": dict(used.provenance),
        "drawn_with": {"matplotlib": canvas.version()},
        "sha256": hashes,
    }
