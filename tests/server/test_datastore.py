import json
import os
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from lib.cases.formats.image import read_grid
from lib.server.datastore import CaseDatastore
from lib.server.errors import ClientError
from tests.support.images import write_image
from tests.support.pools import label_for, open_datastore

Samples = Callable[..., Path]


def test_the_ids_of_images_are_cases(samples: Samples) -> None:
    assert open_datastore(samples("STS_002", "STS_008")).list_images() == ["STS_002", "STS_008"]


def test_a_case_downloads_as_its_reference_and_a_sibling_as_itself_under_unique_names(
    samples: Samples,
) -> None:
    datastore = open_datastore(samples("STS_002", "STS_008"))
    names = {
        "STS_002": "STS_002_MR_T1.nii.gz",
        "STS_002_CT": "STS_002_CT.nii.gz",
        "STS_008": "STS_008_MR_T1.nii.gz",
        "STS_008/PET": "STS_008_PET.nii.gz",
    }
    for image, name in names.items():
        path = Path(datastore.get_image_uri(image))
        assert path.name == name == datastore.get_image_info(image)["name"]
        assert sitk.ReadImage(str(path)).GetDimension() == 3


def test_a_link_that_another_process_made_is_kept(samples: Samples) -> None:
    studies = samples("STS_002")
    first = open_datastore(studies).get_image_uri("STS_002")
    before = os.lstat(first).st_ino
    assert open_datastore(studies).get_image_uri("STS_002") == first
    assert os.lstat(first).st_ino == before


@pytest.mark.parametrize(("first", "second"), [("CT.nii", "CT.nii.gz"), ("CT.nii.gz", "CT.nii")])
def test_a_viewer_gets_the_voxels_of_a_file_that_was_packed_or_unpacked_since(
    tmp_path: Path, first: str, second: str
) -> None:
    studies = tmp_path / "studies"
    old = write_image(studies / "p1" / first, seed=1)
    open_datastore(studies).get_image_uri("p1_CT")
    old.rename(tmp_path / first)
    new = write_image(tmp_path / second, seed=2)
    old.with_name(second).write_bytes(new.read_bytes())
    path = Path(open_datastore(studies).get_image_uri("p1_CT"))
    old.write_bytes((tmp_path / first).read_bytes())  # a copy that came back; the link to it must be gone
    seen = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    np.testing.assert_array_equal(seen, np.asarray(nib.load(new).dataobj).T)


def test_an_mha_downloads_and_is_a_label_as_any_other_format(tmp_path: Path) -> None:
    studies = tmp_path / "studies"
    image = sitk.GetImageFromArray(np.arange(336, dtype=np.int16).reshape(6, 7, 8))
    (studies / "p1").mkdir(parents=True)
    for path in (studies / "p1" / "CT.mha", tmp_path / "label.mha"):
        sitk.WriteImage(image > 300 if path.stem == "label" else image, str(path), useCompression=True)
    datastore = open_datastore(studies)
    path = Path(datastore.get_image_uri("p1"))
    assert (path.name, datastore.get_image_info("p1")["name"]) == ("p1_CT.mha", "p1_CT.mha")
    datastore.save_label("p1", str(tmp_path / "label.mha"), "final", {})
    saved = Path(datastore.get_label_uri("p1", "final"))
    assert saved.read_bytes() == (tmp_path / "label.mha").read_bytes()
    assert datastore.labels.read(datastore.workspace.pool.by_id["p1"]).array.sum() == 35


def test_a_label_saved_for_a_sibling_is_the_cases_label(samples: Samples, tmp_path: Path) -> None:
    datastore = open_datastore(samples("STS_002", "STS_008", labels=False))
    file = label_for(datastore.workspace, "STS_002", tmp_path / "label.nii.gz")
    assert datastore.save_label("STS_002_CT", str(file), "final", {"client_id": "a"}) == "STS_002"
    assert datastore.get_labeled_images() == ["STS_002"]
    assert datastore.get_unlabeled_images() == ["STS_008"]
    assert Path(datastore.get_label_uri("STS_002_PET", "final")).read_bytes() == file.read_bytes()
    info = datastore.get_label_info("STS_002", "final")
    saved = datetime.fromisoformat(info.pop("written"))
    assert timedelta(0) <= datetime.now(UTC) - saved < timedelta(minutes=1)
    assert info == {"client_id": "a", "name": "STS_002.nii.gz", "version": 1, "reader": "a"}
    assert datastore.status() == {"total": 2, "completed": 1, "label_tags": {"final": 1}, "quarantined": 0}
    assert datastore.json()["objects"]["STS_002"]["labels"]["final"]["ext"] == ".nii.gz"


