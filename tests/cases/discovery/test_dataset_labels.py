"""What dataset.json says of label values: read right or refused by name, never dropped."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from lib.cases.discovery.dataset_labels import DatasetLabels
from lib.cases.formats.voxels import IGNORED
from lib.pipeline.settings import AppSettings
from lib.pipeline.workspace import Workspace
from lib.runtime.errors import UserError
from tests.support.images import write_body
from tests.support.pools import check_here


def read(folder: Path, labels: object) -> DatasetLabels:
    (folder / "dataset.json").write_text(json.dumps({"channel_names": {"0": "T1"}, "labels": labels}))
    return DatasetLabels.read(folder)


@pytest.mark.parametrize(
    ("labels", "names", "ignored"),
    [
        ({"background": 0, "tumour": 1, "node": 2}, ("tumour", "node"), None),
        ({"0": "background", "2": "node", "1": "tumour"}, ("tumour", "node"), None),
        ({"background": 0, "tumour": "1"}, ("tumour",), None),
        ({"background": 0, "tumour": 1, "ignore": 2}, ("tumour",), 2),
        ({"background": 0, "tumour": 1, "Ignore": 2}, ("tumour",), 2),
        ({"background": 0}, (), None),
        ({}, (), None),
        (None, (), None),
    ],
)
def test_names_of_values_without_a_gap_are_read(
    tmp_path: Path, labels: object, names: tuple[str, ...], ignored: int | None
) -> None:
    assert read(tmp_path, labels) == DatasetLabels(names, ignored)


@pytest.mark.parametrize(
    ("labels", "sentence"),
    [
        ({"background": 0, "whole": [1, 2, 3], "core": [2, 3], "ET": 3}, "regions of several values"),
        ({"background": 0, "whole": [1]}, "regions of several values"),
        ({"background": 0, "edema": 1, "NCR": 2, "ET": 4}, "without a gap"),
        ({"background": 0, "a": 1, "b": 1}, "each once"),
        ({"background": 0, "ignore": 1, "a": 2}, "ignore the highest"),
        ({"background": 0, "a": "first"}, "must be whole numbers; that of 'first' is none"),
        ({"background": 0, "a": 1.5}, "must be whole numbers; that of 'a' is none"),
        (["background", "a"], "must be a table"),
    ],
)
def test_labels_that_cannot_be_numbered_are_refused_unless_the_site_names_them(
    tmp_path: Path, labels: object, sentence: str
) -> None:
    assert sentence in read(tmp_path, labels).unclear
    write_body(tmp_path / "imagesTr" / "a_0000.nii.gz")
    with pytest.raises(UserError, match="--conf labels"):
        Workspace(tmp_path, AppSettings()).validate()
    named = Workspace(tmp_path, AppSettings(labels=("edema", "core", "other")))
    assert list(named.decomposition.labels) == ["edema", "core", "other"]


def test_voxels_that_nobody_annotated_are_neither_shown_nor_judged_but_known_to_training(
    tmp_path: Path,
) -> None:
    read(tmp_path, {"background": 0, "tumour": 1, "ignore": 2})
    image = nib.load(write_body(tmp_path / "imagesTr" / "a_0000.nii.gz"))
    array = np.full((24, 20, 16), 2, dtype=np.uint8)
    array[6:12, 6:12, 6:9] = 1
    array[6:12, 6:12, 9:10] = 0
    (tmp_path / "labelsTr").mkdir()
    nib.save(nib.Nifti1Image(array, image.affine), tmp_path / "labelsTr" / "a.nii.gz")
    workspace = Workspace(tmp_path, AppSettings())
    assert check_here(workspace)["a"].status == "ok"
    (case,) = workspace.pool.cases
    assert dict(workspace.decomposition.labels) == {"tumour": 1}
    assert np.unique(workspace.labels.read(case).array).tolist() == [0, 1]
    learned = workspace.labels.read(case, with_ignored=True).array
    np.testing.assert_array_equal(learned == IGNORED, array.T == 2)
    np.testing.assert_array_equal(learned == 1, array.T == 1)
