"""Decomposition of a segmentation task: primary modality of each subtask, and labels of the regions.

CIML as reconstructed from its abstract (Shen et al., Neural Networks 180 (2024) 106670): the task is
decomposed into subtasks with a primary modality each; the other modalities send it messages.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import StrictInt, TypeAdapter, ValidationError, with_config

from lib.ciml.decomposition.presets import PRESETS, preset_table
from lib.ciml.decomposition.subtask import (
    Region,
    Subtask,
    check_labels,
    check_maps,
    check_regions,
    check_subtasks,
    own_label,
)
from lib.runtime.yaml_table import YAML_SUFFIXES, read_table


@with_config(extra="forbid")
@dataclass(frozen=True)
class Decomposition:
    """Decomposition of a segmentation task into subtasks over regions.

    Attributes:
        name: Name of the preset, or of the site's own table.
        labels: Value on disk of each label, contiguous from 1.
        regions: Regions in painting order, so a region precedes the regions inside it.
        subtasks: Subtasks, at least one for each region; the probabilities of several are averaged.
        import_values: Foreign value -> label value, for values outside 0..n in label files of other tools.
        export_values: Label value -> foreign value; `import_values` must map each value back.
    """

    name: str
    labels: dict[str, StrictInt]
    regions: tuple[Region, ...]
    subtasks: tuple[Subtask, ...]
    # Not compared: these maps change files, not the network.
    import_values: dict[int, StrictInt] = field(default_factory=dict, compare=False)
    export_values: dict[int, StrictInt] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        """Refuse a table that cannot be trained or converted back to labels."""
        check_labels(self.labels)
        check_maps(self.import_values, self.export_values, set(self.labels.values()))
        check_regions(self.regions, set(self.labels.values()))
        check_subtasks(self.subtasks, [region.name for region in self.regions])

    @property
    def modalities(self) -> tuple[str, ...]:
        """Modalities that any subtask uses, in order of first mention."""
        names = (name for task in self.subtasks for name in (*task.primary, *task.auxiliary))
        return tuple(dict.fromkeys(names))

    def region_indices(self, subtask: Subtask) -> list[int]:
        """Indices of the regions of a subtask among all regions."""
        names = [region.name for region in self.regions]
        return [names.index(name) for name in subtask.regions]

    def regions_of(self, label: NDArray[Any]) -> NDArray[np.uint8]:
        """Masks of the regions.

        Args:
            label: Label map, shape (D, H, W); 0 is background.

        Returns:
            Masks, shape (R, D, H, W), 0 or 1.
        """
        return np.stack([np.isin(label, region.labels) for region in self.regions]).astype(np.uint8)

    def labels_of(self, probabilities: NDArray[Any], *, threshold: float = 0.5) -> NDArray[np.uint8]:
        """Label map, painted region by region.

        An inner region is painted over its outer region. Of two disjoint regions the more probable one wins.

        Args:
            probabilities: Probabilities or masks of the regions, shape (R, D, H, W).
            threshold: Smallest probability at which a voxel belongs to a region.

        Returns:
            Label map, shape (D, H, W); 0 is background.

        Raises:
            ValueError: If there is not one channel per region.
        """
        if len(probabilities) != len(self.regions):
            raise ValueError(
                f"probabilities must have one channel for each of the {len(self.regions)} regions; "
                f"got {len(probabilities)}."
            )
        label = np.zeros(probabilities.shape[1:], dtype=np.uint8)
        best = np.zeros(probabilities.shape[1:], dtype=probabilities.dtype)  # of the last painted region
        for region, probability in zip(self.regions, probabilities, strict=True):
            enclosing = [
                own_label(other, self.regions)
                for other in self.regions
                if set(other.labels) > set(region.labels)
            ]
            wins = (probability >= threshold) & ((probability > best) | np.isin(label, enclosing))
            label[wins], best[wins] = own_label(region, self.regions), probability[wins]
        return label

    def exported(self, label: NDArray[Any], values: Mapping[int, int] | None = None) -> NDArray[Any]:
        """Convert label values 0..n by `export_values`; `import_values` is the inverse.

        Args:
            label: Label values of any shape.
            values: Foreign value of each label value, if it is not that of `export_values`.

        Returns:
            Exported values of the same shape, in a wider type if the values need it.
        """
        values = self.export_values if values is None else values
        widest = np.min_scalar_type(max(values.values(), default=0))
        result = label.astype(np.promote_types(label.dtype, widest))
        for ours, theirs in values.items():
            result[label == ours] = theirs
        return result

    def to_dict(self) -> dict[str, Any]:
        """Decomposition as plain values, for JSON and checkpoints."""
        return asdict(self)

    @classmethod
    def from_dict(cls, table: Mapping[str, Any]) -> Decomposition:
        """Decomposition from a site's own table, or from the values of `to_dict`, also via JSON.

        Raises:
            ValueError: Naming the fields that are missing or wrong, such as `subtasks[1].primary`.
        """
        try:
            return _TABLE.validate_python(table)
        except ValidationError as err:
            raise ValueError(" ".join(_sentence(dict(error)) for error in err.errors()[:3])) from err


_TABLE = TypeAdapter(Decomposition)


def decomposition_for(
    modalities: tuple[str, ...], *, preset: str = "auto", labels: tuple[str, ...] | None = None
) -> Decomposition:
    """Decomposition by the preset that fits these modalities, or by a site's own table.

    Args:
        modalities: Modalities of the pool, in order.
        preset: One of `PRESETS`, or the absolute path of a YAML file. `auto` chooses the glioma preset for
            T1, T1ce, T2 and FLAIR with the glioma labels or no labels; the PET/CT presets for CT and PET with
            or without MR; and generic otherwise.
        labels: Names of the values 1..n; None takes those of the table, of the glioma preset, or `lesion`.

    Raises:
        ValueError: If the preset is unknown, or it or the table does not fit the modalities or labels.
    """
    if not modalities:
        raise ValueError("modalities must name at least one; got none.")
    if preset.lower().endswith(YAML_SUFFIXES):
        return _site_table(Path(os.path.expanduser(preset)), modalities, labels or ())
    if preset not in PRESETS:
        raise ValueError(
            f"preset must be one of {', '.join(PRESETS)}, or the path of a table in a {YAML_SUFFIXES[0]} "
            f"file; got {preset!r}. Set --conf decomposition."
        )
    return Decomposition.from_dict(preset_table(modalities, preset=preset, labels=labels))


def _site_table(path: Path, modalities: tuple[str, ...], labels: tuple[str, ...]) -> Decomposition:
    table = read_table(path, what="decomposition", fields="name, labels, regions and subtasks")
    try:
        decomposition = Decomposition.from_dict(table)
        _check_fit(decomposition, modalities, labels)
    except ValueError as err:
        raise ValueError(f"{path}: {err}") from err
    return decomposition


def _check_fit(decomposition: Decomposition, modalities: tuple[str, ...], labels: tuple[str, ...]) -> None:
    """Refuse a table with modalities that the pool lacks, or with another numbering of the labels."""
    for position, task in enumerate(decomposition.subtasks):
        for role, names in (("primary", task.primary), ("auxiliary", task.auxiliary)):
            if unknown := [name for name in names if name not in modalities]:
                raise ValueError(
                    f"subtasks[{position}].{role} must name modalities of the pool, "
                    f"{', '.join(modalities)}; got {unknown[0]!r}. Spell it like the pool, or leave it out."
                )
    for value, name in enumerate(labels, start=1):
        if decomposition.labels.get(name) != value and value not in decomposition.import_values:
            raise ValueError(
                f"labels must give {name!r} the value {value}, as the studies or --conf labels do; got "
                f"{decomposition.labels}. Name and number them alike."
            )


# Requirement and remedy for each error type of pydantic.
_RULES = {
    "missing": ("be given", "Add it."),
    "tuple_type": ("be a list", "Write it in brackets, such as [1, 2]."),
    "dict_type": ("be a table", "Write it in braces, such as {lesion: 1}."),
    "dataclass_type": ("be a table with the fields {fields}", "See docs/decomposition.md."),
    "unexpected_keyword_argument": ("be one of the fields {fields}", "Remove it, or correct its name."),
    "string_type": ("be text", "Put it in quotes."),
    "invalid_key": ("be a field's name", "Remove it."),
    "int_type": ("be a whole number", "Write it without quotes and point."),
    "int_parsing": ("be for a whole number", "Correct it."),
}


def _sentence(error: Mapping[str, Any]) -> str:
    """Sentence for an error of pydantic: the requirement, the received value and the remedy."""
    kind, place = error["type"], [part for part in error["loc"] if part != "[key]"]
    if kind == "value_error":
        return str(error["ctx"]["error"])
    row = {"regions": Region, "subtasks": Subtask}.get(str(place[0]) if place[1:] else "", Decomposition)
    must, remedy = _RULES.get(kind, (f"be otherwise: {error['msg']}", "Correct it."))
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place).lstrip(".")
    got = "nothing" if kind == "missing" else repr(error["input"])[:80]
    must = must.replace("{fields}", ", ".join(field.name for field in fields(row)))
    return f"{path or 'the table'} must {must}; got {got}. {remedy}"
