"""What the values of label files from elsewhere mean: known from names, or refused, never guessed."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import nrrd
import numpy as np
import pytest

from lib.ciml.decomposition.table import Decomposition, decomposition_for
from lib.labels.meaning import LabelMeanings
from lib.runtime.errors import UserError
from lib.server.datastore import CaseDatastore
from lib.server.errors import ClientError
from tests.support.images import write_body, write_image
from tests.support.pools import check_here, open_datastore

BRATS = ("T1", "T1ce", "T2", "FLAIR")
GLIOMA = LabelMeanings(decomposition_for(BRATS))


def table_of(*names: str) -> Decomposition:
    """Table of structures with the values 1..n."""
    return decomposition_for(BRATS, preset="generic", labels=names)


OWN = LabelMeanings(table_of("NETC", "SNFH", "ET", "RC"), own_names=True)
PED = LabelMeanings(table_of("ET", "NET", "CC", "ED"), own_names=True)


@pytest.mark.parametrize(
    ("case", "values", "ours"),
    [
        ("BraTS20_Training_001", [1, 2, 4], [1, 2, 3]),
        ("BraTS2021_00002", [1, 4], [1, 3]),
        ("Brats18_CBICA_AAB_1", [1, 2, 4], [1, 2, 3]),
        ("BraTS-GLI-00001-000", [1, 2, 3], [1, 2, 3]),
        ("BraTS-GLI-00001", [1, 2, 3], [1, 2, 3]),
        ("BraTS-GLI-02001-100", [1, 2, 3], [1, 2, 3]),
        ("BraTS-SSA-00002-000", [2, 3], [2, 3]),
        ("BraTS-MET-00002-000", [1, 3], [1, 3]),
        ("BraTS-MEN-00004-000", [1, 2, 3], [1, 2, 3]),
        ("BraTS-PED-00001-000", [4], [2]),
        ("BRATS_HG0001", [1, 2, 4], [1, 2, 3]),
        ("p1", [1, 2, 4], [1, 2, 3]),
        ("p1", [1, 2, 3], [1, 2, 3]),
    ],
)
def test_a_value_means_the_structure_of_the_edition_that_its_case_is_named_for(
    case: str, values: list[int], ours: list[int]
) -> None:
    assert GLIOMA.of(case, [0, *values]) == dict(zip(values, ours, strict=True))


@pytest.mark.parametrize(
    ("case", "values", "sentence"),
    [
        ("BraTS-GLI-02001-101", [1, 2, 3, 4], "4 means resection cavity in BraTS glioma after treatment"),
        ("BraTS-GLI-02001-100", [4], "4 means resection cavity"),
        ("brats-met-00001-000", [1, 4], "4 means resection cavity in BraTS metastases"),
        ("BraTS-GLI-00001-000", [1, 2, 3, 4], "must fit one of the numberings that its case is named for"),
        ("BraTS-GLI-00001-000", [1, 2, 4], "must fit one of the numberings that its case is named for"),
        ("BraTS-GLI-00001", [4], "4 means resection cavity"),
        ("BraTS-PED-00001-000", [1, 2, 3, 4], "means non-enhancing tumour in BraTS paediatrics since 2024"),
        ("BraTS-PED-00001-000", [1, 4], None),
        ("BraTS-PED-00001-000", [1, 2, 3], "must fit one alone of the numberings"),
        ("BraTS-MEN-RT-0001-1", [1], "1 means gross tumour volume"),
        ("BraTS-MEN-00004-000", [4], "must fit one of the numberings"),
        ("BraTS20_Training_001", [1, 2, 3], "4 enhancing); got [1, 2, 3]"),
        ("Brats16_1", [3], "3 means non-enhancing tumour"),
        ("p1", [1, 2, 3, 4], "must follow one numbering; it holds 4"),
        ("p1", [1, 5], "got [5]. Name them with --conf labels"),
    ],
)
def test_a_value_that_may_mean_another_structure_is_refused_by_name(
    case: str, values: list[int], sentence: str | None
) -> None:
    if sentence is None:  # both structures are known in the only edition that has a 4
        assert GLIOMA.of(case, values) == {1: 3, 4: 2}
        return
    with pytest.raises(UserError) as caught:
        GLIOMA.of(case, values)
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    ("meanings", "case", "values"),
    [
        (OWN, "BraTS-GLI-02001-100", {1: 1, 2: 2, 3: 3, 4: 4}),
        (OWN, "BraTS20_Training_001", {1: 1, 2: 2, 4: 3}),
        (PED, "BraTS-PED-00001-000", {1: 1, 2: 2, 3: 3, 4: 4}),
        (PED, "BraTS-GLI-00001-000", {2: 4, 3: 1}),
        (LabelMeanings(table_of("whole tumour"), own_names=True), "BraTS20_Training_001", {1: 1}),
        (
            LabelMeanings(table_of("oedema", "core", "other"), named=True),
            "BraTS20_Training_001",
            {1: 1, 3: 3},
        ),
        (LabelMeanings(table_of("lesion")), "BraTS-MEN-RT-0001-1", {1: 1}),
    ],
)
def test_the_names_of_the_site_and_of_the_studies_decide(
    meanings: LabelMeanings, case: str, values: dict[int, int]
) -> None:
    assert meanings.of(case, list(values)) == values


def test_a_core_is_not_taken_for_the_whole_lesion_of_a_pool_without_names() -> None:
    with pytest.raises(UserError, match="must mean one of lesion; 1 means necrotic core"):
        LabelMeanings(table_of("lesion")).of("BraTS-GLI-00001-000", [1])


def label(*values: int) -> dict[str, object]:
    return {"values": list(values), "segments": [], "ignored": None}


def test_in_a_pool_with_3_a_4_of_no_known_edition_is_refused_with_both_cases() -> None:
    labels = {"a": label(1, 2, 3), "b": label(1, 2, 4), "c": label(1), "BraTS20_Training_001": label(4)}
    assert GLIOMA.refusals(labels).keys() == {"b"}
    assert "this one holds 4, that of a 3" in GLIOMA.refusals(labels)["b"]
    del labels["a"]
    assert GLIOMA.refusals(labels) == {}
    labels["BraTS-GLI-00001-000"] = label(1, 3)
    assert GLIOMA.refusals(labels).keys() == {"b"}


@pytest.mark.parametrize(
    ("segments", "values", "expected"),
    [
        ([("Lesion", 2)], [2], {2: 1}),
        ([("node", 1), ("lesion", 2)], [1, 2], {1: 2, 2: 1}),
        ([("kidney", 3), ("lesion", 1)], [1], {1: 1}),
        ([("kidney", 1), ("lesion", 2)], [1, 2], "must be named lesion or node; got kidney"),
        ([("lesion", 1)], [1, 2], r"one segment for each value; \[2\] has none or several"),
        ([("lesion", 1), ("node", 1)], [1], r"\[1\] has none or several"),
    ],
)
def test_the_names_of_segments_decide_and_a_foreign_one_is_refused(
    segments: list[tuple[str, int]], values: list[int], expected: dict[int, int] | str
) -> None:
    meanings = LabelMeanings(table_of("lesion", "node"))
    if isinstance(expected, dict):
        assert meanings.of("p1", values, segments) == expected
        return
    with pytest.raises(UserError, match=expected):
        meanings.of("p1", values, segments)


@pytest.mark.parametrize(
    ("case", "values"),
    [
        ("BraTS20_Training_001", {1: 1, 2: 2, 3: 4}),
        ("BraTS-GLI-00001-000", {1: 1, 2: 2, 3: 3}),
        ("BraTS-GLI-00001", {1: 1, 2: 2, 3: 3}),
        ("BraTS-GLI-02001-101", {1: 1, 2: 2, 3: 3}),
        ("p1", None),
    ],
)
def test_a_value_is_written_as_the_edition_of_its_case_numbers_it(
    case: str, values: dict[int, int] | None
) -> None:
    assert GLIOMA.exports(case) == values


def test_a_table_without_a_structure_of_brats_exports_its_own_values() -> None:
    assert LabelMeanings(table_of("lesion")).exports("BraTS-GLI-00001-000") is None


def test_no_value_is_written_for_an_edition_that_is_not_known_or_lacks_the_structure() -> None:
    for case in ("BraTS-PED-00001-000", "BraTS-MEN-RT-0001-1"):
        with pytest.raises(UserError, match="one numbering that has every structure"):
            GLIOMA.exports(case)


def glioma_pool(folder: Path, id: str, values: list[int]) -> CaseDatastore:
    """One case of four sequences named as BraTS since 2023, with a slab of each value."""
    for seed, name in enumerate(("t1n", "t1c", "t2w", "t2f")):
        image = write_body(folder / id / f"{id}-{name}.nii.gz", seed=seed)
    array = np.zeros((24, 20, 16), dtype=np.uint8)
    for place, value in enumerate(values):
        array[10 + place, 5:9, 5:9] = value
    nib.save(nib.Nifti1Image(array, nib.load(image).affine), folder / id / f"{id}-seg.nii.gz")
    return open_datastore(folder)


def test_a_cavity_is_held_back_named_and_neither_learned_from_nor_served(tmp_path: Path) -> None:
    datastore = glioma_pool(tmp_path, "BraTS-GLI-02001-100", [1, 2, 3, 4])
    workspace = datastore.workspace
    check_here(workspace)
    (finding,) = workspace.verdicts.by_case["BraTS-GLI-02001-100"].findings
    assert finding.code == "label_unusable"
    assert "4 means resection cavity" in finding.sentence
    assert [case.id for case in workspace.verdicts.served] == ["BraTS-GLI-02001-100"]
    assert datastore.labelled() == set()
    assert datastore.get_unlabeled_images() == ["BraTS-GLI-02001-100"]


def test_a_paediatric_label_is_renumbered_for_viewers_and_training_alike(tmp_path: Path) -> None:
    datastore = glioma_pool(tmp_path, "BraTS-PED-00001-000", [1, 4])
    served = np.asarray(nib.load(datastore.get_label_uri("BraTS-PED-00001-000", "final")).dataobj)
    assert served[9:13, 6, 6].tolist() == [0, 3, 2, 0]
    check_here(datastore.workspace)
    assert datastore.labelled() == {"BraTS-PED-00001-000"}


def test_a_client_s_label_keeps_this_app_s_values_whatever_the_case_is_named(tmp_path: Path) -> None:
    datastore = glioma_pool(tmp_path, "BraTS-PED-00001-000", [1, 4])
    case = datastore.workspace.pool.by_id["BraTS-PED-00001-000"]
    image = nib.load(case.label)
    for values, read in (([1, 2, 3], [1, 2, 3]), ([1, 2, 4], None)):
        array = np.zeros((24, 20, 16), dtype=np.uint8)
        array[:3] = np.array(values)[:, None, None]
        nib.save(nib.Nifti1Image(array, image.affine), tmp_path / "sent.nii.gz")
        if read is None:
            with pytest.raises(ClientError, match="a value of a label must mean one of"):
                datastore.save_label(case.id, str(tmp_path / "sent.nii.gz"), "final", {})
        else:
            datastore.save_label(case.id, str(tmp_path / "sent.nii.gz"), "final", {})
            assert datastore.labels.read(case).array[0, 0, :3].tolist() == read


def write_segmentation(path: Path, names: dict[str, int], values: list[int], **header: object) -> None:
    """A Slicer segmentation on the grid of `write_image`."""
    array = np.zeros((6, 7, 8), dtype=np.uint8)
    for place, value in enumerate(values):
        array[place] = value
    keys = {}
    for number, (name, value) in enumerate(names.items()):
        keys |= {f"Segment{number}_Name": name, f"Segment{number}_LabelValue": str(value)}
    usual = {
        "space": "right-anterior-superior",
        "space directions": np.diag([2.0, 2.0, 2.0]),
        "space origin": np.array([-10.0, 5.0, 3.0]),
        "kinds": ["domain"] * 3,
    }
    nrrd.write(str(path), array, {**usual, **header, **keys})


@pytest.mark.parametrize("file", ["Segmentation.seg.nrrd", "seg.nrrd", "p1_GTV.seg.nrrd"])
def test_segments_beside_the_images_are_read_by_their_names(tmp_path: Path, file: str) -> None:
    write_image(tmp_path / "p1" / "CT.nii.gz")
    write_segmentation(tmp_path / "p1" / file, {"node": 1, "lesion": 2}, [1, 2])
    datastore = open_datastore(tmp_path, labels=("lesion", "node"))
    array = datastore.labels.read(datastore.workspace.pool.by_id["p1"]).array
    assert array[0, 0, :3].tolist() == [2, 1, 0]
    served = np.asarray(nib.load(datastore.get_label_uri("p1", "final")).dataobj)
    assert served[:3, 0, 0].tolist() == [2, 1, 0]


def test_overlapping_segments_in_layers_are_refused_by_name(tmp_path: Path) -> None:
    write_image(tmp_path / "p1" / "CT.nii.gz")
    path = tmp_path / "p1" / "seg.nrrd"
    write_segmentation(path, {"ribs": 1, "lung": 1}, [1])
    layers = np.ones((2, 6, 7, 8), dtype=np.uint8)
    header = {
        **{"space": "right-anterior-superior", "kinds": ["list", "domain", "domain", "domain"]},
        "space directions": [[np.nan] * 3, [2.0, 0, 0], [0, 2.0, 0], [0, 0, 2.0]],
        "space origin": np.array([-10.0, 5.0, 3.0]),
        **{"Segment0_Name": "ribs", "Segment0_LabelValue": "1", "Segment0_Layer": "0"},
        **{"Segment1_Name": "lung", "Segment1_LabelValue": "1", "Segment1_Layer": "1"},
    }
    nrrd.write(str(path), layers, header)
    workspace = open_datastore(tmp_path).workspace
    check_here(workspace)
    sentences = " ".join(workspace.verdicts.findings("p1"))
    assert "must have its segments in one layer; some of ribs, lung overlap" in sentences
    assert workspace.labels.labelled() == set()
