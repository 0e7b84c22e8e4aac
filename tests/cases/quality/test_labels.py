"""Labels beside the images: one that does not lie on its images is held back, a sound one never is."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray

from lib.cases.discovery.layouts import find_pool
from lib.cases.formats.image import Grid, Volume
from lib.cases.placement import outlined_part, share_inside, share_within, volume_on
from lib.cases.quality.label_turns import turned_fit
from lib.cases.quality.measurements import measure
from lib.pipeline.training_data import labelled_cases
from lib.server.datastore import CaseDatastore
from lib.server.errors import ClientError
from tests.support.checked_samples import PREPARATION, SAMPLES
from tests.support.images import write_body
from tests.support.pools import check_here, open_datastore

Saved = tuple[NDArray[np.uint8], NDArray[np.float64]]
Change = Callable[[NDArray[np.uint8], NDArray[np.float64]], Saved]


def pool(folder: Path, change: Change | None = None, **settings: object) -> CaseDatastore:
    """A case with two images; its label, a box in the body, as another program wrote it."""
    image = nib.load(write_body(folder / "p1" / "T2.nii.gz"))
    write_body(folder / "p1" / "T1.nii.gz", seed=1)
    array = np.zeros((24, 20, 16), dtype=np.uint8)
    array[3:9, 4:14, 4:9] = 1
    affine = image.affine
    if change:
        array, affine = change(array, affine)
    nib.save(nib.Nifti1Image(array, affine), folder / "p1" / "GTV.nii.gz")
    return open_datastore(folder, **settings)


LESION = (slice(3, 9), slice(4, 10), slice(4, 9))  # along the axes of the file
TURNED: dict[str, tuple[Callable[[NDArray[np.uint8]], NDArray[np.uint8]], str]] = {
    "along W": (lambda array: array[::-1], "when mirrored along its columns"),
    "along H": (lambda array: array[:, ::-1], "when mirrored along its rows"),
    "along D": (lambda array: array[:, :, ::-1], "when mirrored along its slices"),
    "both": (lambda array: array[::-1, ::-1], "when turned by half a circle in its slices"),
}


def drawn(folder: Path, turn: Callable[[NDArray[np.uint8]], NDArray[np.uint8]], *names: str) -> CaseDatastore:
    """A case whose images show a lesion, and a label of it with its axes turned."""
    for seed, name in enumerate(names):
        image = nib.load(write_body(folder / "p1" / f"{name}.nii.gz", seed=seed, lesion=LESION))
    array = np.zeros((24, 20, 16), dtype=np.uint8)
    array[LESION] = 1
    nib.save(nib.Nifti1Image(turn(array), image.affine), folder / "p1" / "GTV.nii.gz")
    return open_datastore(folder)


@pytest.mark.parametrize(("turn", "sentence"), TURNED.values(), ids=TURNED)
def test_a_label_with_its_axes_turned_is_held_back_although_it_lies_in_the_body(
    tmp_path: Path, turn: Callable[[NDArray[np.uint8]], NDArray[np.uint8]], sentence: str
) -> None:
    datastore = drawn(tmp_path, turn, "T1", "T2")
    assert sentence in checked(datastore)
    assert datastore.labelled() == set()


def test_a_label_that_its_images_show_where_it_lies_is_used(tmp_path: Path) -> None:
    assert checked(drawn(tmp_path, lambda array: array, "T1", "T2")) == ""


def test_rows_and_columns_that_were_exchanged_fit_better_exchanged_back() -> None:
    rng = np.random.default_rng(0)
    label = np.zeros((12, 16, 16), dtype=bool)
    label[2:8, 2:6, 8:14] = True
    images = {name: (rng.normal(size=label.shape) + 9 * label).astype(np.float32) for name in ("T1", "T2")}
    bodies = dict.fromkeys(images, np.ones(label.shape, dtype=bool))
    found = turned_fit(label.transpose(0, 2, 1), images, bodies)
    assert found is not None
    assert found["turn"] == "with its rows and columns exchanged"
    assert found["best"] > 0.7 > 0.2 > found["present"]
    del images["T2"]
    assert turned_fit(label, images, bodies) is None  # one image says too little


def checked(datastore: CaseDatastore) -> str:
    """The sentences of a check about the label; the verdicts of the workspace are those of the check."""
    judged = check_here(datastore.workspace)
    return " ".join(each.sentence for each in judged["p1"].findings if each.code.startswith("label"))


def moved(affine: NDArray[np.float64], *mm: float) -> NDArray[np.float64]:
    affine = affine.copy()
    affine[:3, 3] += mm
    return affine


def finer(array: NDArray[np.uint8], affine: NDArray[np.float64]) -> Saved:
    """Half the voxel size, cut to what is outlined."""
    affine = moved(affine @ np.diag([0.5, 0.5, 0.5, 1.0]), 12 - 1, 16 - 1, 16 - 1)
    return np.ones((12, 20, 10), np.uint8), affine


SOUND: dict[str, Change] = {
    "the image's grid": lambda array, affine: (array, affine),
    "rounded numbers": lambda array, affine: (array, moved(affine, 0.3, -0.3, 0.1)),
    "a finer grid of its own": finer,
    "other axes, said so": lambda array, affine: (
        array.transpose(2, 0, 1)[:, ::-1],
        affine[:, [2, 0, 1, 3]] @ np.array([[1, 0, 0, 0], [0, -1, 0, 23], [0, 0, 1, 0], [0, 0, 0, 1.0]]),
    ),
    "no lesion": lambda array, affine: (array * 0, affine),
    "one voxel": lambda array, affine: (
        np.where(np.arange(array.size).reshape(array.shape) == 3000, 1, 0).astype(np.uint8),
        affine,
    ),
}
LOST: dict[str, tuple[Change, str]] = {
    "identity": (lambda array, affine: (array, np.eye(4)), "It has the size of T2 but lies elsewhere"),
    "origin lost": (
        lambda array, affine: (array, np.diag([4.0, 4.0, 4.0, 1.0])),
        "It has the size of T2 but lies elsewhere, 103 mm away",
    ),
    "flipped header": (
        lambda array, affine: (array, affine @ np.diag([-1.0, -1.0, 1.0, 1.0])),
        "It has the size of T2 but lies elsewhere",
    ),
    "axes exchanged": (
        lambda array, affine: (array.transpose(2, 1, 0), affine),
        "It has the size of T2 but lies elsewhere",
    ),
    "cropped, origin lost": (
        lambda array, affine: (array[3:9, 4:14, 4:9], np.diag([4.0, 4.0, 4.0, 1.0])),
        "inside the field of view of T2",
    ),
    "half outside": (
        lambda array, affine: (array[3:9, 4:14, 4:9], moved(affine, -8.0, 0.0, 0.0)),
        "67% of it lies inside the field of view of T2",
    ),
    "in the air": (
        lambda array, affine: (np.roll(np.roll(array, -2, axis=0), -4, axis=1), affine),
        "of it lies in the body (at least 90% expected)",
    ),
}


@pytest.mark.parametrize("change", SOUND.values(), ids=SOUND)
def test_a_label_that_lies_on_its_images_is_used(tmp_path: Path, change: Change) -> None:
    datastore = pool(tmp_path, change)
    assert checked(datastore) == ""
    assert datastore.labelled() == {"p1"}
    label = datastore.labels.read(datastore.workspace.pool.by_id["p1"]).array
    assert label.sum() == nib.load(tmp_path / "p1" / "GTV.nii.gz").get_fdata().sum()


@pytest.mark.parametrize(("change", "sentence"), LOST.values(), ids=LOST)
def test_a_label_without_a_place_is_held_back_and_its_case_is_served_without_it(
    tmp_path: Path, change: Change, sentence: str
) -> None:
    datastore = pool(tmp_path, change)
    before = (tmp_path / "p1" / "GTV.nii.gz").read_bytes()
    assert sentence in (text := checked(datastore))
    assert "the case is served as one without a label" in text
    workspace = datastore.workspace
    assert workspace.verdicts.by_case["p1"].status == "warned"
    assert [case.id for case in workspace.verdicts.served] == ["p1"]
    assert datastore.labelled() == set()
    assert datastore.labels.files_of(workspace.pool.by_id["p1"]) == {}
    assert (tmp_path / "p1" / "GTV.nii.gz").read_bytes() == before


def test_a_misplaced_label_is_used_once_a_person_released_its_case(tmp_path: Path) -> None:
    datastore = pool(tmp_path, LOST["in the air"][0], released=("p1",))
    assert "--conf released=p1" in checked(datastore)
    assert datastore.labelled() == {"p1"}


def test_a_misplaced_label_that_was_released_is_held_back_again_once_it_changes(tmp_path: Path) -> None:
    datastore = pool(tmp_path, LOST["in the air"][0])
    checked(datastore)
    verdicts, label = datastore.workspace.verdicts, tmp_path / "p1" / "GTV.nii.gz"
    assert verdicts.is_held("p1")
    verdicts.release("p1", by="ada")
    assert datastore.labelled() == {"p1"}
    os.utime(label, (0, 0))
    checked(datastore)
    assert verdicts.is_held("p1")
    assert datastore.labelled() == set()


def test_a_label_that_cannot_be_read_stays_held_even_where_its_case_is_released(tmp_path: Path) -> None:
    datastore = pool(tmp_path, released=("p1",))
    (tmp_path / "p1" / "GTV.nii.gz").write_bytes(b"damaged")
    assert "GTV.nii.gz" in checked(datastore)
    assert datastore.labelled() == set()


def test_a_held_label_is_used_again_after_it_was_mended(tmp_path: Path) -> None:
    datastore = pool(tmp_path, LOST["identity"][0])
    workspace = datastore.workspace
    workspace.check()
    assert workspace.recall_check()
    assert datastore.labelled() == set()
    pool(tmp_path)
    workspace.refresh()
    assert not workspace.recall_check()
    check_here(workspace)
    assert datastore.labelled() == {"p1"}


def test_labels_that_are_left_out_by_the_setting_are_not_judged(tmp_path: Path) -> None:
    assert checked(pool(tmp_path, LOST["identity"][0], study_labels="ignore")) == ""


def test_a_lesion_that_the_reference_is_too_coarse_for_is_held_back(tmp_path: Path) -> None:
    def speck(array: NDArray[np.uint8], affine: NDArray[np.float64]) -> Saved:
        return np.ones((2, 2, 2), np.uint8), moved(
            affine @ np.diag([0.25, 0.25, 0.25, 1.0]), 33.0, 33.0, 33.0
        )

    text = checked(pool(tmp_path, speck))
    assert "Of 0.008 ml 0 ml are left on the grid of T2" in text


def test_a_submitted_label_that_its_grid_has_no_voxel_for_is_refused(tmp_path: Path) -> None:
    datastore = pool(tmp_path)
    fine = np.array([[1.0, 0, 0, -57], [0, 1, 0, 73], [0, 0, 1, 63], [0, 0, 0, 1]])
    nib.save(nib.Nifti1Image(np.ones((2, 2, 2), np.uint8), fine), tmp_path / "sent.nii.gz")
    write_body(tmp_path / "p2" / "T1.nii.gz", seed=2)
    nib.save(nib.load(tmp_path / "p1" / "GTV.nii.gz"), tmp_path / "p2" / "GTV.nii.gz")
    datastore = open_datastore(tmp_path)
    with pytest.raises(ClientError, match=r"nothing of this one is left there. Outline it on that image"):
        datastore.save_label("p1", str(tmp_path / "sent.nii.gz"), "final", {})
    assert not labelled_cases(datastore.workspace).left_out


def test_every_sample_lies_on_its_images() -> None:
    case = next(case for case in find_pool(SAMPLES, layout="folder").cases if case.id == "STS_019")
    label = measure(case, PREPARATION)["label"]
    assert label["kept_ml"] == pytest.approx(label["ml"])
    assert max(label["body"].values()) == 1.0
    assert label["body"]["CT"] == pytest.approx(0.81, abs=0.03)  # its CT is really misregistered
    assert label["twin"] is None


def test_shares_count_voxels_and_agree_with_a_voxel_by_voxel_count() -> None:
    rng = np.random.default_rng(0)
    mask = outlined_part(Volume((rng.random((5, 6, 7)) < 0.3).astype(np.uint16), Grid((5, 6, 7), np.eye(4))))
    assert mask is not None
    turn = np.array(
        [[0.0, -1.9831, 0.1945, 4.0], [2.0, 0.0, 0.0, 1.0], [0.0, 0.2593, 1.4873, -1.0], [0, 0, 0, 1]]
    )
    grid, other = Grid((4, 3, 2), turn), rng.random((4, 3, 2)) < 0.5
    inside = within = 0
    for d, h, w in np.argwhere(mask.array):
        x, y, z = np.linalg.solve(turn, mask.grid.affine @ [w, h, d, 1])[:3]
        place = np.array([z, y, x])
        inside += bool(((place >= -0.501) & (place <= np.array(grid.shape) - 0.499)).all())
        if ((place >= -1.501) & (place <= np.array(grid.shape) + 0.501)).all():
            within += bool(other[tuple(np.clip(np.rint(place), 0, np.array(grid.shape) - 1).astype(int))])
    assert 0 < inside < mask.array.sum()
    assert share_inside(mask, grid) == inside / mask.array.sum()
    assert share_within(mask, other, grid) == within / mask.array.sum()
    assert volume_on(mask, mask.grid) == pytest.approx(mask.array.sum() / 1000.0)
