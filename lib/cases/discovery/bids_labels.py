"""Labels of BIDS sessions: the masks below `derivatives` and beside the images."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from lib.cases.discovery.file_names import name_of
from lib.cases.discovery.places import Place
from lib.cases.discovery.studies import Studies
from lib.cases.modalities import parse_modality

DERIVATIVES = "derivatives"
_LABEL = re.compile(r"(?:\w*mask|msk|dseg|seg|gtv|roi|lesion|tumou?r|label)(?:-.*)?", re.IGNORECASE)
_NO_LESION = re.compile(
    r"(?:desc-|label-)?(?:brain|head|deface|gm|wm|csf|bg|aseg|aparc\w*|hemi\w*)(?:mask)?", re.IGNORECASE
)
_OWN_SPACES = {"orig", "native", "individual", "subject", "scanner"}
_LISTED = 5


@dataclass(frozen=True)
class Session:
    """Session of a subject.

    Attributes:
        root: Folders from the studies folder to the data set.
        subject: `sub-01`.
        session: `ses-02`; empty if the subject has no sessions.
    """

    root: Place
    subject: str
    session: str = ""

    @property
    def place(self) -> Place:
        """Folders from the studies folder to the case."""
        return (*self.root, "_".join(filter(None, (self.subject, self.session))))


def is_label(words: Sequence[str]) -> bool:
    """Whether the words of a name after its subject say that it is a label."""
    return bool(words and _LABEL.fullmatch(words[-1])) or any(word.startswith("label-") for word in words)


def labels_of(
    studies: Studies, sessions: Sequence[Session]
) -> tuple[dict[Session, Path], dict[Session, str]]:
    """The one label of each session, and a note for each session that has several and so gets none.

    A label that names no session belongs to the only session of its subject.
    """
    found: dict[Session, list[Path]] = defaultdict(list)
    of_subject: dict[str, list[Session]] = defaultdict(list)
    for session in sessions:
        of_subject[session.subject].append(session)
    for path, words in _candidates(studies):
        if reason := _no_lesion(words[1:], studies.extra):
            studies.skip(path, reason)
            continue
        fitting = [each for each in of_subject[words[0]] if _fits(each, path, words, studies.root)]
        if len(fitting) == 1:
            found[fitting[0]].append(path)
        else:
            studies.skip(
                path,
                f"a label must name one case by its subject and session; it fits {len(fitting)}. Rename it.",
            )
    notes = {}
    for session, paths in found.items():
        if len(paths) > 1:
            notes[session] = _several(studies, session, paths)
    return {session: paths[0] for session, paths in found.items() if len(paths) == 1}, notes


def _candidates(studies: Studies) -> Iterator[tuple[Path, list[str]]]:
    for folder, _, images in studies.tree():
        for path in images:
            words = name_of(path).split("_")
            if not words[0].startswith("sub-"):
                continue
            if is_label(words[1:]):
                yield path, words
            elif DERIVATIVES in folder.relative_to(studies.root).parts:
                studies.skip(
                    path, f"below {DERIVATIVES} only labels are read: …_mask, …_dseg, …_label-lesion_…."
                )


def _no_lesion(words: Sequence[str], extra: tuple[str, ...]) -> str:
    """Reason if a label is a probability, shows the brain or its tissues, or lies in another space."""
    if words[-1].lower().endswith("probseg"):
        return "a label must be a map of whole numbers, no probability."
    if any(_NO_LESION.fullmatch(word) for word in words):
        return "a label must outline what is sought; its name says that it outlines the brain or its tissues."
    space = next((word.removeprefix("space-") for word in words if word.startswith("space-")), "orig")
    if space.lower() not in _OWN_SPACES and parse_modality(space, extra) is None:
        return f"a label must lie on the images of its case; its name says that it lies in the space {space}."
    return ""


def _fits(session: Session, path: Path, words: Sequence[str], root: Path) -> bool:
    parts = path.relative_to(root).parts[:-1]
    above = parts[: parts.index(DERIVATIVES)] if DERIVATIVES in parts else parts
    one_tree = session.root[: len(above)] == above or above[: len(session.root)] == session.root
    named = next((word for word in (*parts, *words) if word.startswith("ses-")), "")
    return one_tree and named in ("", session.session)


def _several(studies: Studies, session: Session, paths: Sequence[Path]) -> str:
    names = [path.name for path in paths[:_LISTED]] + (["…"] if len(paths) > _LISTED else [])
    for path in paths:
        studies.skip(
            path,
            f"case {session.place[-1]} must have one label; of {len(paths)} none is used. Keep one.",
        )
    return (
        f"label: none of {len(paths)} is used, because nothing says which is right: {', '.join(names)}. Keep "
        "only the right one in the studies."
    )
