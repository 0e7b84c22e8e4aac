"""Results of a benchmark as a table to read and as a file of rows."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from lib.runtime.files import replacing

Row = Mapping[str, Any]


def table_of(rows: Sequence[Row], title: str, *, digits: int = 1, caption: str | None = None) -> Table:
    """A table of one row or more with the columns of the first row: words on the left, numbers on the right.

    Args:
        rows: Numbers or words by column.
        title: Title of the table.
        digits: Decimals of a fraction.
        caption: Caption below the table.
    """
    table = Table(title=title, title_justify="left", caption=caption)
    for column, value in rows[0].items():
        table.add_column(column, justify="left" if isinstance(value, str) else "right")
    for row in rows:
        cells = [f"{value:.{digits}f}" if isinstance(value, float) else str(value) for value in row.values()]
        table.add_row(*cells)
    return table


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; the first column is text, the others numbers."""
    rule = ["---", *["---:"] * (len(header) - 1)]
    return "\n".join("| " + " | ".join(row) + " |" for row in (header, rule, *rows)) + "\n"


def read_rows(path: Path) -> list[dict[str, str]]:
    """Rows of a file that `write_rows` wrote; none if there is no file."""
    if not path.exists():
        return []
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """Write one row or more with the columns of the first row; an existing file is replaced."""
    with replacing(path) as part, part.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
