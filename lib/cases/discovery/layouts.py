"""Layouts of studies on disk: one folder a patient, flat files, the challenges' layouts, DICOM folders."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from lib.cases.case import Case, CaseError, Source
from lib.cases.discovery import datasets, dicom_folders
from lib.cases.discovery.series_rules import RULE_PRESETS, SeriesRules
from lib.cases.discovery.studies import SERVERS_OWN, Studies, case_or_skip
from lib.cases.formats.image import stem_of, suffix_of
from lib.cases.modalities import is_label_name, parse_modality
from lib.cases.pool import Pool, Skipped
from lib.cases.unexpected_errors import as_case_error
from lib.runtime.errors import UserError

_BRATS = re.compile(r"(?P<patient>BraTS.*?-\d{5}|BraTS\w*?_\d+)(?:-\d{3})?", re.IGNORECASE)
_NOT_A_MODALITY = (
    "its name must end with a modality (T1, T1ce, T2, FLAIR, CT, PET, …); {word!r} is not one. "
    "Rename it, or name the modality with --conf modalities."
)


def find_pool(
    root: Path,
    *,
    layout: str = "auto",
    modalities: tuple[str, ...] = (),
    follow_links: bool = False,
    rules: SeriesRules = RULE_PRESETS["usual"],
) -> Pool:
    """All cases under a folder.

    Args:
        root: Studies folder.
        layout: Name from `LAYOUTS`, or `auto` for the first layout that finds a case.
        modalities: Names of further modalities, from the settings.
        follow_links: Whether to use files and folders that are links to outside `root`.
        rules: Rules that name the modality of a DICOM series if its folder's name does not.

    Raises:
        CaseError: If the folder does not exist, or the given layout does not fit it.
    """
    with as_case_error(str(root)):
        root, there = root.resolve(), root.is_dir()
    if not there:
        raise CaseError(f"studies must be a folder; {root} is not. Give the folder that holds the patients.")
    if layout != "auto":
        if layout not in LAYOUTS:
            raise CaseError(
                f"layout must be auto or one of {', '.join(LAYOUTS)}; got {layout!r}. Set --conf layout."
            )
        with as_case_error(f"{root} by the layout {layout}"):
            return LAYOUTS[layout](Studies(root, modalities, follow_links, rules))
    skipped: dict[Path, list[Skipped]] = {}  # a path has the reasons of the last layout that names it
    for name, finder in LAYOUTS.items():
        try:
            with as_case_error(f"{root} by the layout {name}"):
                pool = finder(Studies(root, modalities, follow_links, rules))
        except UserError:
            continue  # try the next layout; only a layout from the settings reports its error
        if pool.cases:
            return replace(pool, skipped=(*pool.skipped, *_unclaimed(pool)))
        skipped |= {item.path: [] for item in pool.skipped}
        for item in pool.skipped:
            skipped[item.path].append(item)
    return Pool(root, "none", (), tuple(item for items in skipped.values() for item in items))


def _unclaimed(pool: Pool) -> list[Skipped]:
    """Entries of the root that no case of this layout uses; they may be patients in another layout."""
    if pool.layout in ("nnunet", "decathlon"):
        return []
    used = [path for case in pool.cases for path in (*(s.path for s in case.modalities.values()), case.label)]
    used += [item.path for item in pool.skipped]
    root = pool.root.parts
    claimed = {
        path.parts[len(root)] for path in used if path and path.parts[: len(root)] == root
    } | SERVERS_OWN
    studies = Studies(pool.root, follow_links=True)
    left = [entry for entry in studies.entries(pool.root) if entry.name not in claimed]
    reason = (
        f"no case was found in it by the layout {pool.layout}. Keep one layout a folder, "
        "or set --conf layout."
    )
    return [Skipped(Path(e.path), reason) for e in left if e.is_dir() or suffix_of(Path(e.name))]


@dataclass
class _Draft:
    """Case whose files are being collected."""

    id: str
    modalities: dict[str, Source] = field(default_factory=dict)
    labels: list[Path] = field(default_factory=list)

    def add(self, studies: Studies, path: Path, word: str) -> bool:
        """Add a file as the modality or label that `word` names; return whether it names one."""
        if parsed := parse_modality(word, studies.extra):
            name, scale = parsed
            several = [*filter(None, [self.modalities.get(name)]), Source(path, scale=scale)]
            several.sort(key=lambda source: not _says_suv(source.path))  # else the first stays the first
            self.modalities[name], *left = several
            for source in left:
                studies.skip(
                    source.path,
                    f"case {self.id} must have one {name}; {several[0].path.name} is "
                    "taken. Remove one of them.",
                )
            return True
        if is_label_name(word):
            self.labels.append(path)
            return True
        return False

    def finish(self, studies: Studies, layout: str, patient: str = "") -> Case | None:
        """Case of the collected files, or None; the reason is recorded as skipped."""
        if not self.modalities:
            return None
        if len(self.labels) > 1:
            names = ", ".join(path.name for path in self.labels[1:])
            studies.skip(
                self.labels[0].parent,
                f"case {self.id} must have one label; {self.labels[0].name} is "
                f"taken, not {names}. Remove the others.",
            )
        label = self.labels[0] if self.labels else None
        return case_or_skip(studies, self.id, self.modalities, label, layout=layout, patient=patient)


def find_folders(studies: Studies) -> Pool:
    """One folder a patient, one file a modality: `STS_001/CT.nii.gz`, `STS_001/STS_001_CT.nii.gz`."""
    cases = []
    for entry in studies.folders():
        draft, folder = _Draft(entry.name), Path(entry.path)
        for path in studies.images(folder):
            word = _without_prefix(stem_of(path), entry.name)
            if not draft.add(studies, path, word):
                studies.skip(path, _NOT_A_MODALITY.format(word=word))
        if case := draft.finish(studies, "folder"):
            cases.append(case)
    return studies.pool("folder", cases)


def find_brats(studies: Studies) -> Pool:
    """BraTS: `BraTS20_Training_001/BraTS20_Training_001_t1ce.nii.gz`, `BraTS-GLI-00001-000-t1c.nii.gz`.

    Time points of one patient (`-000`, `-001`) become cases of one patient. Both folders and flat files are
    found.
    """
    drafts: dict[str, _Draft] = {}
    folders = [Path(entry.path) for entry in studies.folders()]
    for path in (image for folder in [studies.root, *folders] for image in studies.images(folder)):
        id, _, word = stem_of(path).rpartition("-" if re.match(r"BraTS-", path.name, re.IGNORECASE) else "_")
        if not _BRATS.fullmatch(id):
            if path.name.lower().startswith("brats"):
                studies.skip(
                    path,
                    "a BraTS file must be named like BraTS20_Training_001_t1ce or "
                    "BraTS-GLI-00001-000-t1c. Rename it.",
                )
        elif not drafts.setdefault(id, _Draft(id)).add(studies, path, word):
            studies.skip(path, _NOT_A_MODALITY.format(word=word))
    cases = []
    for id, draft in drafts.items():
        match = _BRATS.fullmatch(id)
        if case := draft.finish(studies, "brats", match["patient"] if match else id):
            cases.append(case)
    return studies.pool("brats", cases)


def find_flat(studies: Studies) -> Pool:
    """Files in one folder, the modality as suffix: `p01_T1.nrrd`, `p01_MR_T1.nii.gz`, `p01-flair.nii`."""
    drafts: dict[str, _Draft] = defaultdict(lambda: _Draft(""))
    for path in studies.images(studies.root):
        stem = stem_of(path)
        for separator in re.finditer(r"[_-]", stem):  # the longest suffix first
            id, word = stem[: separator.start()], stem[separator.end() :]
            if id and (parse_modality(word, studies.extra) or is_label_name(word)):
                drafts[id].id = id
                drafts[id].add(studies, path, word)
                break
        else:
            studies.skip(path, _NOT_A_MODALITY.format(word=re.split(r"[_-]", stem)[-1]))
    cases = [case for draft in drafts.values() if (case := draft.finish(studies, "flat"))]
    return studies.pool("flat", cases)


LAYOUTS: dict[str, Callable[[Studies], Pool]] = {
    "nnunet": datasets.find_nnunet,
    "decathlon": datasets.find_decathlon,
    "brats": find_brats,
    "folder": find_folders,
    "flat": find_flat,
    "dicom": dicom_folders.find_dicom,
}


def _says_suv(path: Path) -> bool:
    """Whether the name of a PET says that its values are SUV; another PET may be in Bq/ml."""
    return "suv" in path.name.lower()


def _without_prefix(stem: str, id: str) -> str:
    rest = stem[len(id) :] if stem.lower().startswith(id.lower()) else stem
    return rest.lstrip("_-") or stem
