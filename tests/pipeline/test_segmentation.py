"""A case segmented once and served again: on every grid, by the model and of the case as they are now."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from lib.cases.boxes import whole_box
from lib.cases.formats.image import Grid, read_grid
from lib.ciml.decomposition.table import Decomposition, decomposition_for
from lib.ciml.inference.predict import Answer
from lib.ciml.network.ciml_network import CimlNetwork
from lib.ciml.network.settings import NetworkSettings
from lib.pipeline.segmentation import ModelMismatch, Segmenter
from lib.pipeline.segmentation_cache import Segmentation, SegmentationCache
from lib.pipeline.settings import AppSettings
from lib.pipeline.workspace import Workspace
from lib.runtime.errors import UserError

Samples = Callable[..., Path]
SMALL = NetworkSettings(channels=(4, 8), strides=((1, 2, 2), (2, 2, 2)), message_channels=2, message_levels=2)
GLIOMA = decomposition_for(("T1", "T1ce", "T2", "FLAIR"))


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def workspace(samples: Samples) -> Workspace:
    return Workspace(samples("STS_025", "STS_008"), AppSettings())


def publish(workspace: Workspace, seed: int = 0) -> int:
    torch.manual_seed(seed)
    return workspace.models.publish(
        CimlNetwork(workspace.decomposition, workspace.preparation.modalities, SMALL), {}
    )


def made(
    probabilities: np.ndarray, decomposition: Decomposition = GLIOMA, grid: Grid | None = None
) -> Segmentation:
    shape = probabilities.shape[1:]
    answer = Answer(probabilities.astype(np.float32), whole_box(shape), shape, 0.0, {}, "cpu", "float32", "")
    return Segmentation.of(answer, grid or Grid(shape, np.eye(4)), decomposition, {"prefetched": False})


def test_a_kept_answer_gives_the_label_that_the_probabilities_gave(tmp_path: Path) -> None:
    probabilities = np.random.default_rng(0).uniform(size=(3, 9, 8, 7)).astype(np.float32)
    probabilities[:, :, :2] = 0.0
    probabilities[:, 0, 5, 5] = 0.5  # belongs, and just below does not
    probabilities[:, 0, 6, 6] = np.nextafter(np.float32(0.5), np.float32(0.0))
    segmentation = made(probabilities)
    segmentation.save(tmp_path / "kept.npz")
    kept = Segmentation.load(tmp_path / "kept.npz")
    expected = GLIOMA.labels_of(probabilities)
    assert set(np.unique(expected)) == {0, 1, 2, 3}
    np.testing.assert_array_equal(kept.label_on(segmentation.grid), expected)
    assert kept.probabilities.shape[2] == 6  # what is 0 everywhere is not kept


def test_nothing_found_is_an_empty_label_of_which_the_model_is_sure() -> None:
    segmentation = made(np.zeros((3, 5, 6, 7)))
    other = Grid((4, 4, 4), np.diag([2.0, 2.0, 2.0, 1.0]))
    elsewhere = np.eye(4)
    elsewhere[:3, 3] = 900.0
    for grid in (segmentation.grid, other, Grid((4, 4, 4), elsewhere)):
        assert not segmentation.label_on(grid).any()
        assert not segmentation.uncertainty_on(grid).any()


def test_the_model_is_least_sure_where_a_probability_is_a_half() -> None:
    probabilities = np.zeros((3, 4, 5, 6))
    probabilities[:, 1, 2, 3] = 0.5
    probabilities[:, 1, 2, 4] = (0.5, 0.0, 1.0)
    probabilities[:, 1, 3, 4] = 1.0
    uncertainty = made(probabilities).uncertainty_on(Grid((4, 5, 6), np.eye(4)))
    assert uncertainty.dtype == np.float32
    assert uncertainty[1, 2, 3] == pytest.approx(np.log(2.0))
    assert uncertainty[1, 2, 4] == pytest.approx(np.log(2.0) / 3, abs=0.01)  # probabilities are in 1/256
    assert uncertainty[1, 3, 4] < 0.03
    assert np.count_nonzero(uncertainty) == 3


@pytest.mark.parametrize(
    "affine",
    [
        np.diag([0.5, 0.5, 2.0, 1.0]),
        np.array([[-1.0, 0, 0, 20], [0, -1.0, 0, 22], [0, 0, 1.0, 3], [0, 0, 0, 1]]),
        np.array([[0.0, 0, 1.2, 1], [1.1, 0, 0, 2], [0, 0.9, 0, -1], [0, 0, 0, 1]]),
    ],
)
def test_on_another_grid_the_label_lies_where_the_lesion_is(affine: np.ndarray) -> None:
    decomposition = decomposition_for(("CT", "PET"))
    depth, height, width = np.indices((20, 24, 22))
    inside = ((depth - 9) ** 2 + (height - 12) ** 2 + (width - 10) ** 2) < 36
    segmentation = made(inside[None].astype(float), decomposition)
    grid = Grid((30, 40, 44), affine)
    index = np.stack([*np.indices(grid.shape)[::-1], np.ones(grid.shape)])  # (4, D, H, W): i, j, k, 1
    x, y, z, _ = np.tensordot(affine, index, axes=1)
    distance = np.sqrt((z - 9) ** 2 + (y - 12) ** 2 + (x - 10) ** 2)
    label = segmentation.label_on(grid)
    assert label[distance < 5].all()
    assert not label[distance > 7].any()


def test_a_case_is_segmented_once_and_told_so(workspace: Workspace) -> None:
    publish(workspace)
    case, segmenter = workspace.pool.by_id["STS_008"], Segmenter(workspace)
    assert not segmenter.is_ready(case)
    first, second = segmenter.segment(case), Segmenter(workspace).segment(case)
    assert first is not None
    assert second is not None
    assert segmenter.is_ready(case)
    assert (first.cached, second.cached, second.about["prefetched"]) == (False, True, False)
    assert second.seconds["infer"] == 0.0 < first.seconds["infer"]
    for modality in case.modalities.values():
        grid = read_grid(modality)
        np.testing.assert_array_equal(first.label_on(grid), second.label_on(grid))
    assert first.about["modalities_used"] == ["MR_T1", "CT", "PET"]
    assert 0.0 < first.about["uncertainty_nats"] <= np.log(2) + 1e-6


def test_volumes_are_those_of_the_label(workspace: Workspace) -> None:
    publish(workspace)
    segmented = Segmenter(workspace).segment(workspace.pool.by_id["STS_008"])
    assert segmented is not None
    grid = Grid((2, 3, 4), np.diag([10.0, 10.0, 10.0, 1.0]))
    label = np.zeros(grid.shape, dtype=np.uint8)
    label[0, 0, :3] = 1
    assert segmented.volumes_ml(label, grid) == {
        "volumes_ml": {"lesion": pytest.approx(3.0)},
        "region_volumes_ml": {"lesion": pytest.approx(3.0)},
    }


def test_what_another_model_said_is_not_served_and_is_dropped(workspace: Workspace) -> None:
    publish(workspace)
    case, segmenter = workspace.pool.by_id["STS_025"], Segmenter(workspace)
    before = segmenter.segment(case, prefetching=True)
    assert before is not None
    publish(workspace, seed=1)
    assert not segmenter.is_ready(case)
    after = segmenter.segment(case)
    assert after is not None
    assert (before.about["version"], after.about["version"], after.cached) == (1, 2, False)
    published = segmenter.published()
    assert published is not None
    segmenter.cache.keep_only(published.key)
    assert [folder.name for folder in segmenter.cache.folder.iterdir()] == [published.key]


def test_a_version_that_was_chosen_answers_in_every_process(workspace: Workspace) -> None:
    publish(workspace)
    publish(workspace, seed=1)
    segmenter, elsewhere = (
        Segmenter(workspace),
        Segmenter(Workspace(workspace.folders.studies, AppSettings())),
    )
    for version, answers in ((1, 1), (0, 2)):
        segmenter.serve(version)
        for process in (segmenter, elsewhere):
            segmented = process.segment(workspace.pool.by_id["STS_025"])
            assert segmented is not None
            assert segmented.about["version"] == answers


def test_no_version_is_chosen_that_could_not_answer(workspace: Workspace) -> None:
    publish(workspace)
    renamed = Workspace(workspace.folders.studies, AppSettings(labels=("necrosis",)))
    with pytest.raises(ModelMismatch, match="Train again"):
        Segmenter(renamed).serve(1)
    with pytest.raises(UserError, match=r"one of 1; got 4\."):
        Segmenter(workspace).serve(4)
    assert workspace.models.chosen() == 0


def test_a_case_that_changed_is_segmented_again_and_its_past_is_dropped(workspace: Workspace) -> None:
    publish(workspace)
    case, segmenter = workspace.pool.by_id["STS_025"], Segmenter(workspace)
    segmenter.segment(case)
    file = case.modalities["CT"].path
    image = nib.load(file)
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj) + 5, image.affine), file)
    again = segmenter.segment(case)
    assert again is not None
    assert not again.cached
    assert len(list(segmenter.cache.folder.glob("*/*.npz"))) == 1


def test_a_model_for_other_labels_is_not_asked(workspace: Workspace) -> None:
    publish(workspace)
    Segmenter(workspace).segment(workspace.pool.by_id["STS_025"])
    renamed = Workspace(workspace.folders.studies, AppSettings(labels=("necrosis",)))
    with pytest.raises(
        ModelMismatch, match=r"trained on MR_T1, CT, PET for lesion; this pool has .* Train again"
    ):
        Segmenter(renamed).segment(renamed.pool.by_id["STS_025"])


def test_the_cache_stays_within_its_bytes_and_drops_what_was_longest_unused(tmp_path: Path) -> None:
    segmentation = made(np.random.default_rng(0).uniform(0.1, 1.0, size=(3, 10, 10, 10)))
    segmentation.save(tmp_path / "one.npz")
    size = (tmp_path / "one.npz").stat().st_size
    cache = SegmentationCache(tmp_path / "cache", max_bytes=int(2.5 * size))
    for case in ("a", "b"):
        cache.put("model", case, "key", segmentation)
    assert cache.get("model", "a", "key") is not None
    cache.put("model", "c", "key", replace(segmentation, about={}))
    assert [cache.has("model", case, "key") for case in "abc"] == [True, False, True]
    assert cache.size() <= cache.max_bytes


def test_a_damaged_entry_is_made_again(tmp_path: Path) -> None:
    cache = SegmentationCache(tmp_path, max_bytes=10**9)
    cache.put("model", "a", "key", made(np.ones((3, 4, 4, 4))))
    file = next(tmp_path.glob("*/*.npz"))
    file.write_bytes(file.read_bytes()[:-200])
    assert cache.get("model", "a", "key") is None
    assert not cache.has("model", "a", "key")
