"""Index of the label versions in the plan's database; the versions' own files can make it again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import Engine, bindparam, delete, func, insert, select

from lib.plan.database import one_at_a_time, writing
from lib.plan.orm import LabelVersionRow

Key = tuple[str, str, int]  # case, tag, number
_NEWEST = select(func.max(LabelVersionRow.id))
_NEWER = (
    select(LabelVersionRow.id, LabelVersionRow.record)
    .where(LabelVersionRow.id > bindparam("after"))
    .order_by(LabelVersionRow.id)
)
_OF_CASE = (
    select(LabelVersionRow.record)
    .where(LabelVersionRow.case_id == bindparam("case"))
    .order_by(LabelVersionRow.id)
)
_KEYS = select(LabelVersionRow.case_id, LabelVersionRow.tag, LabelVersionRow.number)
_PRESENT = _KEYS.where(LabelVersionRow.case_id == bindparam("case"))


class LabelIndex:
    """Versions of the labels in the order in which they were recorded.

    A record is the content of a version's document. Positions in the order only grow, so another process
    finds what is new by the last position that it has read.
    """

    def __init__(self, engine: Engine) -> None:
        """Use the plan's database."""
        self._engine, self._writing = engine, writing(engine)

    def newest(self) -> int:
        """Position of the last record; 0 if there is none."""
        with self._engine.connect() as connection:
            return int(connection.scalar(_NEWEST) or 0)

    def newer(self, after: int) -> list[tuple[int, dict[str, Any]]]:
        """Position and record of each version after a position."""
        with self._engine.connect() as connection:
            return [(row.id, row.record) for row in connection.execute(_NEWER, {"after": after})]

    def of_case(self, case_id: str) -> list[dict[str, Any]]:
        """Records of one case, oldest first."""
        with self._engine.connect() as connection:
            return list(connection.scalars(_OF_CASE, {"case": case_id}))

    def keys(self) -> set[Key]:
        """Case, tag and number of every version."""
        with self._engine.connect() as connection:
            return {(row.case_id, row.tag, row.number) for row in connection.execute(_KEYS)}

    def add(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Add records, in one transaction; records that are there already stay as they are."""
        with self._writing.begin() as connection:
            one_at_a_time(connection)  # so that no position becomes visible after a larger one
            for record in records:
                key = (record["case_id"], record["tag"], record["number"])
                if key not in {tuple(row) for row in connection.execute(_PRESENT, {"case": key[0]})}:
                    connection.execute(insert(LabelVersionRow), [_row(record)])

    def replace(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Make the whole index anew, in one transaction; records of the same case and tag in their order."""
        rows = [_row(record) for record in records]
        with self._writing.begin() as connection:
            one_at_a_time(connection)
            connection.execute(delete(LabelVersionRow))
            if rows:
                connection.execute(insert(LabelVersionRow), rows)


def _row(record: Mapping[str, Any]) -> dict[str, Any]:
    return {**{name: record[name] for name in ("case_id", "tag", "number")}, "record": dict(record)}
