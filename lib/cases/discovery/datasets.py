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
from lib.cases.discovery.drafts import Draft
from lib.cases.discovery.file_names import name_of
from lib.cases.discovery.studies import Studies, case_or_skip
from lib.cases.formats.image import read_axes
from lib.cases.formats.json_file import read_json
from lib.cases.modalities import parse_modality
from lib.cases.pool import Pool
from lib.runtime.errors import UserError

_INDEX = re.compile(r"[0-9]{1,6}")
DATASETS = ("nnunet", "decathlon")  # layouts with a dataset.json
_SPLITS = ("Tr", "Ts")
_KEYS_OF_NNUNET, _KEYS_OF_DECATHLON = ("channel_names", "modality"), ("modality",)
_NO_IMAGE = "a label must have the name of a case among the images; no case that was found has it. Rename it."
_CHANNEL = re.compile(r"(?P<id>.+)_(?P<channel>[0-9]{4})")


def find_nnunet(studies: Studies) -> Pool:
    """nnU-Net, v1 and v2: `imagesTr/case_0000.nii.gz`, channels named in dataset.json.

    Raises:
        CaseError: If dataset.json is missing, damaged or names no channels.
    """
    names = _channels(studies, _KEYS_OF_NNUNET)
    drafts: dict[tuple[str, str], Draft] = defaultdict(Draft)  # one id may be in imagesTr and imagesTs
    for split in _SPLITS:
        for path in _images(studies, split):
            match = _CHANNEL.fullmatch(name_of(path))
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
                name, scale = names[channel]
                drafts[split, match["id"]].sources.setdefault(name, []).append(Source(path, scale=scale))
    for split in _SPLITS:
        for path in _images(studies, split, kind="labels"):
            if (split, name_of(path)) in drafts:
                drafts[split, name_of(path)].labels.append(path)
            else:
                studies.skip(path, _NO_IMAGE)
    return _pool(
        studies, "nnunet", [draft.finish(studies, id, "nnunet") for (_, id), draft in drafts.items()]
    )


def find_decathlon(studies: Studies) -> Pool:
    """Medical Segmentation Decathlon: 4-D NIfTI; each channel, named in dataset.json, becomes a modality.

    Raises:
        CaseError: If dataset.json is missing, damaged or names no channels.
    """
    names = _channels(studies, _KEYS_OF_DECATHLON)
    files = [path for split in _SPLITS for path in _images(studies, split)]
    with ThreadPoolExecutor() as pool:
        cases = list(pool.map(lambda path: _decathlon_case(studies, path, names), files))
    labelled = {case.label for case in cases if case}
    for path in (path for split in _SPLITS for path in _images(studies, split, kind="labels")):
        if path not in labelled:
            studies.skip(path, _NO_IMAGE)
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
        name_of(path),
        {name: Source(path, channel if split else None, scale) for channel, (name, scale) in names.items()},
        label if label.is_file() else None,
        layout="decathlon",
    )


def _pool(studies: Studies, layout: str, cases: Iterable[Case | None]) -> Pool:
    """Pool whose labels have the meaning that dataset.json gives them."""
    labels = DatasetLabels.read(studies.root)
    known = [replace(case, ignored=labels.ignored) for case in cases if case]
    return replace(studies.pool(layout, known), labels=labels.names, unclear_labels=labels.unclear)


def dataset_folders(studies: Studies) -> list[Path]:
    """Folders with a folder imagesTr or imagesTs, at any depth."""
    splits = {f"images{split}" for split in _SPLITS}
    return [
        folder
        for folder, entries, _ in studies.tree()
        if any(entry.name in splits and entry.is_dir() for entry in entries)
    ]


def dataset_files(root: Path) -> list[Path]:
    """The description of a data set and its folders, those that are there."""
    names = ("dataset.json", *(f"{kind}{split}" for kind in ("images", "labels") for split in _SPLITS))
    return [path for path in (root / name for name in names) if path.exists()]


def is_decathlon(studies: Studies) -> bool:
    """Whether each image holds all channels, as in the Decathlon; in nnU-Net each channel is a file."""
    images = [path for split in _SPLITS for path in _images(studies, split)]
    by_channel = next((path for path in images if _CHANNEL.fullmatch(name_of(path))), None)
    if by_channel is None:
        return bool(images)
    try:
        return len(read_axes(Source(by_channel))) == 4
    except UserError:
        return False


def dataset_trouble(studies: Studies) -> str:
    """Why dataset.json does not name the channels; empty if it does."""
    try:
        _channels(studies, _KEYS_OF_DECATHLON if is_decathlon(studies) else _KEYS_OF_NNUNET)
    except UserError as err:
        return str(err)
    return ""


def _images(studies: Studies, split: str, *, kind: str = "images") -> list[Path]:
    folder = studies.root / f"{kind}{split}"
    return studies.images(folder) if folder.is_dir() else []


def _channels(studies: Studies, keys: tuple[str, ...]) -> dict[int, tuple[str, float]]:
    file = studies.root / "dataset.json"
    if not file.exists():
        raise CaseError(
            f'{file} must name the channels as {keys[0]}: {{"0": "T1", …}}; it is missing. Add it.'
        )
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
