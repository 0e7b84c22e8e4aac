"""Once a plan, an offer or a label may name a case, its id means the same images for ever."""

import gzip
import json
import random
import shutil
from pathlib import Path

import pytest
from pydicom.uid import generate_uid

from lib.pipeline.settings import AppSettings
from lib.pipeline.workspace import Workspace
from lib.runtime.errors import UserError
from tests.support.images import write_image, write_series
from tests.support.orthanc import orthanc, skip_without_orthanc, upload_changed

PATIENT = Path(__file__).parents[2] / "samples" / "dicom" / "STS_025"


def opened(studies: Path) -> Workspace:
    """A workspace whose ids are in use and whose files were read, as a server has them."""
    workspace = Workspace(studies, AppSettings())
    workspace.hold_ids()
    workspace.records.content_hashes(workspace.pool.cases)
    return workspace


def listed(studies: Path) -> dict[str, dict[str, str]]:
    """Place of each image of each case, as the next process finds them."""
    pool = Workspace(studies, AppSettings()).pool
    return {
        case.id: {
            name: source.series or source.path.relative_to(studies).as_posix()
            for name, source in case.modalities.items()
        }
        for case in pool.cases
    }


def notes(studies: Path) -> list[str]:
    return [note for case in Workspace(studies, AppSettings()).pool.cases for note in case.notes]


def test_a_follow_up_with_more_modalities_gets_an_id_of_its_own(tmp_path: Path) -> None:
    ct = write_series(tmp_path / "p1" / "s1", modality="CT", description="abdomen", study="1.2.9")
    workspace = opened(tmp_path)
    for name, modality in {"s2": "CT", "s3": "MR"}.items():
        write_series(
            tmp_path / "p1" / name, modality=modality, description="Ax T2", study="1.2.1", frame="7.8"
        )
    for name in ("s4", "s5", "s6"):
        description = {"s4": "T1", "s5": "T2", "s6": "FLAIR"}[name]
        write_series(
            tmp_path / "p1" / name, modality="MR", description=description, study="1.2.2", frame="7.9"
        )
    cases = listed(tmp_path)
    assert cases["p1"] == {"CT": ct}
    assert {id: len(images) for id, images in cases.items()} == {"p1": 1, "p1_2": 2, "p1_3": 3}
    workspace.refresh()
    assert {id: len(case.modalities) for id, case in workspace.pool.by_id.items()} == {
        "p1": 1,
        "p1_2": 1,  # the running server takes up no new modality before its next start
    }
    assert listed(tmp_path) == cases


def test_a_case_of_the_same_name_elsewhere_gets_an_id_of_its_own(tmp_path: Path) -> None:
    write_image(tmp_path / "a" / "p01" / "T1.nii.gz")
    opened(tmp_path)
    write_image(tmp_path / "b" / "p01" / "T1.nii.gz", seed=1)
    assert listed(tmp_path) == {
        "b_p01": {"T1": "b/p01/T1.nii.gz"},
        "p01": {"T1": "a/p01/T1.nii.gz"},
    }


def test_a_case_whose_name_differs_in_capitals_alone_does_not_displace_one(tmp_path: Path) -> None:
    write_image(tmp_path / "p1_T1.nii.gz")
    opened(tmp_path)
    write_image(tmp_path / "P1_T1.nii.gz", seed=1)
    assert listed(tmp_path)["p1"] == {"T1": "p1_T1.nii.gz"}


def test_images_that_come_to_a_case_do_not_replace_those_that_were_used(tmp_path: Path) -> None:
    write_image(tmp_path / "p1" / "PET" / "late_PET.nii.gz")
    write_image(tmp_path / "p1" / "CT" / "late_CT.nii.gz")
    opened(tmp_path)
    write_image(tmp_path / "p1" / "PET" / "early_SUV_PET.nii.gz", seed=1)
    write_image(tmp_path / "p1" / "CT" / "early_CT.nii.gz", seed=1)
    assert listed(tmp_path) == {"p1": {"CT": "p1/CT/late_CT.nii.gz", "PET": "p1/PET/late_PET.nii.gz"}}
    assert "because it was used before" in notes(tmp_path)[0]


