"""Labels that the dataset.json of nnU-Net or of the Medical Segmentation Decathlon names."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lib.cases.formats.json_file import read_json

_IGNORE = "ignore"  # nnU-Net's name for the highest value, of voxels that nobody annotated
_REMEDY = (
    "Say what each value means with --conf labels, in the order of the values 1..n, or in a table of your "
    "own (--conf decomposition)."
)


@dataclass(frozen=True)
class DatasetLabels:
    """Meaning of the label values of a data set.

    Attributes:
        names: Names of the values 1..n; empty if the data set names none, or not in this way.
        ignored: Value of the voxels that nobody annotated; None if there is none.
        unclear: Why the names cannot be used, with the remedy; empty if they can.
    """

    names: tuple[str, ...] = ()
    ignored: int | None = None
    unclear: str = ""

    @classmethod
    def read(cls, root: Path) -> DatasetLabels:
        """Labels of the dataset.json in a folder, as value to name (v1, Decathlon) or name to value (v2)."""
        content = read_json(root / "dataset.json")
        table = content.get("labels") if isinstance(content, dict) else None
        if not table:
            return cls()
        if not isinstance(table, dict):
            return cls(unclear=f"labels in dataset.json must be a table; got {str(table)[:80]}. {_REMEDY}")
        pairs = [_pair(key, value) for key, value in table.items()]
        if regions := {name: value for name, value in pairs if isinstance(value, list)}:
            return cls(
                unclear="labels in dataset.json must give each structure one value; it names regions of "
                f"several values, {str(regions)[:120]}. {_REMEDY}"
            )
        if strange := [name for name, value in pairs if not isinstance(value, int)]:
            return cls(
                unclear=f"labels in dataset.json must be whole numbers; that of {strange[0][:40]!r} is none. "
                f"{_REMEDY}"
            )
        return cls._numbered({value: name for name, value in pairs}, len(pairs))

    @classmethod
    def _numbered(cls, names: dict[int, str], count: int) -> DatasetLabels:
        structures = {value: name for value, name in names.items() if value != 0}
        ignored = [value for value, name in structures.items() if name.strip().lower() == _IGNORE]
        for value in ignored:
            del structures[value]
        gapless = sorted(structures) == list(range(1, len(structures) + 1))
        if len(names) < count or not gapless or any(value < len(names) - 1 for value in ignored):
            return cls(
                unclear="labels in dataset.json must have the values 1..n, each once, without a gap, and "
                f"ignore the highest; got {str(dict(sorted(names.items())))[:120]}. {_REMEDY}"
            )
        return cls(tuple(structures[value] for value in sorted(structures)), next(iter(ignored), None))


def _pair(key: str, value: Any) -> tuple[str, Any]:
    """Name and value of an entry; a value may be a text of digits."""
    name, number = (value, key) if isinstance(value, str) and not value.isdecimal() else (key, value)
    if isinstance(number, str) and number.isdecimal() and len(number) <= 6:
        number = int(number)
    return str(name), None if isinstance(number, bool) else number
