"""Find Parquet files, check that they agree, and describe them for provenance."""

from __future__ import annotations

import glob
import hashlib
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from vbceval.core.checks import Problems, listed
from vbceval.core.errors import DataError
from vbceval.core.files import sha256
from vbceval.engine.relation import Relation, SourceFile, choose

if TYPE_CHECKING:
    import pyarrow as pa

_PATTERN = re.compile(r"[*?\[]")
# Both engines read these in a path as a pattern, and neither has an escape the other knows.
_AMBIGUOUS = re.compile(r"[*?\[\]{}\\]")
_NULL_FOLDER = "__HIVE_DEFAULT_PARTITION__"
# Names of tables that are not read from a folder; notes and logs may lie beside its parts.
_OTHER_TABLE = re.compile(
    r"\.parquet|\.(parq|pq|csv|tsv|arrow|feather|orc|avro|sas7bdat|xpt|dta|sav)(\.|$)",
    re.IGNORECASE,
)
_MAGIC = b"PAR1"


@dataclass(frozen=True, kw_only=True)
class ParquetFiles:
    """
    Parquet files that can be read as one table.

    Attributes
    ----------
    paths : tuple of str
        Files, sorted.
    columns : tuple of str
        Columns kept, in order; those of folders named ``key=value`` come last by default.
    keys : mapping of str to str
        Type of each column that comes from a folder's name: ``BIGINT`` or ``VARCHAR``.
    folder_names : mapping of str to str
        How each of these columns is spelled in the folders: special characters are written as %XX.
    label : str
        What was asked for.
    """

    paths: tuple[str, ...]
    columns: tuple[str, ...]
    keys: Mapping[str, str]
    folder_names: Mapping[str, str]
    label: str

    def described(self) -> tuple[SourceFile, ...]:
        """Return each file's size, time and the hash of its footer."""
        return tuple(describe(Path(path)) for path in self.paths)


def is_path(source: object) -> bool:
    """Return whether a source names files, not a table: a Path, or text with a path's signs."""
    if isinstance(source, Path):
        return True
    if not isinstance(source, str):
        return False
    signs = re.search(r"[/\\*?\[]|\.(parquet|csv|json|arrow|feather)$", source, re.IGNORECASE)
    return signs is not None or Path(source).exists()


def open_files(source: object, columns: Sequence[str] | None) -> ParquetFiles:
    """
    Find the files a source names and check that they agree about the columns kept.

    Raises
    ------
    DataError
        If nothing is found, a file is not Parquet, or files disagree.
    """
    label = _label(source)
    paths = _find(source)
    problems = Problems(f"`{label}`")
    odd = [path for path in paths if _AMBIGUOUS.search(path)]
    if odd:
        problems.add(
            f"the names of {len(odd):,} file(s) hold one of `* ? [ ] {{ }} \\`, which an engine reads "
            f"as a pattern ({listed(odd, most=3)}). Rename them."
        )
    schemas = _schemas(paths, problems)
    problems.raise_if_any()
    _check_copies(paths, problems)
    keys = _folder_keys(paths, problems)
    problems.raise_if_any()
    inside: dict[str, None] = {}
    for schema in schemas.values():
        inside.update(dict.fromkeys(schema))
    both = [key for key in keys if key in inside]
    if both:
        problems.add(
            f"{listed(both)} is both a column of the files and the name of a folder. Rename one."
        )
    problems.raise_if_any()
    chosen = choose([*inside, *keys], columns, f"`{label}`")
    check_agreement(schemas, [name for name in chosen if name not in keys], problems)
    problems.raise_if_any()
    return ParquetFiles(
        paths=tuple(paths),
        columns=tuple(chosen),
        keys=keys,
        folder_names={unquote(key): key for path in paths[:1] for key, _ in _pairs(path)},
        label=label,
    )


def describe(path: Path) -> SourceFile:
    """Return what provenance records of one Parquet file; reads its footer only."""
    status = path.stat()
    with path.open("rb") as stream:
        stream.seek(-8, 2)
        length = int.from_bytes(stream.read(4), "little")
        stream.seek(-8 - length, 2)
        footer = stream.read(length)
    return SourceFile(
        path=str(path),
        size=status.st_size,
        modified=datetime.fromtimestamp(status.st_mtime, UTC).isoformat(),
        footer_sha256=hashlib.sha256(footer).hexdigest(),
    )


