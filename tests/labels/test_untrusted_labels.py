"""Labels that clients send: what is damaged or made to harm is refused, and what is stored stays."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from lib.cases.formats.image import read_grid
from lib.runtime.errors import UserError
from lib.server.datastore import CaseDatastore
from lib.server.errors import ClientError
from tests.support.images import write_image
from tests.support.memory import forget_peak, peak_kb
from tests.support.mutants import NRRD, Mutant, Original, bomb, mutants, originals
from tests.support.pools import open_datastore

AFFINE = np.array([[-2.0, 0, 0, -10], [0, -2, 0, 5], [0, 0, 2, 3], [0, 0, 0, 1]])  # of the originals
SECRET = "the content of another file, 3141592653"


@pytest.fixture
def datastore(tmp_path: Path) -> CaseDatastore:
    """A case on the grid of the mutants' originals, with a label."""
    studies = tmp_path / "studies"
    (studies / "p1").mkdir(parents=True)
    nib.save(nib.Nifti1Image(np.ones((8, 7, 6), np.int16), AFFINE), studies / "p1" / "CT.nii.gz")
    datastore = open_datastore(studies, labels=("lesion", "rim"))  # the values of the mutants' originals
    send(datastore, tmp_path, sound())
    return datastore


def sound(name: str = "gzip.nrrd") -> Original:
    """A label map of that case."""
    return next(each for each in originals(label=True) if each.name == name)


def send(datastore: CaseDatastore, folder: Path, label: Original | Mutant) -> None:
    file = folder / f"tmp8d2k1x{label.name}"  # as the server names what it receives
    file.write_bytes(label.data)
    datastore.save_label("p1", str(file), "final", {})


def everything_kept(datastore: CaseDatastore) -> dict[str, bytes]:
    """All labels, byte for byte."""
    files = (datastore.workspace.folders.studies / "labels").rglob("*")
    return {str(path): path.read_bytes() for path in files if path.is_file()}


def refused(datastore: CaseDatastore, folder: Path, name: str, data: bytes) -> str:
    """The sentence that a label is refused with; nothing may change."""
    before = everything_kept(datastore)
    with pytest.raises(ClientError) as caught:
        send(datastore, folder, replace(sound(name), data=data))
    assert everything_kept(datastore) == before
    assert str(folder) not in caught.value.detail
    assert "tmp8d2k1x" not in caught.value.detail
    return str(caught.value.detail)


@pytest.mark.parametrize("name", [each.name for each in originals(label=True)])
def test_sound_labels_of_every_format_are_stored_as_they_came(
    datastore: CaseDatastore, tmp_path: Path, name: str
) -> None:
    send(datastore, tmp_path, sound(name))
    assert Path(datastore.get_label_uri("p1", "final")).read_bytes() == sound(name).data


@pytest.mark.parametrize("field", ["data file: {}", "datafile: {}", "Data File: {}", "data file: {} 1 1 1"])
@pytest.mark.parametrize("encoding", ["raw", "gzip", "ascii", "txt", "hex", "bzip2"])
def test_no_label_makes_the_server_read_another_file(
    datastore: CaseDatastore, tmp_path: Path, field: str, encoding: str
) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text(SECRET)
    header = NRRD.format(type="uchar", encoding=encoding).replace("note:=", f"{field.format(secret)}\nnote:=")
    sentence = refused(datastore, tmp_path, "raw.nrrd", header.encode())
    assert "must hold its voxels right after its header" in sentence
    assert not any(part in sentence for part in ("3141", str(len(SECRET)), str(secret)))


@pytest.mark.parametrize(
    "line", ["line skip: 999999999999999", "byte skip: 999999999999999", "byte skip: -1"]
)
def test_no_label_makes_the_server_wait(datastore: CaseDatastore, tmp_path: Path, line: str) -> None:
    header = NRRD.format(type="uchar", encoding="raw").replace("note:=", f"{line}\nnote:=")
    start = time.monotonic()
    assert "right after its header" in refused(datastore, tmp_path, "raw.nrrd", header.encode())
    assert time.process_time() - start < 5.0


@pytest.mark.parametrize("value", [-1.0, 0.5, 65_536.0, 1e9, 1e38, np.nan, np.inf])
def test_a_value_that_numbers_no_structure_is_refused_with_how_many_have_it(
    datastore: CaseDatastore, tmp_path: Path, value: float
) -> None:
    image = nib.Nifti1Image(np.full((8, 7, 6), 3, np.float32), np.eye(4))
    image.dataobj[1, 2, :2] = value
    sentence = refused(datastore, tmp_path, "b0.nii", image.to_bytes())
    assert "a label must hold whole numbers from 0 to 65,535; 2 of 336 voxels hold others" in sentence