def test_a_series_with_more_slices_does_not_replace_the_one_that_was_used(tmp_path: Path) -> None:
    used = write_series(tmp_path / "p1" / "s1", modality="CT", description="", study="1.2.9")
    opened(tmp_path)
    write_series(tmp_path / "p1" / "s2", modality="CT", description="", study="1.2.9", slices=9)
    assert listed(tmp_path) == {"p1": {"CT": used}}


def test_a_brats_folder_with_more_modalities_does_not_replace_the_one_that_was_used(tmp_path: Path) -> None:
    name = "BraTS20_Training_001"
    write_image(tmp_path / "z" / name / f"{name}_t1.nii.gz")
    opened(tmp_path)
    for modality in ("t1", "t2", "flair"):
        write_image(tmp_path / "a" / name / f"{name}_{modality}.nii.gz", seed=1)
    assert listed(tmp_path) == {name: {"T1": f"z/{name}/{name}_t1.nii.gz"}}


@pytest.mark.parametrize("place", ["siteA/p01", "patient_one", "siteA/deeper/P01"])
def test_images_that_were_moved_keep_their_id(place: str, tmp_path: Path) -> None:
    write_image(tmp_path / "p01" / "T1.nii.gz")
    write_image(tmp_path / "p02" / "T1.nii.gz", seed=1)
    opened(tmp_path)
    (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "p01").rename(tmp_path / place)
    write_image(tmp_path / "p03" / "T1.nii.gz", seed=2)
    assert {id: images["T1"] for id, images in listed(tmp_path).items()} == {
        "p01": f"{place}/T1.nii.gz",
        "p02": "p02/T1.nii.gz",
        "p03": "p03/T1.nii.gz",
    }


def test_other_images_under_the_name_of_a_case_that_is_gone_get_an_id_of_their_own(tmp_path: Path) -> None:
    write_image(tmp_path / "p01" / "T1.nii.gz")
    opened(tmp_path)
    shutil.rmtree(tmp_path / "p01")
    write_image(tmp_path / "p01" / "2024" / "T1.nii.gz", seed=1)
    write_image(tmp_path / "batch" / "p01" / "T1.nii.gz", seed=2)
    write_image(tmp_path / "batch" / "p02" / "T1.nii.gz", seed=3)
    cases = listed(tmp_path)
    assert "p01" not in cases
    assert len(cases) == 3


def test_a_reader_is_told_where_a_name_went_whose_images_are_gone(tmp_path: Path) -> None:
    write_image(tmp_path / "a" / "p01" / "T1.nii.gz")
    opened(tmp_path)
    (tmp_path / "a").rename(tmp_path.parent / "away")
    write_image(tmp_path / "b" / "p01" / "T1.nii.gz", seed=1)
    assert listed(tmp_path) == {"p01_2": {"T1": "b/p01/T1.nii.gz"}}
    assert notes(tmp_path) == [
        "the id p01 means images that are no longer there (a/p01/T1). Put them back to see their labels, "
        "plan and history again."
    ]
    (tmp_path.parent / "away").rename(tmp_path / "a")
    assert listed(tmp_path) == {
        "p01": {"T1": "a/p01/T1.nii.gz"},
        "p01_2": {"T1": "b/p01/T1.nii.gz"},
    }


def test_a_file_that_was_unpacked_is_the_same_image(tmp_path: Path) -> None:
    packed = write_image(tmp_path / "p01" / "T1.nii.gz")
    opened(tmp_path)
    packed.with_suffix("").write_bytes(gzip.decompress(packed.read_bytes()))
    packed.unlink()
    assert listed(tmp_path) == {"p01": {"T1": "p01/T1.nii"}}


def test_before_anything_names_a_case_folders_alone_do(tmp_path: Path) -> None:
    write_series(tmp_path / "tmp" / "s1", modality="CT", description="", study=generate_uid())
    workspace = Workspace(tmp_path, AppSettings())
    assert workspace.plan.current() is None
    assert workspace.label_book.notes() == []
    (tmp_path / "tmp").rename(tmp_path / "p1")
    assert set(listed(tmp_path)) == {"p1"}
    assert not (tmp_path / "labels").exists()