def check_unchanged(relation: Relation) -> None:
    """
    Look at the files of a source again.

    Raises
    ------
    DataError
        If a file's size or time is not what it was at the beginning.
    """
    changed = []
    for file in relation.source.files:
        if file.footer_sha256 is None:
            continue
        try:
            status = Path(file.path).stat()
        except FileNotFoundError:
            changed.append(Path(file.path).name)
            continue
        modified = datetime.fromtimestamp(status.st_mtime, UTC).isoformat()
        if (status.st_size, modified) != (file.size, file.modified):
            changed.append(Path(file.path).name)
    if changed:
        raise DataError(
            f"{len(changed):,} files of the source changed while they were read ({listed(changed)}), "
            "so that rows of two states would be mixed. Run again when they are complete, in a new "
            "folder where one was given."
        )


def root_of(files: ParquetFiles) -> str:
    """Return the folder above the first folder named ``key=value``, one for all files."""
    roots = {_root(path) for path in files.paths}
    if len(roots) > 1:
        raise DataError(
            f"`{files.label}` has folders named key=value below {len(roots)} places "
            f"({listed(sorted(roots), most=3)}), and Spark reads them below one. Register each "
            "apart, or move them together."
        )
    return roots.pop()


def _label(source: object) -> str:
    if isinstance(source, str | Path):
        return str(source)
    items = [str(item) for item in source] if isinstance(source, Sequence) else []
    return items[0] if len(items) == 1 else f"{len(items):,} paths"


def _find(source: object) -> list[str]:
    items: list[Any] = list(source) if isinstance(source, list | tuple) else [source]
    problems = Problems("the list of files" if len(items) != 1 else f"`{items[0]}`")
    if not items:
        problems.add("it is empty. Name at least one Parquet file.")
    strange = dict.fromkeys(type(x).__name__ for x in items if not isinstance(x, str | Path))
    if strange:
        raise DataError(
            f"the list of files holds a {listed(strange)}. Give paths; put tables in memory together "
            "first, or take the moments of each and add them."
        )
    found: dict[Path, str] = {}
    for item in items:
        path = Path(item)
        if path.is_file():
            matches = [path]
        elif path.is_dir():
            inside = [p for p in path.rglob("*") if _shown(p.relative_to(path)) and not p.is_dir()]
            matches = [p for p in inside if p.suffix == ".parquet"]
            _check_others(item, [p for p in inside if p.suffix != ".parquet"], problems)
        elif _PATTERN.search(str(item)):
            hits = [Path(hit) for hit in glob.glob(str(item), recursive=True)]  # noqa: PTH207  # absolute patterns too
            matches = [p for p in hits if p.is_file() and _shown(Path(p.name))]
        else:
            problems.add(f"there is no file or folder `{item}`. Check the path.")
            continue
        if not matches:
            what = "no file ends in `.parquet`" if path.is_dir() else "nothing matches the pattern"
            problems.add(f"{what} (`{item}`). Check the path, and that the data were written.")
        for match in sorted(matches):
            # one file may be named twice: by a folder and itself, by a link, by another path
            found.setdefault(match.resolve(), str(match))
    problems.raise_if_any()
    return list(found.values())


def _check_others(folder: object, files: Sequence[Path], problems: Problems) -> None:
    """Refuse files of a folder that look like parts of the table and would not be read."""
    unread = sorted(str(p) for p in files if _OTHER_TABLE.search(p.name) or _begins_as_parquet(p))
    if unread:
        problems.add(
            f"{len(unread):,} file(s) of the folder look like tables, and do not end in `.parquet` "
            f"({listed(unread, most=3)}), so they would not be read and their rows be missing without "
            f"a word. Write or rename them as `.parquet`, move them, or give `{folder}/**/*.parquet`."
        )


def _begins_as_parquet(path: Path) -> bool:
    try:
        with path.open("rb") as stream:
            return stream.read(len(_MAGIC)) == _MAGIC
    except OSError:
        return False


def _check_copies(paths: Sequence[str], problems: Problems) -> None:
    """Refuse two files with the same bytes below the same keys: their rows would count twice."""
    alike: dict[tuple[object, ...], list[str]] = defaultdict(list)
    for path in paths:
        file = describe(Path(path))
        alike[file.size, file.footer_sha256, tuple(_pairs(path))].append(path)
    same: dict[str, list[str]] = defaultdict(list)
    for group in alike.values():
        # files without statistics may have one footer and other rows
        for path in group if len(group) > 1 and _has_rows(group[0]) else ():
            same[sha256(Path(path))].append(path)
    copies = [group for group in same.values() if len(group) > 1]
    if copies:
        shown = "; ".join(listed(group, most=3) for group in copies[:3])
        problems.add(
            f"{sum(map(len, copies)):,} files are copies of each other, byte for byte ({shown}), so "
            "their rows would count twice. Remove the copies, or name the files that are meant."
        )


