"""The layout of the BraTS challenges."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

from lib.cases.discovery.choices import USED_BEFORE, choice
from lib.cases.discovery.drafts import NOT_A_MODALITY, Draft
from lib.cases.discovery.file_names import name_of
from lib.cases.discovery.studies import Studies
from lib.cases.pool import Pool

_BRATS = re.compile(r"(?P<patient>BraTS.*?-\d{5}|BraTS\w*?_\d+)(?:-\d{3})?", re.IGNORECASE)
BRATS_BEGINNING = "brats"


def find_brats(studies: Studies) -> Pool:
    """BraTS: `BraTS20_Training_001/BraTS20_Training_001_t1ce.nii.gz`, `BraTS-GLI-00001-000-t1c.nii.gz`.

    Time points of one patient (`-000`, `-001`) become cases of one patient. Folders at any depth and flat
    files are found. If one id lies in several folders that have the same modalities, the folder that an
    earlier listing used is used again; otherwise the one with the most modalities, the first by name of
    equal ones.
    """
    drafts: dict[str, dict[Path, Draft]] = defaultdict(lambda: defaultdict(Draft))
    for folder, _, images in studies.tree():
        for path in images:
            name = name_of(path)
            id, _, word = name.rpartition("-" if re.match(r"BraTS-", name, re.IGNORECASE) else "_")
            if not _BRATS.fullmatch(id):
                if name.lower().startswith(BRATS_BEGINNING):
                    studies.skip(
                        path,
                        "a BraTS file must be named like BraTS20_Training_001_t1ce or "
                        "BraTS-GLI-00001-000-t1c. Rename it.",
                    )
            elif not drafts[id][folder].add(studies, path, word):
                studies.skip(path, NOT_A_MODALITY.format(word=word))
    cases = []
    for id, found in drafts.items():
        match = _BRATS.fullmatch(id)
        draft = _joined(studies, id, found)
        cases.append(draft.finish(studies, id, "brats", match["patient"] if match else id))
    return studies.pool("brats", cases)


def _joined(studies: Studies, id: str, found: dict[Path, Draft]) -> Draft:
    """Draft of the files of one id; a folder with a modality that is there already is left out whole."""
    joined = Draft()

    def was_used(folder: Path) -> bool:
        return any(
            studies.was_used(source) for sources in found[folder].sources.values() for source in sources
        )

    taken, *_ = ordered = sorted(
        found, key=lambda folder: (not was_used(folder), -len(found[folder].sources))
    )
    left_out = []
    for folder in ordered:
        if found[folder].sources.keys() & joined.sources.keys():
            left_out.append(folder)
            continue
        joined.sources |= found[folder].sources
        joined.labels += found[folder].labels
    if left_out:
        names = [folder.relative_to(studies.root).as_posix() for folder in (taken, *left_out)]
        most = "it has the most modalities of the case, or comes first by name"
        why = USED_BEFORE if was_used(taken) else most
        joined.notes.append(choice("folder", names[0], names[1:], why))
        for path in (path for folder in left_out for path in found[folder].files):
            studies.skip(path, f"case {id} lies in several folders; {names[0]} is taken. Remove the others.")
    return joined