def test_studies_whose_book_cannot_be_written_are_served_all_the_same(tmp_path: Path) -> None:
    write_image(tmp_path / "p01" / "T1.nii.gz")
    (tmp_path / "labels").write_text("a file where the folder should be")
    opened(tmp_path)
    assert set(listed(tmp_path)) == {"p01"}


def test_a_damaged_book_is_refused_with_what_to_do(tmp_path: Path) -> None:
    write_image(tmp_path / "p01" / "T1.nii.gz")
    book = opened(tmp_path).case_ids.file
    assert json.loads(book.read_text()) == {
        "p01": {"p01/T1": (tmp_path / "p01" / "T1.nii.gz").stat().st_size}
    }
    book.write_text('{"p01": {"p01/T1": ')
    with pytest.raises(UserError, match=r"case_ids\.json must be whole; .* restore it from a backup"):
        Workspace(tmp_path, AppSettings())


def test_in_a_pacs_a_follow_up_and_a_newer_series_leave_a_case_as_it_was(tmp_path: Path) -> None:
    skip_without_orthanc()
    follow_up = {"StudyInstanceUID": generate_uid(), "StudyDate": "20300101", "FrameOfReferenceUID": "1.2.3"}
    newer = {"SeriesDate": "20300101", "SeriesInstanceUID": generate_uid()}
    other_frame = {"FrameOfReferenceUID": "1.2.4", "SeriesInstanceUID": generate_uid()}
    settings = AppSettings(series_rules="pet_ct_mr", work_dir=str(tmp_path / "work"))
    with orthanc(PATIENT / "MR_T1") as pacs:
        workspace = Workspace(pacs.dicomweb, settings)
        workspace.hold_ids()
        (before,) = workspace.pool.cases
        for name in ("CT", "PET", "MR_T1"):
            upload_changed(pacs, PATIENT / name, tmp_path, **follow_up, SeriesInstanceUID=generate_uid())
        upload_changed(pacs, PATIENT / "MR_T1", tmp_path, **newer)
        upload_changed(pacs, PATIENT / "CT", tmp_path, **other_frame)
        for pool in (workspace.find(), Workspace(pacs.dicomweb, settings).pool):
            assert pool.by_id[before.id].modalities["MR_T1"].series == before.modalities["MR_T1"].series
            assert {id: len(case.modalities) for id, case in pool.by_id.items()} == {
                before.id: 1,
                f"{before.id}_2": 1,
                follow_up["StudyInstanceUID"]: 3,
            }
            assert "because it was used before" in pool.by_id[before.id].notes[0]


@pytest.mark.parametrize("seed", range(8))
def test_whatever_comes_moves_or_goes_an_id_never_means_other_images(seed: int, tmp_path: Path) -> None:
    """Patients arrive under a few names in a few places, move and leave, fifteen times over."""
    dice = random.Random(seed)
    meant: dict[str, int] = {}  # image, by its seed, that each id meant first
    content: dict[str, int] = {}
    sites, names = ("", "a/", "b/", "b/c/", "d/"), ("p1", "P1", "p1_2", "ses-1", "ses-2")
    places = [f"{site}{name}" for site in sites for name in names]
    dice.shuffle(places)  # none ever holds a second image
    for image in range(15):
        here = sorted(tmp_path.rglob("T1.nii.gz"))
        if here and dice.random() < 0.3:
            dice.choice(here).unlink()
        elif here and dice.random() < 0.5:
            target = tmp_path / places.pop()
            target.mkdir(parents=True, exist_ok=True)
            dice.choice(here).rename(target / "T1.nii.gz")
        path = write_image(tmp_path / places.pop() / "T1.nii.gz", seed=image, shape=(4, 4, 4))
        content[path.read_bytes().hex()] = image
        workspace = opened(tmp_path)
        for case in workspace.pool.cases:
            found = content[case.modalities["T1"].path.read_bytes().hex()]
            assert meant.setdefault(case.id, found) == found, (case.id, workspace.pool.by_id.keys())
    assert len(meant) >= 10
