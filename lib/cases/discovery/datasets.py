"""Layouts with a dataset.json: nnU-Net and the Medical Segmentation Decathlon."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from lib.cases.case import Case, CaseError, Source
from lib.cases.discovery.dataset_labels import DatasetLabels
from lib.cases.discovery.studies import Studies, case_or_skip
from lib.cases.formats.image import read_axes, stem_of, suffix_of
from lib.cases.formats.json_file import read_json
from lib.cases.modalities import parse_modality
from lib.cases.pool import Pool
from lib.runtime.errors import UserError

_INDEX = re.compile(r"[0-9]{1,6}")
_CHANNEL = re.compile(r"(?P<id>.+)_(?P<channel>[0-9]{4})")


def find_nnunet(studies: Studies) -> Pool:
    """nnU-Net, v1 and v2: `imagesTr/case_0000.nii.gz`, channels named in dataset.json.

    Raises:
        CaseError: If dataset.json is missing, damaged or names no channels.
    """
    names = _channels(studies, ("channel_names", "modality"))
    found: dict[str, dict[str, Source]] = defaultdict(dict)
    labels: dict[str, Path] = {}
    for split in ("Tr", "Ts"):
        for path in _images(studies, split):
            match = _CHANNEL.fullmatch(stem_of(path))
            if match is None:
                studies.skip(
                    path, "an nnU-Net image must end with its channel, like case_0000.nii.gz. Rename it."
                )
            elif (channel := int(match["channel"])) not in names:
                studies.skip(
                    path,
                    f"dataset.json must name its channel {channel}; it names {sorted(names)}. Add it there.",
                )
            else:
                found[match["id"]][names[channel][0]] = Source(path, scale=names[channel][1])
                label = studies.root / f"labels{split}" / f"{match['id']}{suffix_of(path)}"
                if label.is_file():
                    labels[match["id"]] = label
    cases = [
        case_or_skip(studies, id, sources, labels.get(id), layout="nnunet") for id, sources in found.items()
    ]
    return _pool(studies, "nnunet", cases)


def find_decathlon(studies: Studies) -> Pool:
    """Medical Segmentation Decathlon: 4-D NIfTI; each channel, named in dataset.json, becomes a modality.

    Raises:
        CaseError: If dataset.json is missing, damaged or names no channels.
    """
    names = _channels(studies, ("modality",))
    files = [path for split in ("Tr", "Ts") for path in _images(studies, split)]
    with ThreadPoolExecutor() as pool:
        cases = list(pool.map(lambda path: _decathlon_case(studies, path, names), files))
    return _pool(studies, "decathlon", cases)


def _decathlon_case(studies: Studies, path: Path, names: dict[int, tuple[str, float]]) -> Case | None:
    try:
        shape = read_axes(Source(path, display_name="it"))
    except UserError as err:
        studies.skip(path, str(err))
        return None
    channels = shape[3] if len(shape) == 4 else 1
    if channels != len(names):
        studies.skip(
            path,
            f"it must have the {len(names)} channels that dataset.json names; it has shape {shape}. "
            "Correct dataset.json or the file.",
        )
        return None
    label = path.parent.parent / path.parent.name.replace("images", "labels") / path.name
    split = len(shape) == 4
    return case_or_skip(
        studies,
        stem_of(path),
        {name: Source(path, channel if split else None, scale) for channel, (name, scale) in names.items()},
        label if label.is_file() else None,
        layout="decathlon",
    )


def _pool(studies: Studies, layout: str, cases: Iterable[Case | None]) -> Pool:
    """Pool whose labels have the meaning that dataset.json gives them."""
    labels = DatasetLabels.read(studies.root)
    known = [replace(case, ignored=labels.ignored) for case in cases if case]
    return replace(studies.pool(layout, known), labels=labels.names, unclear_labels=labels.unclear)


def _images(studies: Studies, split: str) -> list[Path]:
    folder = studies.root / f"images{split}"
    return list(studies.images(folder)) if folder.is_dir() else []


def _channels(studies: Studies, keys: tuple[str, ...]) -> dict[int, tuple[str, float]]:
    file = studies.root / "dataset.json"
    content = read_json(file)
    table = next((content[key] for key in keys if isinstance(content, dict) and content.get(key)), None)
    if not isinstance(table, dict) or not all(map(_INDEX.fullmatch, table)):
        raise CaseError(
            f'{file} must name its channels as {keys[0]}: {{"0": "T1", …}}; got {str(table)[:80]!r}. Add it.'
        )
    channels: dict[int, tuple[str, float]] = {}
    for channel, word in table.items():
        parsed = parse_modality(str(word), studies.extra)
        if parsed is None:
            raise CaseError(
                f"{file} must name channel {channel} after a modality (T1, CT, …); got {str(word)[:40]!r}. "
                "Rename it there, or name the modality with --conf modalities."
            )
        if parsed[0] in {name for name, _ in channels.values()} or int(channel) in channels:
            raise CaseError(
                f"{file} must name each channel and each modality once; channel {channel} names "
                f"{parsed[0]} again. Correct it there."
            )
        channels[int(channel)] = parsed
    return channels
