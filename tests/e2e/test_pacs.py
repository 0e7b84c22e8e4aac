"""A live server on a real Orthanc: a study of three series is one case for every client."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
import requests
import SimpleITK as sitk
from pydicom.uid import generate_uid

from tests.support.orthanc import orthanc, skip_without_orthanc, upload_changed
from tests.support.server import serving, slicer_client, train, wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.slow]
SAMPLES = Path(__file__).parents[2] / "samples" / "dicom"
FIELDS = {
    "Modality",
    "StudyDate",
    "StudyTime",
    "PatientID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "RetrieveURL",
}


def series_uid(patient: str, modality: str) -> str:
    header = pydicom.dcmread(SAMPLES / patient / modality / "000000.dcm", stop_before_pixels=True)
    return str(header.SeriesInstanceUID)


def test_a_study_in_the_pacs_is_one_case_for_the_reader_in_slicer_and_in_ohif(tmp_path: Path) -> None:
    skip_without_orthanc()
    conf = {"work_dir": tmp_path / "work", "series_rules": "pet_ct_mr", "refresh_s": 2}
    with (
        orthanc(SAMPLES) as pacs,
        serving(
            pacs.dicomweb,
            conf=conf,
            log=tmp_path / "log",
            environment={"MONAI_LABEL_AUTO_UPDATE_SCORING": "false"},
        ) as address,
    ):
        reader = slicer_client(address, tmpdir=str(tmp_path), client_id="reader")
        cases = reader.datastore()["objects"]
        assert len(cases) == 2

        sample = reader.next_sample("random", {})
        assert sample["id"] == sample["StudyInstanceUID"] in cases
        assert sample.keys() >= FIELDS
        assert requests.get(f"{sample['RetrieveURL']}/metadata", timeout=60).ok

        patient = sample["PatientID"]
        for modality in ("CT", "PET", "MR_T1"):  # OHIF names the series of its active viewport
            uid = series_uid(patient, modality)
            image = requests.get(f"{address}/datastore/image", params={"image": uid}, timeout=60)
            (tmp_path / "image.nii.gz").write_bytes(image.content)
            served = sitk.ReadImage(str(tmp_path / "image.nii.gz"))
            file, about = reader.infer("ciml", uid, {})
            label = sitk.ReadImage(str(file))
            assert about["ciml"]["state"] == "untrained"
            assert label.GetSize() == served.GetSize()
            assert np.allclose(label.GetOrigin(), served.GetOrigin(), atol=1e-3)
            contour = sitk.ReadImage(str(SAMPLES / patient / f"{modality}_GTV.nii.gz"))
            assert served.GetSize() == contour.GetSize()
            assert np.allclose(served.GetOrigin(), contour.GetOrigin(), atol=1e-3)

        contour = SAMPLES / patient / "MR_T1_GTV.nii.gz"
        reader.save_label(series_uid(patient, "MR_T1"), str(contour), params={})
        assert reader.info()["datastore"]["completed"] == 1
        other_patient = reader.next_sample("random", {})["PatientID"]
        assert other_patient != patient
        wait_until(lambda: reader.info()["pacs"]["unsent"] == 0, seconds=120, what="the SEG in the PACS")
        assert reader.info()["pacs"]["message"] == ""
        qido = requests.get(f"{pacs.dicomweb}/series?Modality=SEG", timeout=60)
        assert [row["0020000D"]["Value"] for row in qido.json()] == [[sample["id"]]]

        other_contour = SAMPLES / other_patient / "CT_GTV.nii.gz"
        reader.save_label(series_uid(other_patient, "CT"), str(other_contour), params={})
        wait_until(lambda: reader.info()["pacs"]["unsent"] == 0, seconds=120, what="the second SEG")

        before = reader.datastore()["objects"][sample["id"]]
        study = {"StudyInstanceUID": generate_uid(), "StudyDate": "20300101", "FrameOfReferenceUID": "1.2.3"}
        for modality in ("CT", "PET", "MR_T1"):
            folder = SAMPLES / patient / modality
            upload_changed(pacs, folder, tmp_path, brighter=1, **study, SeriesInstanceUID=generate_uid())
        wait_until(lambda: len(reader.datastore()["objects"]) == 3, seconds=120, what="the follow-up")
        assert reader.datastore()["objects"][sample["id"]] == before
        assert reader.next_sample("random", {})["id"] == study["StudyInstanceUID"]

        pacs.stop()
        kept = requests.get(
            f"{address}/datastore/image", params={"image": series_uid(patient, "CT")}, timeout=60
        )
        assert kept.ok  # what was fetched is served without the PACS
        pacs.start()

        log = (tmp_path / "log").read_text()
        assert "Traceback" not in log, log[-4000:]
        assert not [line for line in log.splitlines() if "PatientID" in line]

        with serving(
            pacs.dicomweb,
            conf={**conf, "work_dir": tmp_path / "other", "train_epochs": 1},
            log=tmp_path / "other_log",
            environment={"MONAI_LABEL_AUTO_UPDATE_SCORING": "false"},
        ) as elsewhere:
            other = slicer_client(elsewhere, tmpdir=str(tmp_path))
            wait_until(
                lambda: other.info()["datastore"]["completed"] == 2,
                seconds=120,
                what="the labels from the PACS",
            )
            assert set(other.datastore()["objects"][sample["id"]]["labels"]) == {"final"}
            label = requests.get(
                f"{elsewhere}/datastore/label", params={"label": sample["id"], "tag": "final"}, timeout=60
            )
            (tmp_path / "label.nii.gz").write_bytes(label.content)
            drawn, read = (
                sitk.GetArrayFromImage(sitk.ReadImage(str(file)))
                for file in (contour, tmp_path / "label.nii.gz")
            )
            assert np.array_equal(drawn > 0, read > 0)
            assert other.info()["pacs"]["unsent"] == 0

            stats = train(elsewhere)
            assert (stats["epoch"], stats["training_cases"], stats["validation_cases"]) == (1, 1, 1)
            assert stats["published"]
