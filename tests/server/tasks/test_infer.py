"""What MONAI Label's clients get from the infer task."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from lib.ciml.network.ciml_network import CimlNetwork
from lib.pipeline.settings import AppSettings
from lib.pipeline.workspace import Workspace
from lib.server.errors import ClientError
from lib.server.tasks.infer import CimlInfer

Samples = Callable[..., Path]


@pytest.fixture
def workspace(samples: Samples) -> Workspace:
    torch.set_num_threads(1)
    return Workspace(samples("STS_008"), AppSettings())


def publish(workspace: Workspace) -> None:
    torch.manual_seed(0)
    workspace.models.publish(CimlNetwork(workspace.decomposition, workspace.preparation.modalities), {})


def request(workspace: Workspace, **more: object) -> dict[str, object]:
    return {"case": workspace.pool.by_id["STS_008"], "modality": "CT", **more}


def test_an_answer_tells_times_volumes_and_uncertainty(workspace: Workspace) -> None:
    publish(workspace)
    infer = CimlInfer(workspace)
    first, second = (infer(request(workspace)) for _ in range(2))
    for (file, about), cached in ((first, False), (second, True)):
        label = sitk.ReadImage(file)
        voxels = int(sitk.GetArrayFromImage(label).sum())
        assert about["volumes_ml"] == about["region_volumes_ml"]
        assert about["volumes_ml"]["lesion"] == pytest.approx(
            voxels * np.prod(label.GetSpacing()) / 1000, rel=1e-3
        )
        assert set(about["latencies"]) == {"read", "pre", "infer", "post", "write", "total"}
        assert about["latencies"]["total"] >= about["latencies"]["read"]
        told = about["ciml"]
        assert (told["state"], told["version"], told["cached"], told["prefetched"]) == (
            "trained",
            1,
            cached,
            False,
        )
        assert told["modalities_used"] == ["MR_T1", "CT", "PET"]
        assert "shapley" not in told  # a reader who waits is not kept waiting for them
        assert 0.0 <= told["uncertainty_nats"] <= np.log(2) + 1e-6
        Path(file).unlink()
    assert first[1]["volumes_ml"] == second[1]["volumes_ml"]


def test_an_answer_that_was_made_ahead_tells_what_each_modality_accounts_for(workspace: Workspace) -> None:
    publish(workspace)
    infer = CimlInfer(workspace)
    infer.segmenter.segment(request(workspace)["case"], prefetching=True)
    _, about = infer(request(workspace))
    assert about["ciml"]["prefetched"]
    assert set(about["ciml"]["shapley"]) in (set(), {"MR_T1", "CT", "PET"})
    assert about["ciml"]["sentence"].endswith(("(Shapley values).", "no modality accounts for it."))


def test_an_uncompressed_nrrd_for_ohif_is_the_same_label(workspace: Workspace) -> None:
    publish(workspace)
    infer = CimlInfer(workspace)
    labels = []
    for more in ({}, {"result_extension": ".nrrd", "result_compress": False}):
        file, _ = infer(request(workspace, **more))
        labels.append(sitk.GetArrayFromImage(sitk.ReadImage(file)))
        size = Path(file).stat().st_size
        Path(file).unlink()
    assert size > labels[1].size
    np.testing.assert_array_equal(*labels)


def test_before_any_training_the_label_is_empty_and_says_so(workspace: Workspace) -> None:
    infer = CimlInfer(workspace)
    assert infer.get_path() is None
    file, about = infer(request(workspace))
    assert not sitk.GetArrayFromImage(sitk.ReadImage(file)).any()
    assert about["ciml"]["state"] == "untrained"
    assert about["volumes_ml"] == {"lesion": 0.0}
    Path(file).unlink()


def test_what_cannot_be_answered_is_refused_with_a_sentence(workspace: Workspace) -> None:
    publish(workspace)
    with pytest.raises(ClientError, match="result_extension must be one of"):
        CimlInfer(workspace)(request(workspace, result_extension="/../x"))
    renamed = Workspace(workspace.folders.studies, AppSettings(labels=("necrosis",)))
    with pytest.raises(ClientError, match="this pool has") as refused:
        CimlInfer(renamed)(request(renamed))
    assert refused.value.status_code == 409