def _has_rows(path: str) -> bool:
    import pyarrow.parquet as pq

    return bool(pq.read_metadata(path).num_rows)


def _shown(path: Path) -> bool:
    # `_SUCCESS`, `_temporary` and hidden files belong to whoever writes
    return not any(part.startswith(("_", ".")) and "=" not in part for part in path.parts)


def _schemas(paths: Sequence[str], problems: Problems) -> dict[str, dict[str, str]]:
    """Return each file's columns and types, from its footer."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schemas: dict[str, dict[str, str]] = {}
    broken: list[str] = []
    strange: dict[str, list[str]] = defaultdict(list)
    for path in paths:
        try:
            fields = list(pq.read_schema(path))
        except pa.ArrowNotImplementedError as error:
            strange[str(error)].append(path)
            continue
        except (pa.ArrowException, OSError):
            broken.append(path)
            continue
        names = [field.name for field in fields]
        if len(set(names)) < len(names):
            problems.add(f"`{path}` has two columns of one name. Write it again with one.")
        schemas[path] = {field.name: _type(field.type) for field in fields}
    for reason, files in strange.items():
        problems.add(
            f"{len(files):,} file(s) are Parquet with a column of a type that is not read "
            f"({listed(files, most=3)}): {reason}. Cast it when the file is written: 128-bit integers "
            "to 64 bits, decimals or text."
        )
    if broken:
        problems.add(
            f"{len(broken):,} file(s) are not Parquet, or only part of one ({listed(broken)}). "
            "Only Parquet is read: write the table as Parquet, or finish the copy."
        )
    return schemas


def _type(kind: pa.DataType) -> str:
    """Name a type as the file has it; Arrow's ways of holding it in memory do not differ."""
    import pyarrow as pa

    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    same = {"large_string": "string", "string_view": "string", "large_binary": "binary"}
    return same.get(str(kind), str(kind))


def check_agreement(
    schemas: Mapping[str, Mapping[str, str]], columns: Sequence[str], problems: Problems
) -> None:
    """Say which columns have several types, or are absent in some files; schemas are by file."""
    for name in columns:
        groups: dict[str, list[str]] = defaultdict(list)
        for path, schema in schemas.items():
            groups[schema.get(name, "")].append(path)
        if len(groups) == 1:
            continue
        said = [
            f"{'absent' if not kind else f'`{kind}`'} in {len(paths):,} ({listed(paths, most=3)})"
            for kind, paths in groups.items()
        ]
        problems.add(
            f"column `{name}` differs between files: {'; '.join(said)}. An engine would convert or "
            "blank it without a word. Write the files again with one type, or do without the column."
        )


def _folder_keys(paths: Sequence[str], problems: Problems) -> dict[str, str]:
    """Return the columns that folders named ``key=value`` add, with their types."""
    values: dict[str, set[str]] = defaultdict(set)
    named: dict[tuple[str, ...], str] = {}
    for path in paths:
        pairs = _pairs(path)
        for key, value in pairs:
            values[unquote(key)].add(unquote(value))
        named.setdefault(tuple(unquote(key) for key, _ in pairs), path)
    if len(named) > 1:
        shown = [f"{listed(keys) if keys else 'none'} (`{path}`)" for keys, path in named.items()]
        problems.add(
            f"folders named key=value differ between files: {'; '.join(shown[:3])}. Every file "
            "must lie below the same keys."
        )
    return {key: _key_type(found) for key, found in values.items()}


def _pairs(path: str) -> list[tuple[str, str]]:
    parts = (part.partition("=") for part in Path(path).parts[:-1] if "=" in part)
    return [(key, value) for key, _, value in parts]


def _key_type(values: set[str]) -> str:
    # 01 and 1 are different texts and one number: only a number's one spelling makes it a number
    present = values - {_NULL_FOLDER}
    whole = all(re.fullmatch(r"0|-?[1-9]\d{0,17}", value) for value in present)
    return "BIGINT" if whole and present else "VARCHAR"


def _root(path: str) -> str:
    parts = Path(path).parts
    first = next(i for i, part in enumerate(parts) if "=" in part)
    return str(Path(*parts[:first])) if first else "."
