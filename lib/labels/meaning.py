"""Meaning of the values in label files of other programs, decided without reading a voxel.

A file does not say which numbering it follows. Segments that a Slicer file names decide; then the names in
the studies' dataset.json; then the edition of BraTS that the case is named for; then the table of the site.
What these leave open is refused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lib.cases.formats.image import Volume
from lib.cases.formats.voxels import IGNORED, MAX_LABEL
from lib.labels.brats import GROSS, Edition, editions_of, structure_of
from lib.labels.values import Numbering
from lib.runtime.errors import UserError

_GENERIC = "lesion"  # name of the only label of a pool without names
_REMEDY = "Name them with --conf labels, or say what they mean in import_values of a table of your own."
_OWN_TABLE = "Give the structure a label in a table of your own (--conf decomposition), or renumber the file."


@dataclass(frozen=True)
class LabelMeanings:
    """This app's values for the values of label files.

    Attributes:
        numbering: Structures of this app and their values.
        named: Whether the studies themselves name the values, so that a case's name decides nothing.
        own_names: Whether the site names its structures itself, in a table of its own or by --conf labels.
    """

    numbering: Numbering
    named: bool = False
    own_names: bool = False

    def of(
        self,
        case_id: str,
        values: Collection[int],
        segments: Sequence[tuple[str, int]] = (),
        *,
        ignored: int | None = None,
    ) -> dict[int, int]:
        """This app's value for each value of a file; `IGNORED` for voxels that nobody annotated.

        Args:
            case_id: Id of the file's case.
            values: Values in the file; 0 is background.
            segments: Name and value of each segment that the file's header names.
            ignored: Value of the voxels that nobody annotated; None if the studies name none.

        Raises:
            UserError: If it is not known what a value means, or this app has no such structure.
        """
        present = set(values) - {0}
        if ignored is not None and ignored in present:
            if ignored in self.numbering.labels.values():
                raise UserError(
                    f"the value {ignored} must mean one thing; dataset.json calls it ignore, and here it is "
                    f"a structure: {self._listed()}. Number the structures as dataset.json does."
                )
            return self.of(case_id, present - {ignored}, segments) | {ignored: IGNORED}
        if segments:
            return self._by_segments(present, segments)
        if editions := self._editions(case_id):
            return self._by_edition(present, editions)
        return self._by_table(present)

    def is_plain(self, case_id: str) -> bool:
        """Whether a file without segments can hold no other values than this app's."""
        return not (self._editions(case_id) or self.numbering.import_values)

    def exports(self, case_id: str) -> dict[int, int] | None:
        """Values of this app's structures in the edition of BraTS that a case is named for.

        Returns:
            Value in the edition by this app's value; None if the name tells no edition.

        Raises:
            UserError: If several numberings are possible, or the edition lacks a structure.
        """
        editions = self._editions(case_id)
        if not editions or not self._structures():
            return None
        structures = {value: structure_of(name) for name, value in self.numbering.labels.items()}
        numbered = [{name: value for value, name in edition.structures.items()} for edition in editions]
        tables = [{ours: table.get(name or "") for ours, name in structures.items()} for table in numbered]
        values = {ours: theirs for ours, theirs in tables[0].items() if theirs is not None}
        if any(table != values for table in tables):
            raise UserError(
                f"values can be exported to one numbering that has every structure, "
                f"{', '.join(self.numbering.labels)}; {case_id} is named for "
                f"{' or '.join(map(str, editions))}. Leave out --export-values and renumber the files."
            )
        return values

    def refusals(self, labels: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
        """Why the values of a label cannot be used, by case id.

        Where one file holds a value of the import map and another file the value it is mapped to, the pool
        may mix two numberings; the first is refused, unless the name of its case tells its edition.

        Args:
            labels: Measured label of each case, with `values`, `segments` and `ignored`.
        """
        refused, silent = {}, set[str]()
        readable = {id: label for id, label in labels.items() if "error" not in label}
        numbered = {id: set(label["values"]) for id, label in readable.items() if not label["segments"]}
        for id, label in readable.items():
            segments = [(name, value) for name, value in label["segments"]]
            try:
                self.of(id, label["values"], segments, ignored=label["ignored"])
            except UserError as err:
                refused[id] = str(err)
                continue
            if not segments and not self._editions(id):
                silent.add(id)
        for theirs, ours in self.numbering.import_values.items():
            if witness := min((id for id, values in numbered.items() if ours in values), default=None):
                for id in (id for id in silent if theirs in numbered[id]):
                    refused[id] = (
                        f"the labels of a pool must follow one numbering; this one holds {theirs}, that of "
                        f"{witness} {ours}, and import_values maps {theirs} to {ours}. Renumber one of them, "
                        "or name the cases for their edition of BraTS."
                    )
        return refused

    def _by_segments(self, present: set[int], segments: Sequence[tuple[str, int]]) -> dict[int, int]:
        names = {value: name for name, value in segments}
        twice = [value for value, count in Counter(value for _, value in segments).items() if count > 1]
        if unnamed := sorted(present - names.keys()) or sorted(present & set(twice)):
            raise UserError(
                f"the header must name one segment for each value; {str(unnamed)[:80]} has none or several. "
                "Export the segmentation again."
            )
        ours = {name.casefold(): value for name, value in self.numbering.labels.items()}
        ours |= {name: value for name, value in self._structures().items() if name not in ours}
        found = {
            value: ours.get(names[value].casefold(), ours.get(structure_of(names[value]) or ""))
            for value in present
        }
        if strange := [names[value] for value in sorted(present) if found[value] is None]:
            raise UserError(
                f"a segment must be named {' or '.join(self.numbering.labels)}; "
                f"got {', '.join(strange)[:80]}. "
                "Rename or remove the segment, or name it with --conf labels."
            )
        return {value: our for value, our in found.items() if our is not None}

    def _by_table(self, present: set[int]) -> dict[int, int]:
        table = {value: value for value in self.numbering.labels.values()}
        table |= {
            theirs: ours for theirs, ours in self.numbering.import_values.items() if theirs not in table
        }
        if unknown := sorted(present - table.keys()):
            raise UserError(
                f"the label's values must be 0, {self._listed()}; got {str(unknown)[:80]}. {_REMEDY}"
            )
        for value in present - {table[value] for value in present if table[value] == value}:
            if table[value] in present:
                raise UserError(
                    f"the label must follow one numbering; it holds {value}, which import_values maps to "
                    f"{table[value]}, and {table[value]} itself. Renumber one of them in the file."
                )
        return {value: table[value] for value in present}

    def _by_edition(self, present: set[int], editions: Sequence[Edition]) -> dict[int, int]:
        fitting = [edition for edition in editions if present <= edition.structures.keys()]
        meanings = {tuple(edition.structures[value] for value in sorted(present)) for edition in fitting}
        if len(meanings) > 1:
            own = [edition for edition in fitting if self.own_names and self._names_all_of(edition)]
            fitting = own if len(own) == 1 else []
        if not fitting:
            fit, remedy = ("one", "Renumber the file, or rename the case.")
            if len(meanings) > 1:
                fit, remedy = ("one alone", _OWN_TABLE)
            raise UserError(
                f"the values of a label must fit {fit} of the numberings that its case is named for, "
                f"{' and '.join(map(str, editions))}; got {sorted(present)}. {remedy}"
            )
        return {value: self._own_value(value, fitting[0]) for value in present}

    def _own_value(self, value: int, edition: Edition) -> int:
        """This app's value for a value of an edition, by the structure's name or by the site's own names."""
        structure, structures = edition.structures[value], self._structures()
        if structure in structures:
            return structures[structure]
        names = {own: name for name, own in self.numbering.labels.items()}
        table = {
            theirs: theirs if theirs in names else self.numbering.import_values.get(theirs, 0)
            for theirs in edition.structures
        }
        name = names.get(table[value], "")
        complete = all(table.values()) and name and structure_of(name) is None
        if complete and (name != _GENERIC or structure == GROSS):
            return table[value]
        raise UserError(
            f"a value of a label must mean one of {', '.join(self.numbering.labels)}; {value} means "
            f"{structure} in {edition.name}. {_OWN_TABLE}"
        )

    def _editions(self, case_id: str) -> tuple[Edition, ...]:
        """Editions that decide; none if the studies or names of the site's own say what the values mean."""
        if self.named or (self.own_names and not self._structures()):
            return ()
        return editions_of(case_id)

    def _names_all_of(self, edition: Edition) -> bool:
        return set(edition.structures.values()) <= self._structures().keys()

    def _structures(self) -> dict[str, int]:
        """Value of each structure of BraTS that a label is named for."""
        named = ((structure_of(name), value) for name, value in self.numbering.labels.items())
        return {structure: value for structure, value in named if structure}

    def _listed(self) -> str:
        return ", ".join(f"{value} {name}" for name, value in self.numbering.labels.items())


def renumbered(volume: Volume, table: Mapping[int, int]) -> Volume:
    """Label with other values, uint8.

    Args:
        volume: Label map, whole numbers up to 65,535.
        table: New value for each value but 0.
    """
    lookup = np.zeros(MAX_LABEL + 1, dtype=np.uint8)
    lookup[list(table)] = list(table.values())
    return Volume(lookup[volume.array], volume.grid)
