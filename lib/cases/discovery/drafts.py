"""Cases whose files are still being collected."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lib.cases.case import Case, Source
from lib.cases.discovery.choices import USED_BEFORE, choice
from lib.cases.discovery.studies import Studies, case_or_skip
from lib.cases.modalities import is_label_name, parse_modality

NOT_A_MODALITY = (
    "its name must end with a modality (T1, T1ce, T2, FLAIR, CT, PET, …); {word!r} is not one. "
    "Rename it, or name the modality with --conf modalities."
)


@dataclass
class Draft:
    """Case whose files are being collected.

    Of several files of one modality, the one that an earlier listing used is used again; otherwise a PET that
    says it is SUV before another, which may be in Bq/ml; otherwise the first by `rank`. The case says so in
    its notes.

    Attributes:
        sources: Volumes of each modality.
        labels: Reference contours.
        rank: Sorts several files of a modality; the first is used.
        order: Why the first is used, for the note.
        notes: Sentences of the case on what else was left out of it.
    """

    sources: dict[str, list[Source]] = field(default_factory=dict)
    labels: list[Path] = field(default_factory=list)
    rank: Callable[[Path], Any] = Path.as_posix
    order: str = "it comes first by name"
    notes: list[str] = field(default_factory=list)

    @property
    def files(self) -> list[Path]:
        """All collected files."""
        return [source.path for sources in self.sources.values() for source in sources] + self.labels

    def add(self, studies: Studies, path: Path, word: str) -> bool:
        """Add a file as the modality or label that `word` names; return whether it names one."""
        if parsed := parse_modality(word, studies.extra):
            name, scale = parsed
            self.sources.setdefault(name, []).append(Source(path, scale=scale))
            return True
        if is_label_name(word):
            self.labels.append(path)
            return True
        return False

    def finish(self, studies: Studies, id: str, layout: str, patient: str = "") -> Case | None:
        """Case of the collected files, or None; each file that is left out is recorded as skipped."""
        if not self.sources:
            for path in self.labels:
                studies.skip(
                    path,
                    f"a label must lie beside an image of its case; {id} has none there. Move or rename it.",
                )
            return None
        chosen = {name: self._choose(studies, id, name) for name in self.sources}
        labels = sorted(self.labels, key=self.rank)
        if len(labels) > 1:
            self._leave_out(studies, id, "label", labels[0], labels[1:], self.order)
        label = labels[0] if labels else None
        notes = tuple(self.notes)
        return case_or_skip(studies, id, chosen, label, layout=layout, patient=patient, notes=notes)

    def _choose(self, studies: Studies, id: str, name: str) -> Source:
        first, *others = sorted(
            self.sources[name],
            key=lambda source: (
                not studies.was_used(source),
                not _says_suv(source.path),
                self.rank(source.path),
            ),
        )
        if others:
            suv = _says_suv(first.path) and not _says_suv(others[0].path)
            why = "its name says that its values are SUV" if suv else self.order
            if studies.was_used(first):
                why = USED_BEFORE
            self._leave_out(studies, id, name, first.path, [source.path for source in others], why)
        return first

    def _leave_out(
        self, studies: Studies, id: str, what: str, taken: Path, others: Sequence[Path], why: str
    ) -> None:
        """Record files that another one of the case is used for, in the listing and with the case."""
        first, *names = (path.relative_to(studies.root).as_posix() for path in (taken, *others))
        self.notes.append(choice(what, first, names, why))
        for path in others:
            studies.skip(
                path, f"case {id} must have one {what}; {taken.name} is taken, as {why}. Remove one of them."
            )


def _says_suv(path: Path) -> bool:
    """Whether the name of a PET says that its values are SUV; another PET may be in Bq/ml."""
    return "suv" in path.name.lower()