def test_labels_survive_a_restart_and_can_be_removed(samples: Samples, tmp_path: Path) -> None:
    studies = samples("STS_002", labels=False)
    datastore = open_datastore(studies)
    datastore.save_label(
        "STS_002", str(label_for(datastore.workspace, "STS_002", tmp_path / "x.nii.gz")), "final", {}
    )
    again = open_datastore(studies)
    assert again.get_label_by_image_id("STS_002", "final") == "STS_002"
    again.remove_label("STS_002", "final")
    removed = open_datastore(studies)
    assert removed.get_labeled_images() == []
    assert removed.labels.counts() == {}
    assert len(list((studies / "labels").rglob("*.nii.gz"))) == 1  # marked, not deleted
    removed.labels.restore(removed.workspace.pool.by_id["STS_002"], "final", 1)
    assert again.get_labeled_images() == ["STS_002"]


@pytest.mark.parametrize(
    ("setting", "final", "original"), [("final", 1, 0), ("original", 0, 1), ("ignore", 0, 0)]
)
def test_a_contour_beside_the_images_counts_as_the_site_says(
    samples: Samples, setting: str, final: int, original: int
) -> None:
    datastore = open_datastore(samples("STS_002"), study_labels=setting)
    assert len(datastore.get_labeled_images("final")) == final
    assert len(datastore.get_labeled_images("original")) == original


def test_a_contour_beside_the_images_is_never_deleted(samples: Samples) -> None:
    datastore = open_datastore(samples("STS_002"))
    with pytest.raises(ClientError, match="never deletes"):
        datastore.remove_label("STS_002", "final")
    assert (datastore.workspace.folders.studies / "STS_002" / "GTV.nii.gz").exists()


def test_a_clients_segment_names_decide_over_its_numbers(samples: Samples, tmp_path: Path) -> None:
    datastore = open_datastore(samples("STS_002", labels=False))
    file = label_for(datastore.workspace, "STS_002", tmp_path / "x.nii.gz", value=3)
    segments = [{"name": "vessel", "idx": 1}, {"name": "lesion", "idx": 3}]
    datastore.save_label("STS_002", str(file), "final", {"label_info": segments})
    label = datastore.labels.read(datastore.workspace.pool.by_id["STS_002"])
    assert sorted(np.unique(label.array)) == [0, 1]
    assert label.array.sum() == 400


@pytest.mark.parametrize(
    "segments", ["lesion", [1], [{"name": "lesion"}], [{"name": "lesion", "idx": "1"}], {"lesion": 1}, 7]
)
def test_segments_without_names_and_values_are_refused(
    samples: Samples, tmp_path: Path, segments: object
) -> None:
    datastore = open_datastore(samples("STS_002", labels=False))
    file = label_for(datastore.workspace, "STS_002", tmp_path / "x.nii.gz")
    with pytest.raises(ClientError, match="label_info must be a list"):
        datastore.save_label("STS_002", str(file), "final", {"label_info": segments})
    assert datastore.get_labeled_images() == []


def test_a_value_that_no_name_explains_is_not_dropped_in_silence(samples: Samples, tmp_path: Path) -> None:
    datastore = open_datastore(samples("STS_002", labels=False))
    file = label_for(datastore.workspace, "STS_002", tmp_path / "x.nii.gz", value=2)
    with pytest.raises(ClientError, match=r"must be 0, 1 lesion; got \[2\]\. Name them with --conf labels"):
        datastore.save_label("STS_002", str(file), "final", {})
    assert datastore.get_labeled_images() == []


