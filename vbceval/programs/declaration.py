"""Read a program from a TOML file; everything wrong with the file is reported together."""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Callable, Mapping
from typing import Any, get_args

from vbceval.core.checks import Problems, listed
from vbceval.core.errors import DesignError
from vbceval.programs.inputs import INPUT_KINDS, Input
from vbceval.programs.program import Example, Program, Variant, known_procedures
from vbceval.programs.values import KINDS, Dated, Parameter, Status, read_years, write_years

_HEAD = ("title", "authority", "procedure", "organization", "years")
_TOP = frozenset(
    {
        *_HEAD,
        "variant",
        "variants",
        "inputs",
        "parameters",
        "verified",
        "notes",
        "examples",
        "extends",
    }
)
_FILE_STATUSES = tuple(status for status in get_args(Status) if status != "user")


def read_program(
    text: str, *, name: str, label: str, base: Callable[[str], Program] | None = None
) -> Program:
    """
    Read a program.

    Parameters
    ----------
    text : str
        TOML: ``title authority procedure organization years``, optionally ``variant`` (the column
        that holds it), ``verified``, ``notes``; tables ``variants``, ``inputs``, ``parameters``.
        Or ``extends = "NAME"`` and any of these, which then replace or add to those of NAME.
    name : str
        Name of the program.
    label : str
        Name of the file, for messages.
    base : callable, optional
        Gives the program that the file extends.

    Raises
    ------
    DesignError
        Listing every failure of the file.
    """
    found = Problems(f"file of rules `{label}`", DesignError)
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found.add(f"it is not TOML: {error}.")
        found.raise_if_any()
        raise
    unknown = sorted(set(raw) - _TOP)
    if unknown:
        found.add(
            f"{listed(unknown)} are no keys of a file of rules. Use {listed(sorted(_TOP), most=20)}."
        )
    extended = None
    if "extends" in raw and base is not None:
        extended = base(str(raw["extends"]))
    else:
        absent = [key for key in (*_HEAD, "parameters", "inputs") if key not in raw]
        if absent:
            found.add(f"{listed(absent)} are missing. Add them, or name a program with `extends`.")
    found.raise_if_any()
    program = _head(raw, name, extended, found)
    program = dataclasses.replace(program, inputs=_inputs(raw, program, found))
    program = dataclasses.replace(program, parameters=_parameters(raw, program, found))
    program = dataclasses.replace(program, examples=_examples(raw, program, found))
    found.raise_if_any()
    return program


def _head(raw: Mapping[str, Any], name: str, base: Program | None, found: Problems) -> Program:
    years = read_years(raw["years"]) if "years" in raw else None
    if "years" in raw and years is None:
        found.add(f'`years` is {raw["years"]!r}; write years like "2012-2020,2022".')
    held = years or (base.years if base else frozenset())
    variants = dict(base.variants) if base else {}
    for key, entry in raw.get("variants", {}).items():
        entry = entry if isinstance(entry, Mapping) else {"title": entry}
        own = read_years(entry["years"]) if "years" in entry else held
        if (
            own is None
            or not isinstance(entry.get("title"), str)
            or set(entry) - {"title", "years"}
        ):
            found.add(f"variant `{key}` needs a `title` and may have `years`, and nothing else.")
            continue
        if not own <= held:
            found.add(f"variant `{key}` has years outside {write_years(held)}.")
        variants[key] = Variant(key, entry["title"], own)
    if not variants:
        variants = {"ALL": Variant("ALL", "All organizations", held)}
    texts = {key: str(raw[key]) for key in (*_HEAD[:4], "verified") if key in raw}
    texts = {key: " ".join(value.split()) for key, value in texts.items()}
    procedure = texts.get("procedure", base.procedure if base else "")
    if procedure not in known_procedures():
        found.add(
            f"procedure `{procedure}` is not known. Use {listed(known_procedures(), most=40)}."
        )
    notes = tuple(str(note) for note in raw.get("notes", base.notes if base else ()))
    column = raw.get("variant", base.variant_column if base else None)
    changes: dict[str, Any] = {
        **texts, "name": name, "variant_column": column, "years": held, "variants": variants,
        "notes": notes,
    }  # fmt: skip
    if base is not None:
        # what was verified are the rules as they stand, not as they were changed
        return dataclasses.replace(base, **{"verified": "", "examples": (), **changes})
    return Program(**{"inputs": {}, "parameters": {}, **changes})


