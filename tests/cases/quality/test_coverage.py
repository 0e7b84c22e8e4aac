"""A scan that shows only a part of the body is told once, with its cause and its side."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lib.cases.case import Case
from lib.cases.formats.image import Grid, Volume
from lib.cases.quality.measurements import measure
from lib.cases.quality.rules import apply_rules
from tests.support.checked_samples import MODALITIES, PREPARATION, changed, codes, verdict_on


def padded(part: float, value: float, *, slope: float = 0.0) -> Callable[[Volume], Volume]:
    """A volume whose slices at the head are one value beyond a plane, which slopes by voxels a voxel."""

    def change(volume: Volume) -> Volume:
        d, h, _ = volume.grid.shape
        height = np.arange(d)[:, None, None] + slope * (np.arange(h)[:, None] - h / 2)
        return Volume(np.where(height >= (1 - part) * d, np.float32(value), volume.array), volume.grid)

    return change


def cropped(part: float) -> Callable[[Volume], Volume]:
    """A volume that ends early at the head: its grid ends there too."""

    def change(volume: Volume) -> Volume:
        d, h, w = volume.grid.shape
        kept = round((1 - part) * d)
        return Volume(volume.array[:kept], Grid((kept, h, w), volume.grid.affine))

    return change


def hollow(volume: Volume) -> Volume:
    """A volume with a ball of zeros in its middle, as a skull-stripping that went wrong leaves it."""
    axes = (np.linspace(-1, 1, length) for length in volume.grid.shape)
    radius = np.sqrt(sum(axis**2 for axis in np.meshgrid(*axes, indexing="ij")))
    return Volume(np.where(radius < 0.6, np.float32(0), volume.array), volume.grid)


@pytest.mark.parametrize(
    ("modality", "change"),
    [
        pytest.param("MR_T1", padded(0.3, 0), id="MR"),
        pytest.param("MR_T1", padded(0.3, 0, slope=0.4), id="oblique MR"),
        pytest.param("CT", padded(0.3, -1024), id="CT in air"),
        pytest.param("CT", padded(0.3, 0), id="CT in water"),
        pytest.param("PET", padded(0.3, 0), id="PET"),
        pytest.param("CT", cropped(0.3), id="shorter CT"),
        pytest.param("MR_T1", cropped(0.3), id="shorter reference"),
    ],
)
def test_a_truncated_modality_is_named_once_with_the_side_that_it_lacks(
    modality: str,
    change: Callable[[Volume], Volume],
    cases: dict[str, Case],
    measured: dict[str, Any],
    tmp_path: Path,
) -> None:
    verdict = verdict_on(changed(cases["STS_042"], modality, change, tmp_path), measured)
    assert [(found.code, found.modalities[0]) for found in verdict.findings if found.code != "grid"] == [
        ("truncated", modality)
    ]
    (found,) = (found for found in verdict.findings if found.code == "truncated")
    assert found.sentence.startswith(f"{modality} covers only part of the body that ")
    assert "The rest lies towards the head." in found.sentence
    assert found.value == pytest.approx(0.7, abs=0.1)


@pytest.mark.parametrize("modality", MODALITIES)
def test_a_hole_in_an_image_is_no_end_of_its_scan(
    modality: str, cases: dict[str, Case], measured: dict[str, Any], tmp_path: Path
) -> None:
    verdict = verdict_on(changed(cases["STS_042"], modality, hollow, tmp_path), measured)
    assert "truncated" not in codes(verdict)


def test_both_ends_that_were_padded_are_found_and_no_side_is_told(measured: dict[str, Any]) -> None:
    facts = measured["STS_047"]["modalities"]["MR_T1"]  # as it was published: 8 and 4 of 45 slices of 4 mm
    assert facts["covered"] == pytest.approx(0.74, abs=0.02)
    (found,) = apply_rules(measured, MODALITIES)["STS_047"].findings
    assert (found.code, found.severity) == ("truncated", "warned")
    assert "towards" not in found.sentence


def test_what_a_displaced_scan_lacks_of_the_body_is_not_mistaken_for_its_end(
    cases: dict[str, Case], measured: dict[str, Any], tmp_path: Path
) -> None:
    def rolled(volume: Volume) -> Volume:
        return Volume(np.roll(volume.array, 8, 1), volume.grid)

    verdict = verdict_on(changed(cases["STS_042"], "CT", rolled, tmp_path), measured)
    assert "displaced" in codes(verdict)
    assert "truncated" not in codes(verdict)


def test_a_part_that_is_covered_in_no_case_of_the_pool_is_its_protocol(measured: dict[str, Any]) -> None:
    facts = deepcopy(measured)
    for case in facts.values():
        case["modalities"]["PET"]["covered"] = 0.5
    assert not any(
        found.code == "truncated" and found.modalities[0] == "PET"
        for verdict in apply_rules(facts, MODALITIES).values()
        for found in verdict.findings
    )


def test_a_case_alone_is_judged_without_a_pool(cases: dict[str, Case], tmp_path: Path) -> None:
    case = changed(cases["STS_042"], "PET", padded(0.3, 0), tmp_path)
    assert codes(apply_rules({case.id: measure(case, PREPARATION)}, MODALITIES)[case.id]) == {"truncated"}


@pytest.mark.parametrize("what", ["dice", "shared"])
def test_a_modality_that_stands_out_in_all_its_pairs_is_named_once(
    what: str, measured: dict[str, Any]
) -> None:
    facts = deepcopy(measured)
    for pair in facts["STS_042"]["pairs"]:
        if "PET" in pair["modalities"]:
            pair[what] = 0.5
    (found,) = apply_rules(facts, MODALITIES)["STS_042"].findings
    assert found.modalities == ("PET", "CT", "MR_T1")
    assert found.sentence.startswith("PET ")


def test_pairs_without_a_common_modality_are_told_each(measured: dict[str, Any]) -> None:
    facts = deepcopy(measured)
    for pair in facts["STS_042"]["pairs"]:
        pair["dice"] = 0.5
    assert len(apply_rules(facts, MODALITIES)["STS_042"].findings) == 3