def test_the_gap_in_brats_labels_is_closed(tmp_path: Path) -> None:
    id = "BraTS20_Training_001"
    for name in ("t1", "t1ce", "t2", "flair"):
        write_image(tmp_path / id / f"{id}_{name}.nii.gz")
    values = np.zeros((6, 7, 8), dtype=np.uint8)
    values[:2], values[2:3], values[3:4] = 1, 2, 4
    affine = nib.load(tmp_path / id / f"{id}_t1.nii.gz").affine
    nib.save(nib.Nifti1Image(values, affine), tmp_path / id / f"{id}_seg.nii.gz")
    datastore = open_datastore(tmp_path)
    label = datastore.labels.read(datastore.workspace.pool.by_id[id])
    assert datastore.workspace.decomposition.labels["enhancing"] == 3
    assert sorted(np.unique(label.array)) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda array: array + 0.5, "whole numbers"),
        (lambda array: np.where(array == 0, np.nan, array), "whole numbers"),
        (lambda array: -array, "whole numbers"),
    ],
)
def test_a_label_with_impossible_values_is_refused_and_nothing_is_lost(
    samples: Samples, tmp_path: Path, change: Callable[[np.ndarray], np.ndarray], sentence: str
) -> None:
    datastore = open_datastore(samples("STS_002", labels=False))
    good = label_for(datastore.workspace, "STS_002", tmp_path / "good.nii.gz")
    datastore.save_label("STS_002", str(good), "final", {})
    image = nib.load(good)
    nib.save(nib.Nifti1Image(change(image.get_fdata()), image.affine), tmp_path / "bad.nii.gz")
    with pytest.raises(ClientError, match=sentence):
        datastore.save_label("STS_002", str(tmp_path / "bad.nii.gz"), "final", {})
    assert Path(datastore.get_label_uri("STS_002", "final")).read_bytes() == good.read_bytes()


def test_a_label_of_another_place_is_refused(samples: Samples, tmp_path: Path) -> None:
    datastore = open_datastore(samples("STS_002", labels=False))
    image = nib.load(label_for(datastore.workspace, "STS_002", tmp_path / "x.nii.gz"))
    far = image.affine.copy()
    far[:3, 3] += 5000
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj), far), tmp_path / "far.nii.gz")
    with pytest.raises(ClientError, match="lies outside every volume"):
        datastore.save_label("STS_002", str(tmp_path / "far.nii.gz"), "final", {})


def test_an_empty_label_is_an_answer(samples: Samples, tmp_path: Path) -> None:
    datastore = open_datastore(samples("STS_002", labels=False))
    file = label_for(datastore.workspace, "STS_002", tmp_path / "x.nii.gz", value=0)
    datastore.save_label("STS_002", str(file), "final", {})
    assert datastore.get_labeled_images() == ["STS_002"]


def test_notes_that_are_not_json_are_refused_before_anything_is_written(
    samples: Samples, tmp_path: Path
) -> None:
    datastore = open_datastore(samples("STS_002", labels=False))
    file = label_for(datastore.workspace, "STS_002", tmp_path / "x.nii.gz")
    with pytest.raises(ClientError, match="finite"):
        datastore.save_label("STS_002", str(file), "final", {"score": float("nan")})
    assert datastore.get_labeled_images() == []
    datastore.update_image_info("STS_002", {"note": "small"})
    with pytest.raises(ClientError, match="finite"):
        datastore.update_image_info("STS_002", {"note": float("inf")})
    assert datastore.get_image_info("STS_002")["note"] == "small"


def test_the_stamp_of_a_strategy_does_not_rewrite_the_register(samples: Samples) -> None:
    datastore = open_datastore(samples("STS_002"))
    datastore.update_image_info("STS_002", {"strategy": {"mdal": {"ts": 1}}})
    assert not (datastore.workspace.folders.studies / "datastore_v2.json").exists()


def test_a_slice_folder_and_a_channel_become_one_file_each(tmp_path: Path) -> None:
    studies = tmp_path / "studies"
    write_image(studies / "imagesTr" / "a.nii.gz", shape=(5, 6, 7, 2))
    (studies / "dataset.json").write_text(json.dumps({"modality": {"0": "T1", "1": "T2"}}))
    datastore = open_datastore(studies)
    whole = np.asarray(nib.load(studies / "imagesTr" / "a.nii.gz").dataobj)
    for channel, name in enumerate(("T1", "T2")):
        path = Path(datastore.get_image_uri(f"a_{name}"))
        assert path.name == f"a_{name}.nii.gz"
        np.testing.assert_array_equal(np.asarray(nib.load(path).dataobj), whole[..., channel])


def test_images_are_neither_uploaded_nor_removed(samples: Samples, tmp_path: Path) -> None:
    datastore = open_datastore(samples("STS_002"))
    with pytest.raises(ClientError, match="cannot be uploaded"):
        datastore.add_image("../x", str(tmp_path / "x.nii.gz"), {})
    with pytest.raises(ClientError, match="never deletes"):
        datastore.remove_image("STS_002")


