"""Tables as CSV in which no cell becomes a formula when a spreadsheet opens the file."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from typing import IO, Any

_FORMULA_STARTS = (
    "=",
    "+",
    "-",
    "@",
    "\t",
    "\r",
    "\n",
    "\uff1d",
    "\uff0b",
    "\uff0d",
    "\uff20",
)  # spreadsheets take a cell that starts with one of these for a formula


def write_csv(stream: IO[str], columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a header and rows; a missing cell is empty, and numbers stay numbers.

    A text that a spreadsheet would take for a formula is prefixed with an apostrophe.
    """
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([_safe_cell(column) for column in columns])
    writer.writerows([_safe_cell(row.get(column, "")) for column in columns] for row in rows)


def _safe_cell(cell: Any) -> Any:
    if not isinstance(cell, str):
        return cell
    text = cell.replace("\r", "\n")  # csv does not quote \r, which would start a new row
    return f"'{text}" if text.lstrip(" ").startswith(_FORMULA_STARTS) and not _is_number(text) else text


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return text.isprintable()
