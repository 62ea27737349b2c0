"""`scripts/federation schema draft|merge|check`: a schema without pooled rows."""

from __future__ import annotations

import argparse
import json
import pathlib
import sys
from typing import Any

from tfl_research.cli.federation import schema_options
from tfl_research.federation.wire.authentication import check_name
from tfl_research.storage.files import atomic, user_paths

_MOST_LINES = 20


def add_parsers(commands: Any) -> None:
    """Adds the parsers of the three commands.

    Args:
      commands: the result of `add_subparsers` of the parser `schema`.
    """
    draft = commands.add_parser(
        "draft",
        help="draft the schema of this site's own files, and print what the draft "
        "discloses",
        allow_abbrev=False,
    )
    _add_data(draft)
    draft.add_argument("--site", required=True, help="name of this site")
    draft.add_argument(
        "--output", metavar="FILE", required=True, help="the draft, a new file"
    )
    draft.add_argument(
        "--minimum_count",
        type=int,
        default=5,
        help=(
            "leave out levels and classes that fewer rows have; at least this many "
            "values lie at or beyond each end of a range; 1 leaves nothing out "
            "(default: 5)"
        ),
    )
    draft.add_argument(
        "--scales",
        default="range",
        help="what to publish about columns of numbers: range; mean, with deviation "
        "and count; or none (default: range)",
    )
    draft.add_argument(
        "--scale_digits",
        type=int,
        default=1,
        help=(
            "round means, deviations and (outward) ranges to this many digits of the "
            "scale's size; 0 does not round (default: 1)"
        ),
    )
    draft.add_argument(
        "--missing",
        default="found",
        help=(
            "found: publish for each column whether a cell is missing; possible: say "
            "for all columns that cells may be missing (default: found)"
        ),
    )
    draft.add_argument(
        "--categories",
        default="",
        metavar="COLUMNS",
        help="columns whose numbers are codes of categories, separated by commas",
    )
    draft.add_argument(
        "--notation",
        action="append",
        default=[],
        metavar="COLUMN=JSON",
        help="how the cells of a column are written, as in a schema.json: "
        'price={"type": "number", "decimal": ","}; may be repeated',
    )
    draft.set_defaults(run=_draft)
    merge = commands.add_parser(
        "merge",
        help="merge drafts that sites published into a schema.json",
        allow_abbrev=False,
    )
    merge.add_argument("drafts", nargs="+", metavar="DRAFT", help="files of drafts")
    merge.add_argument(
        "--output", metavar="FILE", required=True, help="the schema, a new file"
    )
    merge.add_argument(
        "--range",
        action="append",
        default=[],
        metavar="COLUMN=LOW:HIGH",
        help="a range that is known without the data; may be repeated",
    )
    merge.add_argument(
        "--levels",
        action="append",
        default=[],
        metavar="COLUMN=LEVEL,...",
        help="further levels that are known without the data; may be repeated",
    )
    merge.add_argument(
        "--classes", default="", metavar="NAMES", help="further classes of the label"
    )
    merge.add_argument(
        "--distinct",
        action="append",
        default=[],
        metavar="COLUMN",
        help="levels of this column are different things, although they differ only by "
        "case, space or accent; may be repeated",
    )
    merge.add_argument(
        "--drop_columns",
        default="",
        metavar="COLUMNS",
        help="columns to leave out, separated by commas",
    )
    merge.add_argument(
        "--unknown",
        help=(
            "what happens to a level that is not listed: refuse, or encode it as other "
            "or zeros (default: zeros if a site left out rare levels, else refuse)"
        ),
    )
    merge.add_argument(
        "--outside",
        help=(
            "what happens to a number outside of its range: refuse, or clip it to the "
            "nearer end (default: clip if a site left out rare values, else refuse)"
        ),
    )
    merge.set_defaults(run=_merge)
    check = commands.add_parser(
        "check",
        help="check this site's files against a schema.json",
        allow_abbrev=False,
    )
    _add_data(check)
    check.add_argument(
        "--schema", required=True, metavar="FILE", help="the merged schema"
    )
    check.add_argument(
        "--install",
        action="store_true",
        help="if the files fit, copy the schema into the data's folder",
    )
    check.set_defaults(run=_check)


def _add_data(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data_dir", required=True, help="folder of this site's .csv or .parquet files"
    )
    parser.add_argument("--label_column", required=True, help="column of the label")
    parser.add_argument(
        "--drop_columns",
        default="",
        metavar="COLUMNS",
        help="columns to leave out, separated by commas",
    )
    parser.add_argument(
        "--delimiter", default=",", help="delimiter of CSV files (default: ,)"
    )


def _draft(arguments: argparse.Namespace) -> int:
    from tfl_research.cli.federation import disclosure
    from tfl_research.data.tables import files
    from tfl_research.data.tables.agreement import drafting
    from tfl_research.data.tables.agreement.draft import as_json

    check_name(arguments.site, "--site")
    output = _new_file("--output", arguments.output)
    choices = drafting.Choices(
        minimum_count=arguments.minimum_count,
        scales=arguments.scales,
        scale_digits=arguments.scale_digits,
        missing=arguments.missing,
        categories=schema_options.names(arguments.categories),
        dropped=schema_options.names(arguments.drop_columns),
        notations=dict(schema_options.notation(text) for text in arguments.notation),
    )
    folder = user_paths.expanded(arguments.data_dir)
    _check_outside(output, folder)
    silos = files.read_folder(folder, arguments.delimiter)
    drafted = drafting.make(arguments.site, silos, arguments.label_column, choices)
    _write(output, as_json(drafted.draft.content()))
    hidden = arguments.missing == drafting.POSSIBLE
    sys.stdout.write(disclosure.text(str(output), drafted, missing_hidden=hidden))
    return 0