def _inputs(raw: Mapping[str, Any], program: Program, found: Problems) -> dict[str, Input]:
    inputs = dict(program.inputs)
    keys = {f.name for f in dataclasses.fields(Input)} - {"name"}
    for name, entry in raw.get("inputs", {}).items():
        wrong = _wrong_keys(entry, keys, {"what", "kind"})
        if not wrong and entry["kind"] not in INPUT_KINDS:
            wrong = f"`kind` is {entry['kind']!r}; use {listed(INPUT_KINDS)}"
        if wrong:
            found.add(f"input `{name}`: {wrong}.")
            continue
        inputs[name] = Input(name=name, **{**entry, "choices": tuple(entry.get("choices", ()))})
    return inputs


def _parameters(raw: Mapping[str, Any], program: Program, found: Problems) -> dict[str, Parameter]:
    parameters = dict(program.parameters)
    keys = {f.name for f in dataclasses.fields(Parameter)} - {"name"}
    for name, entry in raw.get("parameters", {}).items():
        earlier = parameters.get(name)
        wrong = _wrong_keys(entry, keys, {"values"} if earlier else {"what", "kind", "values"})
        if not wrong and entry.get("kind", "rate") not in KINDS:
            wrong = f"`kind` is {entry['kind']!r}; use {listed(KINDS)}"
        if wrong:
            found.add(f"parameter `{name}`: {wrong}.")
            continue
        fields = {key: entry[key] for key in entry if key != "values"}
        for key in ("columns", "choices"):
            if key in fields:
                fields[key] = tuple(fields[key])
        parameter = (
            dataclasses.replace(earlier, **fields) if earlier else Parameter(name=name, **fields)
        )
        values = _values(entry["values"], parameter, program, found)
        _report_overlap(values, name, found)
        # those of the file that is extended hold where this one says nothing
        kept = earlier.values if earlier else ()
        parameters[name] = dataclasses.replace(parameter, values=(*values, *kept))
    return parameters


def _values(
    rows: object, parameter: Parameter, program: Program, found: Problems
) -> tuple[Dated, ...]:
    if not isinstance(rows, list) or not rows:
        found.add(f"parameter `{parameter.name}`: `values` must be a list of tables.")
        return ()
    values = []
    for i, row in enumerate(rows, 1):
        where = f"parameter `{parameter.name}`, value {i}"
        wrong = _wrong_keys(
            row, {"value", "variants", "years", "status", "source"}, {"value", "status", "source"}
        )
        if wrong:
            found.add(f"{where}: {wrong}.")
            continue
        if row["status"] not in _FILE_STATUSES:
            found.add(f"{where}: `status` is {row['status']!r}; use {listed(_FILE_STATUSES)}.")
            continue
        variants = frozenset(row.get("variants", program.variants))
        unknown = sorted(variants - set(program.variants))
        if unknown:
            found.add(f"{where}: {listed(unknown)} are no variants of the program.")
        years = read_years(row["years"]) if "years" in row else program.years
        if years is None or not years <= program.years:
            found.add(
                f"{where}: years {row.get('years')!r} are not within {write_years(program.years)}."
            )
        value, problem = parameter.check(row["value"])
        if value is None or problem:
            found.add(f"{where}: the value {problem}; it is {row['value']!r}.")
            continue
        source = " ".join(str(row["source"]).split())
        values.append(Dated(value, variants, years or frozenset(), row["status"], source))
    return tuple(values)


def _examples(raw: Mapping[str, Any], program: Program, found: Problems) -> tuple[Example, ...]:
    keys = {f.name for f in dataclasses.fields(Example)}
    examples = []
    for i, entry in enumerate(raw.get("examples", ()), 1):
        wrong = _wrong_keys(entry, keys, keys)
        if not wrong and entry["performance_year"] not in program.years:
            wrong = f"`performance_year` is not within {write_years(program.years)}"
        if wrong:
            found.add(f"example {i}: {wrong}.")
            continue
        examples.append(Example(**entry))
    return tuple(examples)


def _report_overlap(values: tuple[Dated, ...], name: str, found: Problems) -> None:
    for i, first in enumerate(values):
        for j, second in enumerate(values[i + 1 :], i + 2):
            years = first.years & second.years
            variants = first.variants & second.variants
            if years and variants:
                found.add(
                    f"parameter `{name}`: values {i + 1} and {j} both hold for "
                    f"{listed(sorted(variants))} in {write_years(years)}. Let one hold."
                )


def _wrong_keys(entry: object, keys: set[str], needed: set[str]) -> str:
    if not isinstance(entry, Mapping):
        return "it must be a table"
    unknown, absent = sorted(set(entry) - keys), sorted(needed - set(entry))
    parts = [f"{listed(unknown)} are not known; use {listed(sorted(keys))}"] if unknown else []
    parts += [f"{listed(absent)} are missing"] if absent else []
    return "; ".join(parts)
