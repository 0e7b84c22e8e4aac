"""The expert's table: presets, refusals, and labels there and back."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lib.ciml.decomposition import Decomposition, decomposition_for

GLIOMA = decomposition_for(("T1", "T1ce", "T2", "FLAIR"))
TWO = decomposition_for(("CT", "PET"), labels=("tumour", "node"))


@pytest.mark.parametrize(
    ("modalities", "labels", "name", "leads"),
    [
        (("T1", "T1ce", "T2", "FLAIR"), None, "glioma_mr", ["core", "whole"]),
        (("FLAIR", "T2", "T1ce", "T1"), None, "glioma_mr", ["core", "whole"]),
        (("T1", "T1ce", "T2", "FLAIR"), ("lesion",), "generic", ["T1", "T1ce", "T2", "FLAIR"]),
        (("CT", "PET"), None, "pet_ct", ["uptake", "anatomy"]),
        (("CT", "PET", "MR_T1"), None, "pet_ct_mr", ["CT", "PET", "MR_T1"]),
        (("T1", "FLAIR"), None, "generic", ["T1", "FLAIR"]),
        (("CT", "MR_T1"), None, "generic", ["CT", "MR_T1"]),
        (("ultrasound",), None, "generic", ["ultrasound"]),
    ],
)
def test_auto_finds_the_preset_that_fits(
    modalities: tuple[str, ...], labels: tuple[str, ...] | None, name: str, leads: list[str]
) -> None:
    found = decomposition_for(modalities, labels=labels)
    assert found.name == name
    assert [task.name for task in found.subtasks] == leads
    assert set(found.modalities) == set(modalities)


def test_every_other_modality_is_auxiliary() -> None:
    for task in decomposition_for(("CT", "PET", "MR_T1")).subtasks:
        assert task.primary == (task.name,)
        assert set(task.primary) | set(task.auxiliary) == {"CT", "PET", "MR_T1"}
    uptake, anatomy = decomposition_for(("CT", "PET")).subtasks
    assert (uptake.primary, uptake.auxiliary) == (("PET",), ("CT",))
    assert (anatomy.primary, anatomy.auxiliary) == (("CT",), ("PET",))


def test_the_glioma_table_is_the_expert_prior() -> None:
    core, whole = GLIOMA.subtasks
    assert core.primary == ("T1ce", "T1")
    assert core.regions == ("tumour core", "enhancing tumour")
    assert whole.primary == ("FLAIR", "T2")
    assert whole.regions == ("whole tumour",)
    assert GLIOMA.labels == {"necrotic core": 1, "oedema": 2, "enhancing": 3}


@given(arrays(np.uint8, (2, 3, 4), elements=st.integers(0, 3)))
def test_glioma_labels_survive_as_nested_regions(label: np.ndarray) -> None:
    whole, core, enhancing = GLIOMA.regions_of(label).astype(bool)
    assert (enhancing <= core).all()
    assert (core <= whole).all()
    np.testing.assert_array_equal(whole, label > 0)
    np.testing.assert_array_equal(GLIOMA.labels_of(GLIOMA.regions_of(label)), label)
    np.testing.assert_array_equal(GLIOMA.labels_of(0.9 * GLIOMA.regions_of(label)), label)


@given(arrays(np.uint8, (2, 3, 4), elements=st.integers(0, 2)))
def test_labels_without_nesting_survive_too(label: np.ndarray) -> None:
    np.testing.assert_array_equal(TWO.labels_of(TWO.regions_of(label)), label)


def test_an_inner_region_paints_over_a_more_probable_outer_one() -> None:
    probabilities = np.array([0.9, 0.8, 0.6], dtype=np.float32).reshape(3, 1, 1, 1)
    assert GLIOMA.labels_of(probabilities).item() == 3
    assert GLIOMA.labels_of(probabilities, threshold=0.7).item() == 1
    assert GLIOMA.labels_of(probabilities, threshold=0.85).item() == 2
    assert GLIOMA.labels_of(probabilities, threshold=0.95).item() == 0


@pytest.mark.parametrize(("pair", "winner"), [((0.9, 0.6), 1), ((0.6, 0.9), 2), ((0.4, 0.3), 0)])
def test_of_two_regions_apart_the_more_probable_wins(pair: tuple[float, float], winner: int) -> None:
    assert TWO.labels_of(np.array(pair, dtype=np.float32).reshape(2, 1, 1, 1)).item() == winner


@pytest.mark.parametrize("decomposition", [GLIOMA, TWO])
def test_a_decomposition_survives_json(decomposition: Decomposition) -> None:
    assert Decomposition.from_dict(json.loads(json.dumps(decomposition.to_dict()))) == decomposition


def _table(**changes: Any) -> dict[str, Any]:
    table = {
        "name": "site",
        "labels": {"tumour": 1, "oedema": 2},
        "regions": [{"name": "all", "labels": [1, 2]}, {"name": "inner", "labels": [1]}],
        "subtasks": [{"name": "a", "primary": ["T1"], "auxiliary": ["T2"], "regions": ["all", "inner"]}],
    }
    return {**table, **changes}


def _subtask(**changes: Any) -> list[dict[str, Any]]:
    return [{**_table()["subtasks"][0], **changes}]


def test_a_site_gives_its_own_table() -> None:
    assert Decomposition.from_dict(_table()).modalities == ("T1", "T2")


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"labels": {"tumour": 1, "oedema": 4}}, "labels must have the values 1..n"),
        ({"labels": {}}, "labels must have the values 1..n"),
        ({"labels": {"tumour": "1", "oedema": 2}}, "labels must have the values 1..n"),
        ({"labels": "tumour"}, "labels must be a table"),
        ({"regions": [{"name": "all", "labels": [1, 2]}]}, "regions: 'all' must have exactly one label"),
        ({"regions": [{"name": "inner", "labels": [1]}]}, "regions must cover every label"),
        ({"regions": _table()["regions"][::-1]}, "regions: 'all' must come before 'inner'"),
        ({"regions": [{"name": "all", "labels": [1, 3]}]}, "regions: labels of 'all'"),
        ({"regions": [{"name": "all", "labels": 1}]}, "labels of 'all' must be a list"),
        ({"regions": [{"name": "all"}]}, "regions must have the fields"),
        ({"regions": "all"}, "regions must be a list"),
        ({"subtasks": []}, "subtasks must be named"),
        ({"subtasks": _subtask(primary=[])}, "primary of 'a'"),
        ({"subtasks": _subtask(primary="T1")}, "primary of 'a' must be a list"),
        ({"subtasks": _subtask(auxiliary=["T1"])}, "primary and auxiliary of 'a'"),
        ({"subtasks": _subtask(regions=["other"])}, "regions of 'a' must be among"),
        ({"subtasks": _subtask(regions=["inner"])}, "subtasks must cover every region"),
        ({"colour": "red"}, "decomposition must have the fields"),
    ],
)
def test_a_bad_table_is_refused_by_the_name_of_its_field(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(ValueError, match=field):
        Decomposition.from_dict(_table(**changes))


@pytest.mark.parametrize(
    ("modalities", "arguments", "message"),
    [
        (("CT",), {"preset": "brats"}, "preset must be one of"),
        ((), {}, "modalities must name at least one"),
        (("T1", "T2"), {"preset": "glioma_mr"}, "modalities must be T1, T1ce"),
        (
            ("T1", "T1ce", "T2", "FLAIR"),
            {"preset": "glioma_mr", "labels": ("x",)},
            "labels must be necrotic core",
        ),
        (("CT", "MR_T1"), {"preset": "pet_ct"}, "must be of the kinds CT, PET"),
        (("CT", "PET"), {"labels": ("a", "a")}, "labels must be named, each once"),
    ],
)
def test_a_preset_that_does_not_fit_says_why(
    modalities: tuple[str, ...], arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        decomposition_for(modalities, **arguments)


def test_probabilities_of_another_task_are_refused() -> None:
    with pytest.raises(ValueError, match="one channel for each of the 3 regions; got 2"):
        GLIOMA.labels_of(np.zeros((2, 1, 1, 1)))