def _merge(arguments: argparse.Namespace) -> int:
    from tfl_research.data.tables import schema_file
    from tfl_research.data.tables.agreement import draft, merging
    from tfl_research.data.tables.agreement.decisions import ConflictError, Decisions

    output = _new_file("--output", arguments.output)
    ranges = dict(schema_options.range(text) for text in arguments.range)
    decisions = Decisions(
        ranges=ranges,
        levels=dict(schema_options.levels(text) for text in arguments.levels),
        classes=schema_options.names(arguments.classes),
        distinct=tuple(arguments.distinct),
        dropped=schema_options.names(arguments.drop_columns),
        unknown=arguments.unknown,
        outside=arguments.outside,
    )
    drafts = [draft.read(user_paths.expanded(path)) for path in arguments.drafts]
    try:
        content = merging.merge(drafts, decisions)
    except ConflictError as error:
        for line in error.lines:
            sys.stderr.write(f"federation schema merge: {line}\n")
        return 2
    label_column = drafts[0].label_column
    schema = schema_file.of_content(str(output), content, label_column)
    _write(output, draft.as_json(content))
    sites = ", ".join(sorted(each.site for each in drafts))
    sys.stdout.write(
        f"{output}: {len(content['columns'])} columns, {len(schema.feature_names)} "
        f"features, label {label_column!r} with the classes "
        f"{', '.join(schema.classes or ())}; from the drafts of {sites}\n"
    )
    for name, entry in content["columns"].items():
        sys.stdout.write(f"  {name}: {_entry(entry)}\n")
    if decisions.dropped:
        sys.stdout.write(
            "sites whose files have these columns give "
            f"drop_columns={','.join(decisions.dropped)} to check and to the task\n"
        )
    sys.stdout.write(
        "Give this file to all sites; each runs: scripts/federation schema check "
        f"--schema={output} --data_dir=DIR --label_column={label_column} --install\n"
    )
    return 0


def _entry(entry: dict[str, Any]) -> str:
    from tfl_research.data.tables import schema_entries

    missing = "" if entry.get("missing", True) else ", none missing"
    notation = {k: v for k, v in entry.items() if k in schema_entries.NOTATION}
    missing += f"; written as {json.dumps(notation)}" if notation else ""
    if entry.get("type") == "boolean":
        return f"true or false{missing}"
    if "categories" in entry:
        levels = ", ".join(entry["categories"])
        return f"{levels}; others: {entry['unknown']}{missing}"
    if "mean" in entry:
        return f"mean {entry['mean']:g}, deviation {entry['deviation']:g}{missing}"
    return (
        f"{entry['minimum']:g} to {entry['maximum']:g}; outside: "
        f"{entry['outside']}{missing}"
    )


def _check(arguments: argparse.Namespace) -> int:
    from tfl_research.data.tables import files, schema_file
    from tfl_research.data.tables.agreement import fit

    path = user_paths.expanded(arguments.schema)
    schema = schema_file.read_file(path, arguments.label_column)
    if schema.classes is None:
        raise ValueError(
            f"{path}: has no 'label' with classes; merge the drafts again, or add them"
        )
    folder = user_paths.expanded(arguments.data_dir)
    silos = files.read_folder(folder, arguments.delimiter)
    dropped = schema_options.names(arguments.drop_columns)
    lines = fit.misfits(silos, schema, arguments.label_column, dropped)
    for line in lines[:_MOST_LINES]:
        sys.stderr.write(f"federation schema check: {line}\n")
    if lines:
        more = len(lines) - _MOST_LINES
        if more > 0:
            sys.stderr.write(f"federation schema check: and {more} more columns\n")
        return 1
    rows = sum(len(silo.frame) for silo in silos)
    sys.stdout.write(f"{folder}: all {rows} rows of {_files(len(silos))} fit {path}\n")
    if arguments.install:
        _install(path, folder / schema_file.SCHEMA_FILE)
    return 0


def _files(count: int) -> str:
    return "1 file" if count == 1 else f"{count} files"


def _install(path: pathlib.Path, target: pathlib.Path) -> None:
    text = path.read_text(encoding="utf-8")
    if target.exists() and target.read_text(encoding="utf-8") != text:
        raise ValueError(
            f"--install: {target} differs from {path}; compare the two files, then "
            "remove the file in the data's folder"
        )
    if not target.exists():
        _write(target, text)
    sys.stdout.write(f"{target}: is the schema that this site uses\n")


def _new_file(flag: str, text: str) -> pathlib.Path:
    path = user_paths.expanded(text)
    if path.exists():
        raise ValueError(
            f"{flag}={text}: the file exists already; move it away, or give another "
            "path"
        )
    if not path.parent.is_dir():
        raise ValueError(
            f"{flag}={text}: the folder {path.parent} does not exist; make it"
        )
    return path


def _check_outside(output: pathlib.Path, folder: pathlib.Path) -> None:
    if output.parent.resolve() == folder.resolve():
        raise ValueError(
            f"--output={output}: is in the data's folder, in which each file is a "
            "client's; give a path elsewhere"
        )


def _write(path: pathlib.Path, text: str) -> None:
    try:
        atomic.write(path, text.encode("utf-8"))
    except OSError as error:
        raise ValueError(f"{path}: cannot be written: {error.strerror}") from None
