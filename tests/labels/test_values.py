from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from lib.cases.case import Source
from lib.cases.formats.image import read_label_map
from lib.ciml.decomposition.table import decomposition_for
from lib.labels.meaning import LabelMeanings, renumbered
from tests.support.images import write_image
from tests.support.pools import open_datastore

GLIOMA = decomposition_for(("T1", "T1ce", "T2", "FLAIR"))


def write_label(path: Path, values: list[int]) -> Path:
    """A label file with one slab of each value on the grid of `write_image`."""
    array = np.zeros((6, 7, 8), dtype=np.uint8)
    for place, value in enumerate(values):
        array[place] = value
    affine = nib.load(write_image(path.parent / "t1.nii.gz")).affine
    nib.save(nib.Nifti1Image(array, affine), path)
    return path


@pytest.mark.parametrize("values", [[1, 2, 4], [1, 2, 3]], ids=["before 2023", "since 2023"])
def test_brats_labels_of_either_numbering_become_the_same(tmp_path: Path, values: list[int]) -> None:
    volume = read_label_map(Source(write_label(tmp_path / "seg.nii.gz", values)))
    label = renumbered(volume, LabelMeanings(GLIOMA).of("p1", values))
    first = label.array[0, 0, :4]  # (D, H, W): the file's first axis is the last here
    assert (first.tolist(), label.array.dtype) == ([1, 2, 3, 0], np.uint8)
    assert label.grid == volume.grid


@pytest.mark.parametrize(
    ("name", "values"), [("BraTS20_Training_001_{}", [1, 2, 4]), ("BraTS-GLI-00001-000-{}", [1, 2, 3])]
)
def test_a_brats_pool_of_either_age_is_read_with_contiguous_labels(
    tmp_path: Path, name: str, values: list[int]
) -> None:
    id = name[:-3]
    for modality in ("t1", "t1ce", "t2", "flair") if "Training" in name else ("t1n", "t1c", "t2w", "t2f"):
        write_image(tmp_path / id / f"{name.format(modality)}.nii.gz")
    write_label(tmp_path / "seg.nii.gz", values).rename(tmp_path / id / f"{name.format('seg')}.nii.gz")
    (tmp_path / "t1.nii.gz").unlink()
    datastore = open_datastore(tmp_path)
    assert datastore.workspace.decomposition == GLIOMA
    label = datastore.labels.read(datastore.workspace.pool.by_id[id])
    assert sorted(np.unique(label.array)) == [0, 1, 2, 3]
