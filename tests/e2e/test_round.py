"""Rounds through a live server with Slicer's own client, on real patients.

The app starts from any working directory, and so do its jobs: each round here starts it from another one.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import numpy as np
import pytest
import requests
import SimpleITK as sitk

from lib.cases.discovery.layouts import find_pool
from lib.cases.formats.image import read_volume, write_nifti
from lib.pipeline.settings import AppSettings
from lib.pipeline.workspace import Workspace
from lib.plan.store import PlanStore
from tests.conftest import SAMPLES
from tests.support.networks import outline_uptake
from tests.support.server import ROOT, serving, slicer_client, train, wait_for_plan, wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.slow]
QUICK = {"scoring": "quick", "study_labels": "ignore"}


def download(address: str, image: str, folder: Path) -> Path:
    answer = requests.get(f"{address}/datastore/image?image={quote_plus(image)}", timeout=60)
    answer.raise_for_status()
    name = answer.headers["content-disposition"].split("filename=")[1].strip('"')
    (folder / name).write_bytes(answer.content)
    return folder / name


def same_grid(first: sitk.Image, second: sitk.Image) -> bool:
    return first.GetSize() == second.GetSize() and all(
        np.allclose(getattr(first, name)(), getattr(second, name)(), atol=1e-4)
        for name in ("GetSpacing", "GetOrigin", "GetDirection")
    )


def dice(first: sitk.Image, second: sitk.Image) -> float:
    a, b = (sitk.GetArrayFromImage(image) > 0 for image in (first, second))
    return 2.0 * float((a & b).sum()) / float(a.sum() + b.sum())


def on_grid_of(reference: sitk.Image, label: sitk.Image) -> sitk.Image:
    """The label as voxels of the reference are at least half inside it."""
    moved = sitk.Resample(label, reference, sitk.Transform(), sitk.sitkLinear, 0, sitk.sitkFloat32)
    return sitk.BinaryThreshold(moved, 0.5, 2.0)


def infer(client: Any, image: str) -> tuple[sitk.Image, dict[str, Any]]:
    file, about = client.infer("ciml", image, {})
    return sitk.ReadImage(file), about


def test_next_case_image_pre_segmentation_label_training_better_pre_segmentation(
    samples: Callable[..., Path], tmp_path: Path
) -> None:
    ids = ("STS_002", "STS_012", "STS_018", "STS_024", "STS_026", "STS_043", "STS_047", "STS_051")
    studies = samples(*ids)
    with serving(studies, conf={**QUICK, "train_epochs": 5}, app=".", cwd=ROOT) as address:
        reader = slicer_client(address, tmpdir=str(tmp_path), client_id="reader")
        assert reader.info()["labels"] == ["lesion"]
        assert wait_for_plan(address)["state"] == "done"

        labelled: list[str] = []
        while len(labelled) < 6:
            sample = reader.next_sample("random", {})
            assert sample["mdal"]["state"] == "planned"
            assert sample["mdal"]["reason"].startswith("Case ")
            image = sitk.ReadImage(str(download(address, sample["id"], tmp_path)))
            assert (
                download(address, sample["id"], tmp_path).name
                == sample["name"]
                == f"{sample['id']}_MR_T1.nii.gz"
            )
            label, about = infer(reader, sample["id"])
            assert same_grid(label, image)
            assert about["ciml"]["state"] == "untrained"
            contour = SAMPLES / sample["id"] / "GTV.nii.gz"
            reader.save_label(
                sample["id"], str(contour), params={"label_info": [{"name": "lesion", "idx": 1}]}
            )
            labelled.append(sample["id"])
        assert len(set(labelled)) == 6
        assert set(reader.datastore()["objects"][labelled[0]]["labels"]) == {"final"}

        first, second = (
            slicer_client(address, client_id=name).next_sample("mdal", {})["id"] for name in "ab"
        )
        assert {first, second} == set(ids) - set(labelled)
        assert slicer_client(address, client_id="c").next_sample("mdal", {}) == {}

        stats = train(address)
        assert (stats["published"], stats["version"], stats["epoch"]) == (True, 1, 5)
        assert (stats["training_cases"], stats["validation_cases"]) == (4, 2)
        overlaps = {}
        for id in (first, second):
            label, about = infer(reader, id)
            told = about["ciml"]
            assert (told["state"], told["version"]) == ("trained", 1)
            assert told["modalities_used"] == ["MR_T1", "CT", "PET"]
            assert 0.0 < told["uncertainty_nats"] < np.log(2)
            assert same_grid(label, sitk.ReadImage(str(download(address, id, tmp_path))))
            overlaps[id] = dice(label, sitk.ReadImage(str(SAMPLES / id / "GTV.nii.gz")))
        assert np.mean(list(overlaps.values())) > 0.2, overlaps  # the empty labels before the training had 0
        numbers = requests.get(f"{address}/mdal/explanation/{first}", timeout=120).json()
        assert numbers["shapley"].keys() == {"MR_T1", "CT", "PET"}
        assert "accounts for" in numbers["sentence"]
        picture = requests.get(f"{address}/mdal/explanation/{first}.png", timeout=120)
        assert picture.headers["content-type"] == "image/png"
        assert picture.content.startswith(b"\x89PNG")
        assert requests.get(f"{address}/mdal/explanation/../secret.png", timeout=60).status_code == 404

    with serving(studies, conf=QUICK) as address:  # and all of it is there after the server was killed
        reader = slicer_client(address, tmpdir=str(tmp_path))
        assert reader.info()["datastore"]["completed"] == 6
        assert infer(reader, first)[1]["ciml"]["version"] == 1
        assert reader.next_sample("diversemd", {}) == {}  # both others still hold their cases


@pytest.mark.parametrize(("layout", "where"), [("dicom", "anywhere"), ("folder", "apps")])
def test_each_modality_gets_a_label_on_its_own_grid_and_the_three_agree(
    layout: str, where: str, tmp_path: Path
) -> None:
    originals = SAMPLES.parent / "dicom"
    studies = tmp_path / "studies"
    if layout == "dicom":
        shutil.copytree(originals, studies)
    else:
        for case in find_pool(originals).cases:
            for modality, source in case.modalities.items():
                write_nifti(read_volume(source), studies / case.id / f"{modality}.nii.gz")
    contours = {path.parent.name: path for path in originals.glob("*/MR_T1_GTV.nii.gz")}
    cwd = ROOT / "apps" if where == "apps" else tmp_path
    if layout == "folder":  # the other layout shows that a training gets here
        outline_uptake(Workspace(studies, AppSettings()))
    with serving(studies, conf={**QUICK, "train_epochs": 4}, cwd=cwd) as address:
        reader = slicer_client(address, tmpdir=str(tmp_path))
        assert sorted(reader.datastore()["objects"]) == sorted(contours)
        assert wait_for_plan(address)["state"] == "done"
        if layout == "dicom":
            for id, contour in contours.items():
                reader.save_label(id, str(contour), params={})
            stats = train(address)
            assert (stats["published"], stats["epoch"]) == (True, 4)
        for id in contours:
            labels = {}
            for modality in ("CT", "PET", "MR_T1"):
                image = sitk.ReadImage(str(download(address, f"{id}_{modality}", tmp_path)))
                labels[modality] = infer(reader, f"{id}_{modality}")[0]
                assert same_grid(labels[modality], image)
            assert len({label.GetSize() for label in labels.values()}) == 3
            for modality in ("CT", "PET"):
                agreement = dice(on_grid_of(labels["MR_T1"], labels[modality]), labels["MR_T1"])
                print(f"{id}: {modality} agrees with MR_T1 by Dice {agreement:.3f}")
                assert agreement >= 0.9, (id, modality)


def test_a_client_gets_a_sentence_never_a_traceback(samples: Callable[..., Path], tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    secret = shutil.copy(SAMPLES / "STS_002" / "CT.nii.gz", outside / "secret.nii.gz")
    quiet = {"MONAI_LABEL_AUTO_UPDATE_SCORING": "false"}  # no plan is asked for
    with serving(samples("STS_002"), conf=QUICK, environment=quiet) as address:
        before = {str(path) for path in tmp_path.rglob("*") if path.is_file()}
        for image in (
            "../outside/secret.nii.gz",
            str(secret),
            "STS_002/../../outside/secret.nii.gz",
            "a\x00b",
            "\uff0e\uff0e/outside",
        ):
            name = quote_plus(image)
            with open(secret, "rb") as file:
                answers = [
                    requests.post(f"{address}/infer/ciml?image={name}", timeout=60),
                    requests.post(
                        f"{address}/infer/ciml?image=STS_002",
                        timeout=60,
                        data={"params": json.dumps({"image": image})},
                    ),
                    requests.post(f"{address}/infer/wsi/ciml?image={name}", timeout=60),
                    requests.get(f"{address}/datastore/image?image={name}", timeout=60),
                    requests.get(f"{address}/datastore/label?label={name}&tag=final", timeout=60),
                    requests.put(f"{address}/datastore/image?image={name}", files={"file": file}, timeout=60),
                    requests.put(
                        f"{address}/datastore/label?image={name}", files={"label": file}, timeout=60
                    ),
                    requests.put(
                        f"{address}/datastore/label?image=STS_002&tag={name}",
                        files={"label": file},
                        timeout=60,
                    ),
                    requests.post(
                        f"{address}/activelearning/{quote_plus(image.replace('/', '_'))}", timeout=60
                    ),
                ]
            for answer in answers:
                assert 400 <= answer.status_code < 500, (
                    image,
                    answer.request.url,
                    answer.status_code,
                    answer.text,
                )
                assert "Traceback" not in answer.text
                assert len(answer.json()["detail"]) > 20
        written = {str(path) for path in tmp_path.rglob("*") if path.is_file()} - before
        assert not [path for path in written if "/.mdal/" not in path], written


def test_studies_that_are_copied_into_the_folder_are_planned_without_a_restart(
    samples: Callable[..., Path],
) -> None:
    studies = samples("STS_002")
    with serving(studies, conf=QUICK | {"refresh_s": 0.5}) as address:
        wait_for_plan(address)
        shutil.copytree(SAMPLES / "STS_008", studies / "STS_008")
        plan = PlanStore.beside(studies / ".mdal")
        wait_until(
            lambda: sorted(plan.order("representative")) == ["STS_002", "STS_008"],
            seconds=120,
            what="a new plan",
        )
        shutil.move(studies / "STS_002", studies.parent / "away")
        shutil.move(studies / "STS_008", studies.parent / "away too")  # as a disk that is cut off
        log = studies.parent / f"{studies.name}.log"
        wait_until(lambda: "none is left" in log.read_text(), seconds=120, what="a warning")
        assert "none is left" in requests.get(f"{address}/mdal/api/today", timeout=60).json()["warnings"][0]
        answer = requests.get(f"{address}/datastore/?output=all", timeout=60).json()
        assert sorted(answer["objects"]) == ["STS_002", "STS_008"]