def test_a_linked_labels_folder_is_not_written_through(samples: Samples, tmp_path: Path) -> None:
    datastore = open_datastore(samples("STS_002", labels=False))
    outside = tmp_path / "outside"
    outside.mkdir()
    (datastore.workspace.folders.studies / "labels").mkdir()
    (datastore.workspace.folders.studies / "labels" / "evil").symlink_to(outside)
    file = label_for(datastore.workspace, "STS_002", tmp_path / "x.nii.gz")
    with pytest.raises(ClientError, match="is a link to elsewhere"):
        datastore.save_label("STS_002", str(file), "evil", {})
    assert not list(outside.iterdir())


def test_serving_an_image_leaves_the_patients_file_as_it_was(samples: Samples) -> None:
    studies = samples("STS_002")
    file = studies / "STS_002" / "MR_T1.nii.gz"
    file.chmod(0o600)
    before = file.stat()
    open_datastore(studies).get_image_uri("STS_002")
    assert (file.stat().st_mode, file.stat().st_mtime_ns) == (before.st_mode, before.st_mtime_ns)


def save(datastore: CaseDatastore, path: Path, values: dict[str, int], *drawn: int) -> None:
    """Save a label with a block of each drawn value, and the segments as a client lists them."""
    grid = read_grid(datastore.workspace.pool.by_id["STS_002"].modalities["MR_T1"])
    array = np.zeros(grid.shape, dtype=np.uint8)
    for place, value in enumerate(drawn):
        array[5:9, 10:20, 10 * place : 10 * place + 10] = value
    nib.save(nib.Nifti1Image(array.T, grid.affine), path)
    segments = [{"name": name, "idx": value} for name, value in values.items()]
    datastore.save_label("STS_002", str(path), "final", {"label_info": segments})


def test_slicers_numbers_are_understood_when_it_left_out_a_background_segment(
    samples: Samples, tmp_path: Path
) -> None:
    datastore = open_datastore(samples("STS_002", labels=False))
    save(datastore, tmp_path / "x.nii.gz", {"lesion": 2}, 1)
    assert datastore.labels.read(datastore.workspace.pool.by_id["STS_002"]).array.sum() == 400


def test_numbers_that_could_mean_two_segments_are_refused(samples: Samples, tmp_path: Path) -> None:
    datastore = open_datastore(samples("STS_002", labels=False), labels=("lesion", "vessel"))
    with pytest.raises(ClientError, match="must say which segment is which"):
        save(datastore, tmp_path / "x.nii.gz", {"lesion": 2, "vessel": 3}, 2)


def test_a_drawing_whose_segments_have_none_of_our_names_is_refused(samples: Samples, tmp_path: Path) -> None:
    datastore = open_datastore(samples("STS_002", labels=False))
    with pytest.raises(ClientError, match=r"a segment must be named lesion; got Segment_1\. Rename"):
        save(datastore, tmp_path / "x.nii.gz", {"Segment_1": 1}, 1)
    assert datastore.get_labeled_images() == []


@pytest.mark.parametrize("notes", [{"x": "\ud800"}, [1], "x", None])
def test_notes_that_another_client_could_not_read_are_refused(samples: Samples, notes: object) -> None:
    with pytest.raises(ClientError, match="notes must"):
        open_datastore(samples("STS_002")).update_image_info("STS_002", notes)  # type: ignore[arg-type]


def test_notes_cannot_pose_as_the_servers_own_keys(samples: Samples) -> None:
    with pytest.raises(ClientError, match="server's own keys; got 'id'"):
        open_datastore(samples("STS_002")).update_image_info("STS_002", {"id": "zzz"})


@pytest.mark.parametrize("key", ["written", "dicom_seg"])
def test_a_client_cannot_say_when_a_label_was_written_or_sent(
    key: str, samples: Samples, tmp_path: Path
) -> None:
    datastore = open_datastore(samples("STS_002", labels=False))
    file = label_for(datastore.workspace, "STS_002", tmp_path / "label.nii.gz")
    with pytest.raises(ClientError, match=f"the server's own keys; got '{key}'"):
        datastore.save_label("STS_002", str(file), "final", {key: "yesterday"})
    assert not datastore.labelled()
    datastore.save_label("STS_002", str(file), "final", {})
    with pytest.raises(ClientError, match=f"the server's own keys; got '{key}'"):
        datastore.update_label_info("STS_002", "final", {key: "yesterday"})


