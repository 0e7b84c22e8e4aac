"""Tables as CSV that a spreadsheet shows and never computes."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from typing import IO, Any

_COMPUTED = (
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
)  # a cell that begins so is a formula


def write_csv(stream: IO[str], columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows under their columns; a cell that is missing is empty, numbers stay numbers.

    A text that a spreadsheet would take for a formula gets an apostrophe before it.
    """
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([_shown(column) for column in columns])
    writer.writerows([_shown(row.get(column, "")) for column in columns] for row in rows)


def _shown(cell: Any) -> Any:
    if not isinstance(cell, str):
        return cell
    text = cell.replace("\r", "\n")  # which csv leaves without quotes: what follows would be a row of its own
    return f"'{text}" if text.lstrip(" ").startswith(_COMPUTED) and not _is_number(text) else text


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return text.isprintable()