def test_the_largest_number_of_a_structure_is_stored_where_it_has_a_name(
    datastore: CaseDatastore, tmp_path: Path
) -> None:
    affine = nib.load(datastore.workspace.pool.by_id["p1"].modalities["CT"].path).affine
    file, image = tmp_path / "label.nii", nib.Nifti1Image(np.full((8, 7, 6), 65_535, np.int32), affine)
    assert "got [65535]" in refused(datastore, tmp_path, "b0.nii", image.to_bytes())
    file.write_bytes(image.to_bytes())
    segments = [{"name": "rim", "idx": 65_535}]
    datastore.save_label("p1", str(file), "final", {"label_info": segments})
    assert (datastore.labels.read(datastore.workspace.pool.by_id["p1"]).array == 2).all()


@pytest.mark.parametrize("name", ["gzip.nrrd", "b0.nii", "b0.nii.gz"])
def test_a_label_of_0_bytes_is_told_so(datastore: CaseDatastore, tmp_path: Path, name: str) -> None:
    file, before = tmp_path / name, everything_kept(datastore)
    file.write_bytes(b"")
    with pytest.raises(ClientError, match="has 0 bytes"):
        datastore.save_label("p1", str(file), "final", {})
    assert everything_kept(datastore) == before


@pytest.mark.parametrize("index", [-1, 65_536, 10**30, True])
def test_a_segment_whose_number_no_label_holds_is_refused(
    datastore: CaseDatastore, tmp_path: Path, index: int
) -> None:
    file = tmp_path / "label.nrrd"
    file.write_bytes(sound().data)
    segments = [{"name": "lesion", "idx": 1}, {"name": "other", "idx": index}]
    with pytest.raises(ClientError, match="with idx from 0 to 65,535"):
        datastore.save_label("p1", str(file), "final", {"label_info": segments})


def test_a_label_beside_the_images_that_holds_no_whole_numbers_is_not_rounded(tmp_path: Path) -> None:
    write_image(tmp_path / "p1" / "CT.nii.gz")
    image = nib.Nifti1Image(np.full((6, 7, 8), 0.7, np.float32), np.eye(4))
    nib.save(image, tmp_path / "p1" / "GTV.nii.gz")
    datastore = open_datastore(tmp_path)
    with pytest.raises(UserError, match=r"GTV\.nii\.gz must hold whole numbers"):
        datastore.labels.read(datastore.workspace.pool.by_id["p1"])


def test_a_label_on_a_finer_grid_lies_on_its_case_where_it_was_drawn(
    datastore: CaseDatastore, tmp_path: Path
) -> None:
    case = datastore.workspace.pool.by_id["p1"]
    affine = read_grid(case.modalities["CT"]).affine @ np.diag([0.5, 0.5, 0.5, 1.0])
    array = np.zeros((32, 28, 24), np.uint8)
    array[20:30, 16:24, 14:20] = 1  # beyond the image, which ends at 16, 14, 12
    image = nib.Nifti1Image(array, affine)
    assert "lies outside every volume" in refused(datastore, tmp_path, "b0.nii", image.to_bytes())
    array[8:12, 8:12, 8:12] = 1
    image = nib.Nifti1Image(array, affine)
    assert "12% of this one lies inside a volume" in refused(datastore, tmp_path, "b0.nii", image.to_bytes())
    array[20:30] = 0
    send(datastore, tmp_path, replace(sound("b0.nii"), data=nib.Nifti1Image(array, affine).to_bytes()))


@pytest.mark.parametrize("name", ["a0.nii.gz", "gzip.nrrd"])
def test_a_small_label_that_unpacks_to_gigabytes_costs_nothing(
    datastore: CaseDatastore, tmp_path: Path, name: str
) -> None:
    label = sound(name)
    head = label.plain.partition(b"\n\n")[0] + b"\n\n" if name.endswith("nrrd") else b""
    data = head + bomb(4000) if head else bomb(4000, label.plain)
    before, start = forget_peak(), time.process_time()
    assert "must be complete" in refused(datastore, tmp_path, name, data)
    assert (peak_kb() - before) / 1024 < 30
    assert time.process_time() - start < 5.0


def test_what_300_damaged_labels_leave_is_what_was_there(datastore: CaseDatastore, tmp_path: Path) -> None:
    before, stored = everything_kept(datastore), 0
    for number, mutant in enumerate(mutants(320, seed=2, label=True)):
        start = time.monotonic()
        try:
            send(datastore, tmp_path, mutant)
        except ClientError as err:
            sentence = str(err.detail)
            unchanged = everything_kept(datastore) == before
            assert (unchanged, "tmp8d2k1x" in sentence) == (True, False), (number, mutant.kind)
        else:  # a flipped bit may make another label, which must be whole
            stored += 1
            assert Path(datastore.get_label_uri("p1", "final")).read_bytes() == mutant.data
            send(datastore, tmp_path, sound())
            before = everything_kept(datastore)
        assert time.monotonic() - start < 10.0
        if number % 40 == 0:
            send(datastore, tmp_path, sound("a0.nii.gz"))
            send(datastore, tmp_path, sound())
            before = everything_kept(datastore)
    assert stored < 100
    assert os.listdir(datastore.workspace.folders.studies / "labels" / "final") == ["p1"]
