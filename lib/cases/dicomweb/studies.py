"""Cases of a PACS: the series of one study and frame of reference become one case."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence, Set, Sized
from pathlib import Path

from filelock import FileLock

from lib.cases.case import Case
from lib.cases.dicomweb.client import Pacs, pacs_at
from lib.cases.dicomweb.listing import FoundSeries
from lib.cases.dicomweb.mirror import Mirror, RemoteSeries
from lib.cases.discovery.choices import USED_BEFORE, choice
from lib.cases.discovery.series_rules import SeriesRules
from lib.cases.pool import Pool, Skipped, make_pool, with_patients
from lib.runtime.errors import UserError
from lib.runtime.files import replacing
from lib.runtime.own_files import Damaged, as_damaged, read_document

_RESTORE_FRAMES = (
    "It records the ids of the PACS's cases, under which labels are stored: restore it from a backup. Move "
    "it away if there is none; the ids of studies with several frames of reference may then change."
)


def find_studies(mirror: Mirror, rules: SeriesRules, used: Set[str] = frozenset()) -> Pool:
    """All cases of a PACS, from its listing alone; no image is fetched.

    The id of a case is its StudyInstanceUID. If a study has several frames of reference, the frame that was
    listed first has this id, and the others have a number appended; in a new listing, frames with more
    modalities come first. A frame never changes its id, because labels are stored under it. If several series
    have the same modality, the one that was used before is used again; otherwise the one with the most
    slices, or the newest of equal ones.

    Args:
        mirror: Mirror of the PACS.
        rules: Rules that name the modality of a series.
        used: UIDs of the series that earlier listings used.

    Raises:
        PacsError: If the PACS does not answer.
    """
    groups: dict[str, dict[str, dict[str, list[FoundSeries]]]] = defaultdict(
        lambda: defaultdict(lambda: defaultdict(list))
    )
    skipped: list[Skipped] = []
    pacs = pacs_at(mirror.url)
    for series in pacs.series(rules.modalities):
        try:
            name = rules.name_of(series.modality, series.description)
        except UserError as err:
            skipped.append(_skip(series, str(err)))
            continue
        if name:
            groups[series.study][series.frame_of_reference][name].append(series)
        else:
            skipped.append(
                _skip(series, f"no rule of {rules.name} gives it a modality, or a rule leaves it out.")
            )
    cases = []
    known = _known_frames(mirror.folder.with_name("frames.json"), groups)
    for study, frames in sorted(groups.items()):
        for frame in frames:
            number = known[study].index(frame) + 1
            notes: list[str] = []
            chosen = {
                name: _choose(pacs, name, several, used, skipped, notes)
                for name, several in frames[frame].items()
            }
            try:
                cases.append(_case(study, number, chosen, mirror, rules, tuple(notes)))
            except UserError as err:
                skipped.append(_skip(next(iter(chosen.values())), str(err)))
    return make_pool(mirror.folder, "dicomweb", with_patients(cases), skipped, used)


def _known_frames(file: Path, found: Mapping[str, Mapping[str, Sized]]) -> dict[str, list[str]]:
    """Frames of reference of each study in the order of their first listing, recorded in a file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{file}.lock"):
        try:
            known = read_document(file, dict[str, list[str]])
        except FileNotFoundError:
            known = {}
        except Damaged as err:
            raise as_damaged(file, err, restore=_RESTORE_FRAMES) from err
        before = sum(len(frames) for frames in known.values())
        for study, frames in found.items():
            seen = known.setdefault(study, [])
            fresh = frames.keys() - set(seen)
            seen += sorted(fresh, key=lambda frame: (-len(frames[frame]), frame))
        if sum(len(frames) for frames in known.values()) != before:
            with replacing(file) as part:
                part.write_text(json.dumps(known))
    return known


def _case(
    study: str,
    number: int,
    chosen: dict[str, FoundSeries],
    mirror: Mirror,
    rules: SeriesRules,
    notes: tuple[str, ...],
) -> Case:
    """Case of the first, second, ... frame of reference of a study."""
    first = next(iter(chosen.values()))
    return Case(
        study if number == 1 else f"{study}_{number}",
        {name: RemoteSeries.of(series, mirror, name, rules) for name, series in chosen.items()},
        study_title=first.study_title if number == 1 else f"{first.study_title} ({number})",
        patient=first.patient,
        layout="dicomweb",
        notes=notes,
    )


def _choose(
    pacs: Pacs,
    name: str,
    several: Sequence[FoundSeries],
    used: Set[str],
    skipped: list[Skipped],
    notes: list[str],
) -> FoundSeries:
    if len(several) == 1:
        return several[0]
    slices = {series: pacs.slices(series) for series in several}
    newest = sorted(several, key=lambda series: (series.made, series.uid), reverse=True)
    first, *others = sorted(newest, key=lambda series: (series.uid not in used, -slices[series]))
    taken, *names = (
        f"'{each.description}' ({slices[each]} slices, series {each.uid})" for each in (first, *others)
    )
    notes.append(choice(name, taken, names, _why(first, others[0], used, slices)))
    for series in others:
        why = _why(first, series, used, slices)
        skipped.append(_skip(series, f"a case must have one {name}; '{first.description}' is taken: {why}."))
    return first


def _why(taken: FoundSeries, other: FoundSeries, used: Set[str], slices: Mapping[FoundSeries, int]) -> str:
    """Rule by which one series is taken before another; a clause."""
    if taken.uid in used:
        return USED_BEFORE
    if slices[taken] > slices[other]:
        return "it has more slices"
    if taken.made > other.made:
        return "it is newer"
    return "both have as many slices and the same time, and its UID comes last"


def _skip(series: FoundSeries, reason: str) -> Skipped:
    return Skipped(
        Path(series.study, series.uid),
        f"{series.modality} '{series.description}': {reason}",
    )
