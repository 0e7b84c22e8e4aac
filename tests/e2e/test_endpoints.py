"""MONAI Label's own endpoint tests, from the installed wheel, on this app and real patients."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import monailabel
import pytest
import torch

from tests.support.server import APP

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

THEIRS = Path(monailabel.__file__).parent.parent / "tests" / "unit" / "endpoints"
CONF = {"scoring": "quick", "train_epochs": "1"}
PATIENTS = {
    "spleen_3": "STS_008",
    "spleen_8": "STS_024",
    "spleen_9": "STS_025",
    "spleen_10": "STS_041",
    "spleen_11": "STS_042",
    "spleen_12": "STS_002",
}
_NAME = "a case is several volumes, so the file's name says which one: spleen_3_MR_T1.nii.gz"
_PACS = "the answers of the PACS that it replays are not in the wheel"
_CLICKS = "the model is guided by clicks; ciml is automatic"
_SESSIONS = "sessions are closed: they hold one image each, and a case is several volumes"
_SLIDES = "there are no whole-slide images here"
CANNOT_APPLY = {
    "test_datastore.EndPointDatastore.test_002_add": "a case is several volumes; one file cannot be uploaded",
    "test_datastore.EndPointDatastore.test_004_remove_image": "the server never deletes anybody's images",
    "test_datastore.EndPointDatastore.test_007_get_image_info": _NAME,
    "test_datastore.EndPointDatastore.test_009_update_image_info": _NAME,
    "test_dicomwebcache.EndPointDICOMWebDatastore.test_datastore_all": _PACS,
    "test_dicomwebcache.EndPointDICOMWebDatastore.test_datastore_stats": _PACS,
    "test_dicomwebcache.EndPointDICOMWebDatastore.test_datastore_train": _PACS,
    "test_dicomwebcache.EndPointDICOMWebDatastore.test_save_label": _PACS,
    "test_infer_v2.EndPointInfer.test_deepgrow_pipeline": _CLICKS,
    "test_infer_v2.EndPointInfer.test_sam_2d": _CLICKS,
    "test_infer_v2.EndPointInfer.test_sam_3d": _CLICKS,
    "test_infer_v2.TestDetectionBundleInferTask.test_lung_nodule_detector_infer": (
        "it asks for boxes in the scan of a public data set that is not in the wheel"
    ),
    "test_infer_wsi.EndPointWSIInfer.test_segmentation_asap": _SLIDES,
    "test_infer_wsi.EndPointWSIInfer.test_segmentation_dsa": _SLIDES,
    "test_infer_wsi.EndPointWSIInfer.test_segmentation_json": _SLIDES,
    "test_ohif.TestEndPointLogs.test_ohif": "it wants no viewer; the wheel has one",
    "test_session.EndPointSession.test_002_create_session": _SESSIONS,
    "test_session.EndPointSession.test_007_create_session_multiple_images": _SESSIONS,
    "test_scoring.EndPointScoring.test_dice": "the one scoring method is mdal; another test asks for it",
}
# where there is no GPU: MONAI Label's answer is the output of nvidia-smi
ASKS_NOTHING = set() if torch.cuda.is_available() else {"test_logs.TestEndPointLogs.test_logs_gpu"}


@pytest.fixture
def spleens(samples: Callable[..., Path]) -> Path:
    """Patients under the names that the tests ask for; four have a final label, one an earlier one."""
    studies = samples(*PATIENTS.values())
    for id, patient in PATIENTS.items():
        (studies / patient).rename(studies / id)
    for id in ("spleen_3", "spleen_9"):  # the tests upload these two
        (studies / f"{id}.nii.gz").write_bytes((studies / id / "CT.nii.gz").read_bytes())
    contour = (studies / "spleen_3" / "GTV.nii.gz").rename(studies.parent / "GTV.nii.gz")
    for id in ("spleen_11", "spleen_12"):
        (studies / id / "GTV.nii.gz").unlink()
    saved = studies / "labels" / "final" / "spleen_3.nii.gz"  # as their own server keeps it
    saved.parent.mkdir(parents=True)
    contour.rename(saved)
    return studies


def run_theirs(studies: Path, folder: Path) -> dict[str, tuple[str, int]]:
    """Outcome of each test and how often it asked the server.

    In a process of its own, away from the root: their package and ours are both called `tests`.
    """
    folder.mkdir()
    (folder / "pytest.ini").write_text("[pytest]\n")
    workspace = {"app": str(APP), "studies": str(studies), "data": str(folder), "conf": CONF}
    environment = {
        "ENDPOINTS": json.dumps(workspace),
        "PYTHONPATH": str(Path(__file__).parent),
        "MONAI_LABEL_RELOAD_APP_LIB": "false",
        "MONAI_LABEL_AUTO_UPDATE_SCORING": "false",
    }
    command = [sys.executable, "-m", "pytest", "-c", "pytest.ini", "-q"]
    command += ["-p", "endpoints_plugin", "-p", "no:cacheprovider", "-o", "junit_family=xunit1"]
    command += ["--junitxml", "report.xml", str(THEIRS)]
    ended = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    print(ended.stdout[-20_000:], ended.stderr[-2000:])
    outcomes = {}
    for case in ElementTree.parse(folder / "report.xml").iter("testcase"):
        outcome = next((e.tag for e in case if e.tag in ("failure", "error", "skipped")), "passed")
        asked = case.find("properties/property[@name='requests']")
        name = f"{case.get('classname')}.{case.get('name')}"
        outcomes[name] = (outcome, int(asked.get("value", 0)) if asked is not None else 0)
    return outcomes


def test_their_endpoint_tests_pass_on_this_app_but_for_those_that_cannot_apply(
    spleens: Path, tmp_path: Path
) -> None:
    outcomes = run_theirs(spleens, tmp_path / "theirs")
    others = {name: outcome for name, (outcome, _) in outcomes.items() if outcome != "passed"}
    assert others.keys() == CANNOT_APPLY.keys(), (
        {name: outcome for name, outcome in others.items() if name not in CANNOT_APPLY},
        [name for name in CANNOT_APPLY if name not in others],
    )
    silent = {name for name, (outcome, asked) in outcomes.items() if outcome == "passed" and not asked}
    assert silent == ASKS_NOTHING