def nested(depth: int) -> dict[str, object]:
    """Notes of objects and lists in each other, `depth` levels with the notes themselves."""
    value: object = 1
    for level in range(depth - 1):
        value = {"x": value} if level % 2 else [value]
    return {"note": value}


@pytest.mark.parametrize("depth", [33, 250, 900, 3000])
def test_notes_nested_so_deeply_that_the_register_could_not_be_read_again_are_refused(
    samples: Samples, tmp_path: Path, depth: int
) -> None:
    datastore = open_datastore(samples("STS_002", labels=False))
    file = label_for(datastore.workspace, "STS_002", tmp_path / "label.nii.gz")
    datastore.save_label("STS_002", str(file), "final", nested(32))
    for store in (
        lambda: datastore.update_image_info("STS_002", nested(depth)),
        lambda: datastore.update_label_info("STS_002", "final", nested(depth)),
        lambda: datastore.save_label("STS_002", str(file), "final", nested(depth)),
    ):
        with pytest.raises(ClientError, match="at most 32 levels"):
            store()
    assert open_datastore(datastore.workspace.folders.studies).labelled() == {"STS_002"}


@pytest.mark.parametrize("notes", [{"written": 5}, {"dicom_seg": "x"}, {"written": "yesterday"}])
def test_notes_of_a_case_cannot_pose_as_the_servers_notes_of_a_label(
    samples: Samples, notes: dict[str, object]
) -> None:
    datastore = open_datastore(samples("STS_002"))
    with pytest.raises(ClientError, match="server's own keys"):
        datastore.update_image_info("STS_002", notes)
    assert open_datastore(datastore.workspace.folders.studies).labelled() == {"STS_002"}


@pytest.mark.parametrize("notes", [{"label_info": 3}, {"label_info": [{"name": "other", "idx": 1}]}])
def test_notes_that_would_make_a_stored_label_unreadable_or_empty_are_refused(
    samples: Samples, tmp_path: Path, notes: dict[str, object]
) -> None:
    datastore = open_datastore(samples("STS_002", labels=False))
    case = datastore.workspace.pool.by_id["STS_002"]
    file = label_for(datastore.workspace, "STS_002", tmp_path / "label.nii.gz")
    datastore.save_label("STS_002", str(file), "final", {"label_info": [{"name": "lesion", "idx": 1}]})
    before = datastore.labels.read(case).array
    with pytest.raises(ClientError, match=r"label_info must|a segment must be named"):
        datastore.update_label_info("STS_002", "final", notes)
    assert np.array_equal(datastore.labels.read(case).array, before)


def test_the_archive_is_decoded_without_this_app(samples: Samples, tmp_path: Path) -> None:
    datastore = open_datastore(samples("STS_002", "STS_008", labels=False))
    segments = [{"name": "lesion", "idx": 5}]  # as a client numbers it
    for reader, value in (("ann", 1), ("bob", 5)):
        file = label_for(datastore.workspace, "STS_002", tmp_path / "x.nii.gz", value=value)
        notes = {"client_id": reader} | ({"label_info": segments} if value == 5 else {})
        datastore.save_label("STS_002", str(file), "final", notes)
    with zipfile.ZipFile(datastore.get_dataset_archive(None)) as archive:
        archive.extractall(tmp_path / "out")
    register = json.loads((tmp_path / "out" / "datastore_v2.json").read_text())
    assert list(register["objects"]) == ["STS_002"]
    label = register["objects"]["STS_002"]["labels"]["final"]
    assert (label["values"], label["info"]["reader"]) == ({"lesion": 5}, "bob")
    assert [version["reader"] for version in label["versions"]] == ["ann", "bob"]
    for about in ({"archived": label["file"], "segments": label["values"].items()}, *label["versions"]):
        voxels = np.asarray(nib.load(tmp_path / "out" / about["archived"]).dataobj)
        ((name, value),) = about["segments"]
        assert (name, int((voxels == value).sum()), int((voxels != 0).sum())) == ("lesion", 400, 400)
    names = sorted(path.name for path in (tmp_path / "out" / "STS_002").iterdir())
    assert names == ["STS_002_CT.nii.gz", "STS_002_MR_T1.nii.gz", "STS_002_PET.nii.gz"]
