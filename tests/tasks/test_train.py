from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from lib.ciml.checkpoint import load, save
from lib.ciml.network import CimlNetwork
from lib.ciml.training import TrainingResult
from lib.datastores.local import CaseDatastore
from lib.refusal import Refusal
from lib.settings import AppSettings
from lib.site import Site
from lib.tasks.infer import CimlInfer
from lib.tasks.train import CimlTrain

Samples = Callable[..., Path]


@pytest.fixture
def site(samples: Samples) -> Site:
    return Site(samples("STS_025", "STS_008", "STS_042"), AppSettings(train_epochs=1))


def model_file(site: Site) -> Path:
    return site.work / "model" / "ciml.pt"


def train_with(
    site: Site, monkeypatch: pytest.MonkeyPatch, *, dice: float, shift: float
) -> dict[str, object]:
    """Train with a stand-in that moves every weight and claims a validation Dice."""

    def stand_in(network: CimlNetwork, *_: object, **__: object) -> TrainingResult:
        with torch.no_grad():
            for weight in network.parameters():
                weight.add_(shift)
        return TrainingResult(1, dice, {"lesion": dice})

    monkeypatch.setattr("lib.tasks.train.train", stand_in)
    return CimlTrain(site, model_file(site))({}, CaseDatastore(site))


def test_a_first_training_publishes_a_model_that_answers(site: Site) -> None:
    stats = CimlTrain(site, model_file(site))({"max_epochs": 1}, CaseDatastore(site))
    assert (stats["published"], stats["version"]) == (True, 1)
    assert stats["training_cases"] + stats["validation_cases"] == 3
    assert CimlTrain(site, model_file(site)).stats() == stats
    case = site.pool.by_id["STS_008"]
    file, about = CimlInfer(site, model_file(site))({"case": case, "modality": "PET"})
    assert about["ciml"]["version"] == 1
    assert sitk.ReadImage(file).GetSize() == sitk.ReadImage(str(case.modalities["PET"].path)).GetSize()


def test_a_worse_model_is_never_published(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    train_with(site, monkeypatch, dice=0.9, shift=0.0)
    before = model_file(site).read_bytes()
    monkeypatch.setattr("lib.tasks.train.validate", lambda *_, **__: {"lesion": 0.9})
    stats = train_with(site, monkeypatch, dice=0.5, shift=0.1)
    assert (stats["published"], stats["version"], stats["previous_dice"]) == (False, 1, 0.9)
    assert model_file(site).read_bytes() == before
    better = train_with(site, monkeypatch, dice=0.95, shift=0.1)
    assert (better["published"], better["version"]) == (True, 2)
    assert load(model_file(site))[1]["version"] == 2


def test_no_patient_is_on_both_sides(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    train_with(site, monkeypatch, dice=0.9, shift=0.0)
    metadata = load(model_file(site))[1]
    assert metadata["validated_on"]
    assert not set(metadata["trained_on"]) & set(metadata["validated_on"])


def test_too_few_labels_are_refused_with_how_many_are_missing(samples: Samples) -> None:
    site = Site(samples("STS_025", "STS_008", labels=False), AppSettings())
    with pytest.raises(Refusal, match=r"at least 2 patients; there are 0\. Label 2 more"):
        CimlTrain(site, model_file(site))({}, CaseDatastore(site))


@pytest.mark.parametrize("epochs", ["many", 0, -1, 1.5, True, None])
def test_a_number_of_epochs_that_is_none_is_refused(site: Site, epochs: object) -> None:
    with pytest.raises(Refusal, match="max_epochs must be a whole number"):
        CimlTrain(site, model_file(site))({"max_epochs": epochs}, CaseDatastore(site))


def test_before_any_training_the_label_is_empty_and_says_so(site: Site) -> None:
    case = site.pool.by_id["STS_008"]
    file, about = CimlInfer(site, model_file(site))({"case": case, "modality": "CT"})
    assert about["ciml"]["state"] == "untrained"
    assert "Label 2 cases" in about["ciml"]["message"]
    assert not sitk.GetArrayFromImage(sitk.ReadImage(file)).any()


@pytest.mark.parametrize("suffix", [".nii.gz", ".nii", ".nrrd"])
def test_the_label_lies_on_the_asked_grid_in_every_format(site: Site, suffix: str) -> None:
    network = CimlNetwork(site.decomposition, site.preparation.modalities)
    save(model_file(site), network, {"version": 7})
    case = site.pool.by_id["STS_008"]
    request = {"case": case, "modality": "CT", "result_extension": suffix, "result_compress": False}
    label = sitk.ReadImage(CimlInfer(site, model_file(site))(request)[0])
    image = sitk.ReadImage(str(case.modalities["CT"].path))
    assert label.GetPixelID() == sitk.sitkUInt8
    assert label.GetSize() == image.GetSize()
    for geometry in ("GetOrigin", "GetSpacing", "GetDirection"):
        np.testing.assert_allclose(getattr(label, geometry)(), getattr(image, geometry)(), atol=1e-4)


def test_a_new_model_is_the_one_that_answers_without_a_restart(site: Site) -> None:
    infer, case = CimlInfer(site, model_file(site)), site.pool.by_id["STS_025"]
    network = CimlNetwork(site.decomposition, site.preparation.modalities)
    for version in (1, 2):
        save(model_file(site), network, {"version": version})
        assert infer({"case": case, "modality": "CT"})[1]["ciml"]["version"] == version


def test_an_impossible_format_is_refused(site: Site) -> None:
    with pytest.raises(Refusal, match="result_extension must be one of"):
        CimlInfer(site, model_file(site))(
            {"case": site.pool.by_id["STS_025"], "modality": "CT", "result_extension": "/../x"}
        )


def test_a_quarantined_case_is_not_trained_on_in_a_process_that_did_not_check(
    samples: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    studies = samples("STS_025", "STS_008", "STS_042", "STS_019")
    Site(studies, AppSettings()).check()
    train_with(Site(studies, AppSettings()), monkeypatch, dice=0.9, shift=0.0)
    metadata = load(studies / ".mdal" / "model" / "ciml.pt")[1]
    assert sorted(metadata["trained_on"] + metadata["validated_on"]) == ["STS_008", "STS_025", "STS_042"]


def test_a_model_for_other_labels_is_not_asked(site: Site) -> None:
    network = CimlNetwork(site.decomposition, site.preparation.modalities)
    save(model_file(site), network, {"version": 1})
    renamed = Site(site.studies, AppSettings(labels=("necrosis",)))
    with pytest.raises(Refusal, match="trained on MR_T1, CT, PET for lesion; this pool has"):
        CimlInfer(renamed, model_file(site))({"case": renamed.pool.by_id["STS_025"], "modality": "CT"})
