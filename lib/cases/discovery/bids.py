"""BIDS, the Brain Imaging Data Structure (bids-specification.readthedocs.io): one case a session."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from math import prod
from pathlib import Path

from lib.cases.case import Source
from lib.cases.discovery.bids_labels import DERIVATIVES, Session, is_label, labels_of
from lib.cases.discovery.drafts import NOT_A_MODALITY, Draft
from lib.cases.discovery.file_names import name_of
from lib.cases.discovery.places import Place, ids_of
from lib.cases.discovery.studies import Studies
from lib.cases.formats.image import read_axes
from lib.cases.modalities import parse_modality
from lib.cases.pool import Pool
from lib.runtime.errors import UserError

DESCRIPTION = "dataset_description.json"
DATATYPES = {"anat", "pet", "dwi", "perf", "func", "fmap"}
_NOT_RAW = {DERIVATIVES, "sourcedata", "code"}
_SERIES_OF_VOLUMES = {"DWI", "PET"}  # often one volume a direction or time frame
_NOT_MAGNITUDE = {"phase", "real", "imag"}


def find_bids(studies: Studies) -> Pool:
    """BIDS: `sub-01/ses-02/anat/sub-01_ses-02_T1w.nii.gz`; `*_ce-gadolinium_T1w` is T1ce.

    A session is a case, and a subject a patient. Of several files of one modality (`run-`, `acq-`, `echo-`)
    the one with the fewest entities is used, the first by name of equal ones. The label is the one label of
    the case under `derivatives`; if there are several, none is used.
    """
    roots = bids_roots(studies)
    if not roots:
        return studies.pool("bids", [])
    drafts: dict[Session, Draft] = defaultdict(
        lambda: Draft(rank=_rank, order="its name has the fewest entities, or comes first by name")
    )
    for session, path, words in _images(studies, roots):
        if word := _modality_or_skip(studies, path, words):
            drafts[session].add(studies, path, word)
    labels, notes = labels_of(studies, list(drafts))
    for session, draft in drafts.items():
        draft.labels += filter(None, [labels.get(session)])
        draft.notes += filter(None, [notes.get(session)])
    ids = ids_of([session.place for session in drafts])
    cases = [
        draft.finish(studies, id, "bids", session.subject)
        for id, (session, draft) in zip(ids, drafts.items(), strict=True)
    ]
    return studies.pool("bids", cases)


def bids_roots(studies: Studies) -> set[Place]:
    """Data sets below a folder: they hold a description, or subjects with sessions or `anat`, `pet`, …."""
    found, described = set(), set()
    subjects = set()
    for folder, entries, _ in studies.tree():
        parts = folder.relative_to(studies.root).parts
        if parts and _is_subject(parts[-1]):
            subjects.add(parts[:-1])
        if any(entry.name == DESCRIPTION for entry in entries):
            described.add(parts)
        for level, name in enumerate(parts[:-1]):
            below = parts[level + 1]
            if _is_subject(name) and (below.startswith("ses-") or below in DATATYPES):
                found.add(parts[:level])
    return {parts for parts in found | (described & subjects) if not _NOT_RAW & set(parts)}


def _rank(path: Path) -> tuple[int, str]:
    return name_of(path).count("_"), path.as_posix()


def _is_subject(name: str) -> bool:
    return bool(re.fullmatch(r"sub-[^_]+", name))


def _images(studies: Studies, roots: set[Place]) -> Iterator[tuple[Session, Path, list[str]]]:
    """Session and words of each image whose name agrees with its folders."""
    for folder, _, images in studies.tree():
        parts = folder.relative_to(studies.root).parts
        level = next((n for n, name in enumerate(parts) if _is_subject(name)), None)
        if level is None or parts[:level] not in roots:
            continue
        subject, below = parts[level], parts[level + 1 :]
        session = below[0] if below and below[0].startswith("ses-") else ""
        for path in images:
            words = name_of(path).split("_")
            if is_label(words[1:]):
                continue  # see `labels_of`
            named = next((word for word in words if word.startswith("ses-")), "")
            if words[0] != subject or (session and named not in ("", session)):
                studies.skip(
                    path,
                    f"its name must begin with its subject and session, as its folders say; they say "
                    f"{'_'.join(filter(None, (subject, session)))}. Rename or move it.",
                )
            else:
                yield Session(parts[:level], subject, session or named), path, words[1:]


def _modality_or_skip(studies: Studies, path: Path, words: list[str]) -> str:
    """Word that names the modality of an image; empty if it is left out, which is recorded."""
    entities = dict(word.split("-", 1) for word in words if "-" in word)
    suffix = words[-1] if words else ""
    parsed = parse_modality(suffix, studies.extra)
    if parsed is None:
        studies.skip(path, NOT_A_MODALITY.format(word=suffix))
    elif entities.get("part") in _NOT_MAGNITUDE:
        studies.skip(path, f"its part is {entities['part']}; only magnitude images are used.")
    elif "ce" in entities and parsed[0] != "T1":
        studies.skip(
            path,
            f"with a contrast agent (ce-{entities['ce']}) only T1w is a known modality; it is {suffix}.",
        )
    elif parsed[0] in _SERIES_OF_VOLUMES and (volumes := _volumes(path)) > 1:
        studies.skip(path, f"it must be one 3-D volume; it holds {volumes}. Export the mean, trace or ADC.")
    else:
        return "T1ce" if "ce" in entities else suffix
    return ""


def _volumes(path: Path) -> int:
    """Number of 3-D volumes in a file; 1 if its header cannot be read, which the pool check tells."""
    try:
        return prod(read_axes(Source(path))[3:])
    except UserError:
        return 1
