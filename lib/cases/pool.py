"""Pool of cases, with the files that were left out and all names of each case."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from lib.cases.case import Case, CaseError, Source
from lib.cases.formats.image import stem_of
from lib.cases.modalities import MODALITY_ORDER


@dataclass(frozen=True)
class Skipped:
    """A file or folder that is part of no case, with the reason and the remedy."""

    path: Path
    reason: str

    def __post_init__(self) -> None:
        """Escape unprintable characters: a name may hold control characters or invalid UTF-8."""
        object.__setattr__(self, "path", printable_path(self.path))
        object.__setattr__(self, "reason", _printable(self.reason))

    def __str__(self) -> str:
        """One sentence for a log or a table."""
        return f"{self.path}: {self.reason}"


@dataclass(frozen=True)
class Pool:
    """All cases of a studies folder or a PACS.

    Attributes:
        root: Studies folder.
        layout: Name of the layout of the cases.
        cases: Cases ordered by id.
        skipped: Files and folders that are not used.
        labels: Names of the label values 1..n, if the studies define them.
        unclear_labels: Why the studies' own names of the label values cannot be used; empty if they can.
        overview: Sentences on what the folder holds; empty if a case was found.
    """

    root: Path
    layout: str
    cases: tuple[Case, ...]
    skipped: tuple[Skipped, ...] = ()
    labels: tuple[str, ...] = ()
    unclear_labels: str = ""
    overview: str = ""

    @cached_property
    def modalities(self) -> tuple[str, ...]:
        """All modalities of the cases, in the usual order."""
        names = {name for case in self.cases for name in case.modalities}
        return tuple(sorted(names, key=lambda name: (MODALITY_ORDER.get(name, len(MODALITY_ORDER)), name)))

    @cached_property
    def by_id(self) -> dict[str, Case]:
        """Cases by id."""
        return {case.id: case for case in self.cases}

    @cached_property
    def incomplete(self) -> tuple[Case, ...]:
        """Cases that lack a modality of the pool."""
        return tuple(case for case in self.cases if len(case.modalities) < len(self.modalities))

    def without_labels(self) -> Pool:
        """Pool without the contours beside the images."""
        return replace(self, cases=tuple(replace(case, label=None) for case in self.cases))

    def limited_to(self, modalities: Sequence[str]) -> Pool:
        """Pool with these modalities only; every other volume is listed in `skipped`."""
        if set(self.modalities) <= set(modalities):
            return self
        cases, skipped = [], list(self.skipped)
        for case in self.cases:
            kept = {name: source for name, source in case.modalities.items() if name in modalities}
            skipped += [
                Skipped(
                    case.modalities[name].path,
                    f"case {case.id}: {name} is new to this pool. Restart the server to use it.",
                )
                for name in case.modalities.keys() - kept.keys()
            ]
            if kept:
                cases.append(replace(case, modalities=kept))
        return replace(self, cases=tuple(cases), skipped=tuple(skipped))

    @cached_property
    def _aliases(self) -> dict[str, tuple[str, str | None]]:
        names: dict[str, tuple[str, str | None]] = {}
        stems = Counter(stem_of(s.path) for case in self.cases for s in case.modalities.values())
        for case in self.cases:
            for modality, source in case.modalities.items():
                target = (case.id, modality)
                relative = (
                    source.path.relative_to(self.root) if source.path.is_relative_to(self.root) else None
                )
                names[f"{case.id}/{modality}"] = target
                if source.channel is None and relative is not None:
                    names[relative.as_posix()] = target
                    if stems[stem_of(source.path)] == 1:
                        names[source.path.name] = names[stem_of(source.path)] = target
                if source.series:
                    names[source.series] = target
        names |= {
            f"{case.id}_{modality}": (case.id, modality)
            for case in self.cases
            for modality in case.modalities
        }
        names |= {case.id: (case.id, None) for case in self.cases}  # ids last: they win over file names
        return names

    def resolve(self, name: str) -> tuple[Case, str | None]:
        """Case for a name, and the modality if the name belongs to one volume.

        A name is looked up, never opened as a path; an unknown name is refused.

        Raises:
            CaseError: If no case has this name.
        """
        found = self._aliases.get(name) or self._aliases.get(unicodedata.normalize("NFC", name))
        if found is None:
            shown = name if len(name) <= 80 else name[:80] + "…"
            raise CaseError(
                f"an image must be the id of a case or of one of its volumes; got {shown!r}, "
                f"which is a name of none of {len(self.cases)} cases."
            )
        return self.by_id[found[0]], found[1]


def files_of(modalities: Mapping[str, Source], label: Path | None) -> list[Path]:
    """Every file, and every folder of slices, of a case."""
    paths = [*(source.path for source in modalities.values()), *filter(None, [label])]
    return list(dict.fromkeys(paths))


def printable_path(path: Path) -> Path:
    """Path as listings show it: a name may hold control characters or invalid UTF-8."""
    text = str(path)
    return path if text.isprintable() else Path(_printable(text))


def _printable(text: str) -> str:
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text
    )


def image_of(source: Source, root: Path) -> str:
    """Name of an image that holds wherever its studies lie and however its file is packed.

    It is the SeriesInstanceUID of a DICOM series, or a file's path in the studies without its suffix, with
    the channel of a 4-D file: `p01/T1`, `imagesTr/BRATS_001#2`.
    """
    if source.series:
        return source.series
    path = source.path.as_posix().removeprefix(f"{root.as_posix().rstrip('/')}/")  # quicker than relative_to
    channel = "" if source.channel is None else f"#{source.channel}"
    return path.removesuffix(source.path.name) + stem_of(source.path) + channel


def names_of(case: Case) -> set[str]:
    """Names of a case and of its images for clients, in lower case: some file systems take `a` for `A`."""
    return {name.lower() for name in (case.id, *(f"{case.id}_{modality}" for modality in case.modalities))}


def make_pool(
    root: Path, layout: str, cases: Iterable[Case], skipped: Iterable[Skipped], used: Set[str] = frozenset()
) -> Pool:
    """Pool of the cases in order, in which every name is unique.

    If two cases share a name (`a` and `A`; `p` with `MR_T1` and `p_MR` with `T1`), the one with images that
    were used before is kept, otherwise the first.
    """
    kept: list[Case] = []
    names: dict[str, str] = {}
    left_out = list(skipped)

    def is_new(case: Case) -> bool:
        return not (used and any(image_of(source, root) in used for source in case.modalities.values()))

    for case in sorted(in_order(cases), key=is_new):
        own = names_of(case)
        if taken := sorted(own & names.keys()):
            reason = (
                f"case {case.id} would share the name {taken[0]} with case {names[taken[0]]}. Rename one."
            )
            left_out += [Skipped(path, reason) for path in files_of(case.modalities, case.label)]
        else:
            names |= dict.fromkeys(own, case.id)
            kept.append(case)
    return Pool(root, layout, in_order(kept), tuple(left_out))


def in_order(cases: Iterable[Case]) -> tuple[Case, ...]:
    """Cases by their ids, `a` beside `A`."""
    return tuple(sorted(cases, key=lambda case: (case.id.lower(), case.id)))


def with_patients(cases: Sequence[Case]) -> list[Case]:
    """Cases with patient groups; one PatientID for all is a pseudonym, so each case is its own group."""
    if len({case.patient for case in cases}) == 1:
        return [replace(case, patient=case.id) for case in cases]
    return list(cases)
