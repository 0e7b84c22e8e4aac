"""The expert's prior: which modality leads which subtask, and how regions become labels.

CIML as reconstructed from its abstract (Shen et al., Neural Networks 180 (2024) 106670): the task is
decomposed into subtasks with a primary modality each; the other modalities send it messages.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lib.cases.modalities import kind
from lib.ciml.subtask import (
    Region,
    Subtask,
    check_labels,
    check_regions,
    check_subtasks,
    check_unique,
    own_label,
)

PRESETS = ("auto", "glioma_mr", "pet_ct", "pet_ct_mr", "generic")
GLIOMA_MODALITIES = ("T1", "T1ce", "T2", "FLAIR")
GLIOMA_LABELS = ("necrotic core", "oedema", "enhancing")


@dataclass(frozen=True)
class Decomposition:
    """A segmentation task as subtasks over regions.

    Attributes:
        name: Preset, or the site's own.
        labels: Value on disk of each label, contiguous from 1.
        regions: Painted in this order, so a region comes before those inside it.
        subtasks: At least one for each region; the probabilities of several are averaged.
    """

    name: str
    labels: dict[str, int]
    regions: tuple[Region, ...]
    subtasks: tuple[Subtask, ...]

    def __post_init__(self) -> None:
        """Refuse a table that could not be trained or not be turned back into labels."""
        check_labels(self.labels)
        check_regions(self.regions, set(self.labels.values()))
        check_subtasks(self.subtasks, [region.name for region in self.regions])

    @property
    def modalities(self) -> tuple[str, ...]:
        """Every modality that some subtask uses, in order of first mention."""
        names = (name for task in self.subtasks for name in (*task.primary, *task.auxiliary))
        return tuple(dict.fromkeys(names))

    def region_indices(self, subtask: Subtask) -> list[int]:
        """Where a subtask's regions stand among all regions."""
        names = [region.name for region in self.regions]
        return [names.index(name) for name in subtask.regions]

    def regions_of(self, label: NDArray[Any]) -> NDArray[np.uint8]:
        """Masks of the regions.

        Args:
            label: (D, H, W), 0 is background.

        Returns:
            (R, D, H, W), 0 or 1.
        """
        return np.stack([np.isin(label, region.labels) for region in self.regions]).astype(np.uint8)

    def labels_of(self, probabilities: NDArray[Any], *, threshold: float = 0.5) -> NDArray[np.uint8]:
        """Label map painted region by region.

        A region inside another paints over it; of two that exclude each other the more probable wins.

        Args:
            probabilities: (R, D, H, W), or masks of 0 and 1.
            threshold: A voxel belongs to a region from this probability on.

        Returns:
            (D, H, W), 0 is background.

        Raises:
            ValueError: If there is not one channel a region.
        """
        if len(probabilities) != len(self.regions):
            raise ValueError(
                f"probabilities must have one channel for each of the {len(self.regions)} regions; "
                f"got {len(probabilities)}."
            )
        label = np.zeros(probabilities.shape[1:], dtype=np.uint8)
        best = np.zeros(probabilities.shape[1:], dtype=probabilities.dtype)  # of the region that painted last
        for region, probability in zip(self.regions, probabilities, strict=True):
            enclosing = [
                own_label(other, self.regions)
                for other in self.regions
                if set(other.labels) > set(region.labels)
            ]
            wins = (probability >= threshold) & ((probability > best) | np.isin(label, enclosing))
            label[wins], best[wins] = own_label(region, self.regions), probability[wins]
        return label

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON and checkpoints."""
        return asdict(self)

    @classmethod
    def from_dict(cls, table: Mapping[str, Any]) -> Decomposition:
        """A site's own table, or what `to_dict` gave.

        Raises:
            ValueError: Naming the field that is missing or wrong.
        """
        _check_fields(table, ("name", "labels", "regions", "subtasks"), "decomposition")
        for field, kinds in (("labels", Mapping), ("regions", Sequence), ("subtasks", Sequence)):
            if not isinstance(table[field], kinds) or isinstance(table[field], str):
                raise ValueError(
                    f"{field} must be a {'table' if kinds is Mapping else 'list'}; got {table[field]!r}."
                )
        for row in table["regions"]:
            _check_fields(row, ("name", "labels"), "regions")
        for row in table["subtasks"]:
            _check_fields(row, ("name", "primary", "auxiliary", "regions"), "subtasks")
        return cls(
            str(table["name"]),
            dict(table["labels"]),
            tuple(Region(row["name"], _tuple(row, "labels")) for row in table["regions"]),
            tuple(
                Subtask(row["name"], _tuple(row, "primary"), _tuple(row, "auxiliary"), _tuple(row, "regions"))
                for row in table["subtasks"]
            ),
        )


def decomposition_for(
    modalities: tuple[str, ...], *, preset: str = "auto", labels: tuple[str, ...] | None = None
) -> Decomposition:
    """The preset that fits these modalities.

    Args:
        modalities: The pool's, in order.
        preset: One of `PRESETS`. `auto`: T1, T1ce, T2, FLAIR with the glioma labels or none named is glioma;
            CT and PET, with or without MR, are themselves; anything else is generic.
        labels: Names for the values 1..n; `lesion`, or the glioma's three, when None.

    Raises:
        ValueError: If the preset is unknown or does not fit the modalities or labels.
    """
    if preset not in PRESETS:
        raise ValueError(f"preset must be one of {', '.join(PRESETS)}; got {preset!r}.")
    if not modalities:
        raise ValueError("modalities must name at least one; got none.")
    preset = _fitting_preset(modalities, labels) if preset == "auto" else preset
    if preset == "glioma_mr":
        return _glioma(modalities, labels)
    needed = {"pet_ct": {"CT", "PET"}, "pet_ct_mr": {"CT", "PET", "MR"}}.get(preset)
    if needed and {kind(name) for name in modalities} != needed:
        raise ValueError(
            f"modalities must be of the kinds {', '.join(sorted(needed))} for preset {preset}; got "
            f"{', '.join(modalities)}. Use preset generic."
        )
    leads: dict[str, tuple[str, ...]] = {name: (name,) for name in modalities}
    if preset == "pet_ct":
        leads = {
            task: tuple(name for name in modalities if kind(name) == lead)
            for task, lead in (("uptake", "PET"), ("anatomy", "CT"))
        }
    return _lesion(preset, modalities, leads, labels or ("lesion",))


def _fitting_preset(modalities: tuple[str, ...], labels: tuple[str, ...] | None) -> str:
    if set(modalities) == set(GLIOMA_MODALITIES) and labels in (None, GLIOMA_LABELS):
        return "glioma_mr"
    kinds = {kind(name) for name in modalities}
    return {2: "pet_ct", 3: "pet_ct_mr"}[len(kinds)] if kinds >= {"CT", "PET"} else "generic"


def _glioma(modalities: tuple[str, ...], labels: tuple[str, ...] | None) -> Decomposition:
    if set(modalities) != set(GLIOMA_MODALITIES):
        raise ValueError(
            f"modalities must be {', '.join(GLIOMA_MODALITIES)} for preset glioma_mr; "
            f"got {', '.join(modalities)}. Use preset generic."
        )
    if labels not in (None, GLIOMA_LABELS):
        raise ValueError(
            f"labels must be {', '.join(GLIOMA_LABELS)} for preset glioma_mr; "
            f"got {', '.join(labels or ())}. Use preset generic."
        )
    return Decomposition(
        "glioma_mr",
        _numbered(GLIOMA_LABELS),
        (Region("whole tumour", (1, 2, 3)), Region("tumour core", (1, 3)), Region("enhancing tumour", (3,))),
        (
            Subtask("core", ("T1ce", "T1"), ("FLAIR", "T2"), ("tumour core", "enhancing tumour")),
            Subtask("whole", ("FLAIR", "T2"), ("T1ce", "T1"), ("whole tumour",)),
        ),
    )


def _lesion(
    name: str, modalities: tuple[str, ...], leads: Mapping[str, tuple[str, ...]], labels: tuple[str, ...]
) -> Decomposition:
    """Every subtask outlines every label from its own primary modalities."""
    subtasks = tuple(
        Subtask(task, primary, tuple(other for other in modalities if other not in primary), labels)
        for task, primary in leads.items()
    )
    numbered = _numbered(labels)
    return Decomposition(
        name, numbered, tuple(Region(label, (value,)) for label, value in numbered.items()), subtasks
    )


def _numbered(labels: tuple[str, ...]) -> dict[str, int]:
    check_unique(labels, "labels")
    return {name: value for value, name in enumerate(labels, start=1)}


def _check_fields(table: Any, fields: tuple[str, ...], where: str) -> None:
    if not isinstance(table, Mapping) or set(table) != set(fields):
        raise ValueError(
            f"{where} must have the fields {', '.join(fields)} and no other; got "
            f"{sorted(map(str, table)) if isinstance(table, Mapping) else table!r}."
        )


def _tuple(row: Mapping[str, Any], field: str) -> tuple[Any, ...]:
    if isinstance(row[field], str) or not isinstance(row[field], Sequence):
        raise ValueError(f"{field} of {row['name']!r} must be a list; got {row[field]!r}.")
    return tuple(row[field])
