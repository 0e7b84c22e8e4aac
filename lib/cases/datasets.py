"""Layouts that a dataset.json describes: nnU-Net and the Medical Segmentation Decathlon."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import nibabel as nib

from lib.cases.case import Case, CaseError, Source
from lib.cases.image import stem_of, suffix_of
from lib.cases.modalities import parse_modality

Skip = Callable[[Path, str], None]
_CHANNEL = re.compile(r"(?P<id>.+)_(?P<channel>\d{4})")


def nnunet_cases(root: Path, extra: tuple[str, ...], skip: Skip) -> list[Case]:
    """Cases of an nnU-Net raw dataset (v1 and v2).

    Raises:
        CaseError: If dataset.json is missing, damaged or names no channels.
    """
    names = _channels(root, ("channel_names", "modality"), extra)
    found: dict[str, dict[str, Source]] = defaultdict(dict)
    labels: dict[str, Path] = {}
    for split in ("Tr", "Ts"):
        for path in _images(root / f"images{split}"):
            match = _CHANNEL.fullmatch(stem_of(path))
            if match is None:
                skip(path, "an nnU-Net image must end with its channel, like case_0000.nii.gz. Rename it.")
            elif (channel := int(match["channel"])) not in names:
                skip(path, f"dataset.json must name its channel {channel}; it names {sorted(names)}. Add it there.")
            else:
                found[match["id"]][names[channel][0]] = Source(path, scale=names[channel][1])
                label = root / f"labels{split}" / f"{match['id']}{suffix_of(path)}"
                if label.is_file():
                    labels[match["id"]] = label
    return [Case(id, sources, labels.get(id), layout="nnunet") for id, sources in found.items()]


def decathlon_cases(root: Path, extra: tuple[str, ...], skip: Skip) -> list[Case]:
    """Cases of a Decathlon task; each channel of a 4-D file becomes a modality of its own.

    Raises:
        CaseError: If dataset.json is missing, damaged or names no channels.
    """
    names = _channels(root, ("modality",), extra)
    files = [path for split in ("Tr", "Ts") for path in _images(root / f"images{split}")]
    with ThreadPoolExecutor() as pool:
        cases = pool.map(lambda path: _decathlon_case(root, path, names, skip), files)
        return [case for case in cases if case]


def _decathlon_case(root: Path, path: Path, names: dict[int, tuple[str, float]], skip: Skip) -> Case | None:
    try:
        image: Any = nib.load(path)
        shape = image.shape
    except Exception as err:  # nibabel raises many kinds on a damaged header
        skip(path, f"its header must be readable; it is damaged ({err}). Copy it again.")
        return None
    channels = shape[3] if len(shape) == 4 else 1
    if channels != len(names):
        skip(path, f"it must have the {len(names)} channels that dataset.json names; it has shape {shape}. "
                   "Correct dataset.json or the file.")
        return None
    label = path.parent.parent / path.parent.name.replace("images", "labels") / path.name
    split = len(shape) == 4
    return Case(stem_of(path), {name: Source(path, channel if split else None, scale)
                                for channel, (name, scale) in names.items()},
                label if label.is_file() else None, layout="decathlon")


def _images(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if suffix_of(path) and not path.name.startswith("."))


def _channels(root: Path, keys: tuple[str, ...], extra: tuple[str, ...]) -> dict[int, tuple[str, float]]:
    file = root / "dataset.json"
    try:
        content = json.loads(file.read_text())
    except (OSError, ValueError) as err:
        raise CaseError(f"{file} must be there and be JSON; {err}. Write one that names the channels.") from err
    table = next((content[key] for key in keys if isinstance(content, dict) and content.get(key)), None)
    if not isinstance(table, dict) or not all(str(channel).isdigit() for channel in table):
        raise CaseError(f"{file} must name its channels as {keys[0]}: {{\"0\": \"T1\", …}}; got {table!r}. Add it.")
    channels = {}
    for channel, word in table.items():
        parsed = parse_modality(str(word).strip().replace("-", "_"), extra) or parse_modality(str(word), extra)
        if parsed is None:
            raise CaseError(f"{file} must name channel {channel} after a modality (T1, CT, …); got {word!r}. "
                            "Rename it there, or name the modality with --conf modalities.")
        channels[int(channel)] = parsed
    return channels
