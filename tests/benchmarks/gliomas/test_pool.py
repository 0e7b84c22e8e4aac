"""Whether the generated pool is what its docstrings say."""

from __future__ import annotations

import csv
import hashlib
import io
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from benchmarks.gliomas.anatomy import Array, Head, draw_head
from benchmarks.gliomas.examination import make
from benchmarks.gliomas.figure import write_figure
from benchmarks.gliomas.lesions import (
    COMMON_SHARE,
    KINDS,
    RARE,
    UNIQUE_MODALITIES,
    Grown,
    draw_lesion,
    grow,
    quota,
)
from benchmarks.gliomas.plan import Patient, Shares, draw_patients
from benchmarks.gliomas.pool import write_pool
from benchmarks.gliomas.scanner import DAMAGES, MODALITIES, SCANNERS, damage, signals
from lib.cases.case import Source
from lib.cases.discovery.layouts import find_pool
from lib.cases.formats.image import read_volume


def quiet() -> Console:
    return Console(file=io.StringIO())


def patients(cases: int = 300, test: int = 60, **shares: float) -> list[Patient]:
    return draw_patients(cases, test, Shares(**shares), seed=0)


@pytest.fixture(scope="module")
def head() -> Head:
    return draw_head(np.random.default_rng(0), age=0.5)


def rendered(head: Head, kind: str, *, unique: str = "") -> tuple[dict[str, Array], Grown]:
    lesion = grow(draw_lesion(np.random.default_rng(1), kind), head, np.random.default_rng(2), unique=unique)
    images = signals(head, lesion, contrast=1.0, unique=unique, rng=np.random.default_rng(3))
    return dict(zip(MODALITIES, images, strict=True)), lesion


@pytest.mark.parametrize(
    ("kind", "unique", "expected"),
    [
        ("ring", "", {1, 2, 3}),
        ("solid", "", {2, 3}),
        ("infiltrating", "T1ce", {2, 3}),
        ("cystic", "T2", {1, 2}),
    ],
)
def test_regions_cover_the_lesion_and_are_those_of_its_kind(
    head: Head, kind: str, unique: str, expected: set[int]
) -> None:
    _, lesion = rendered(head, kind, unique=unique)
    assert np.array_equal(lesion.regions > 0, lesion.label)
    assert set(np.unique(lesion.regions)) - {0} == expected
    if unique:
        assert set(lesion.regions[lesion.unique_label]) == {3 if unique == "T1ce" else 2}


def test_tissues_fill_every_voxel_and_no_voxel_twice(head: Head) -> None:
    total = sum(head.tissues.values())
    assert np.abs(total - 1.0).max() < 1e-5
    assert min(share.min() for share in head.tissues.values()) > -1e-6


def test_a_head_is_as_large_as_an_adults(head: Head) -> None:
    brain_ml = float((head.tissues["grey"] + head.tissues["white"]).sum()) * 0.045
    assert 700 < brain_ml < 1400  # the slab ends above the lower brain


def test_tissues_have_the_order_of_grey_values_that_each_contrast_is_known_for(head: Head) -> None:
    images, lesion = rendered(head, "ring")
    sound = (head.hyperintensity < 0.01) & (head.enhancing < 0.01) & (sum(lesion.components.values()) < 0.01)
    level = {
        name: {
            tissue: image[sound & (head.tissues[tissue] > 0.9)].mean()
            for tissue in ("csf", "grey", "white", "bone")
        }
        for name, image in images.items()
    }
    assert level["T1"]["white"] > level["T1"]["grey"] > level["T1"]["csf"]
    assert level["T2"]["csf"] > level["T2"]["grey"] > level["T2"]["white"]
    assert level["FLAIR"]["grey"] > level["FLAIR"]["white"] > level["FLAIR"]["csf"]
    assert all(levels["bone"] < levels["grey"] for levels in level.values())


def test_a_rim_is_bright_on_t1ce_only_and_oedema_on_t2_and_flair(head: Head) -> None:
    images, lesion = rendered(head, "ring")
    rim = lesion.components["enhancing"] * (1.0 - lesion.components["necrosis"]) > 0.7
    oedema = (lesion.components["oedema"] > 0.9) & (lesion.components["enhancing"] < 0.01)
    white = (head.tissues["white"] > 0.9) & (head.depth > 10) & ~lesion.label & (head.hyperintensity < 0.01)
    assert images["T1ce"][rim].mean() > 1.25 * images["T1ce"][white].mean()
    assert images["T1"][rim].mean() < images["T1"][white].mean()
    assert all(images[name][oedema].mean() > 1.4 * images[name][white].mean() for name in ("T2", "FLAIR"))


@pytest.mark.parametrize("modality", UNIQUE_MODALITIES)
def test_the_unique_part_is_labelled_and_changes_no_other_modality(head: Head, modality: str) -> None:
    images, lesion = rendered(head, "solid", unique=modality)
    hidden = signals(head, lesion, contrast=1.0, unique="", rng=np.random.default_rng(3))
    assert lesion.unique_label.sum() > 20
    assert (lesion.label & lesion.unique_label).sum() == lesion.unique_label.sum()
    for name, without in zip(MODALITIES, hidden, strict=True):
        assert np.array_equal(images[name], without) == (name != modality)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_grows_a_lesion_of_about_its_size_inside_the_head(head: Head, kind: str) -> None:
    wanted = replace(draw_lesion(np.random.default_rng(0), kind), volume_ml=40.0, place=(0.2, 0.1, 0.45))
    lesion = grow(wanted, head, np.random.default_rng(4), unique="")
    assert 15.0 < lesion.label.sum() * 0.045 < 60.0
    assert (head.depth[lesion.label] > -3.0).all()


def test_rare_kinds_scanners_and_unique_parts_have_their_share_in_pool_and_test_set() -> None:
    everyone = patients()
    for split, count in (("pool", 300), ("test", 60)):
        there = [patient for patient in everyone if patient.split == split]
        rare = sum(patient.lesion.kind in RARE for patient in there)
        assert len(there) == count
        assert abs(rare - (1 - COMMON_SHARE) * count) <= len(RARE)
        assert abs(sum(bool(patient.unique) for patient in there) - 0.3 * count) <= 1
        scanners = Counter(patient.scanner for patient in there)
        assert all(abs(scanners[name] - each.share * count) <= 1 for name, each in SCANNERS.items())


def test_common_appearances_repeat_with_a_long_tail_and_rare_ones_do_not() -> None:
    pool = [patient for patient in patients() if patient.split == "pool"]
    counts = Counter(patient.prototype for patient in pool if patient.prototype)
    assert counts[1] > 5 * counts[12] > 0
    first = np.log([patient.lesion.volume_ml for patient in pool if patient.prototype == 1])
    rare = np.log([patient.lesion.volume_ml for patient in pool if not patient.prototype])
    assert first.std() < 0.25 < 2 * 0.25 < rare.std()


def test_no_test_patient_has_a_damaged_scan_and_no_pool_patient_is_tested() -> None:
    everyone = patients(damaged=0.5)
    assert sum(bool(patient.damage) for patient in everyone if patient.split == "pool") == 150
    assert not any(patient.damage for patient in everyone if patient.split == "test")
    assert len({patient.case for patient in everyone} | {patient.seed for patient in everyone}) == 720


def test_damage_changes_one_modality_and_not_the_label() -> None:
    everyone = patients()
    for kind in DAMAGES:
        patient = next(patient for patient in everyone if patient.damage == kind)
        hurt, sound = make(patient), make(replace(patient, damage="", damaged=""))
        changed = [
            name for name, one, other in zip(MODALITIES, hurt.images, sound.images, strict=True)
            if not np.array_equal(one, other)
        ]  # fmt: skip
        assert changed == [patient.damaged]
        assert np.array_equal(hurt.label, sound.label)


def test_an_unknown_damage_is_refused() -> None:
    image = np.ones((2, 8, 8), dtype=np.float32)
    with pytest.raises(ValueError, match="damage must be one of ghosting, noise"):
        damage("tired", image, image, np.random.default_rng(0))


def test_a_share_above_one_is_refused() -> None:
    with pytest.raises(ValueError, match=r"unique must be between 0 and 1; got 1\.5"):
        Shares(unique=1.5)


def test_a_quota_is_met_to_within_one_and_shuffled_by_the_seed() -> None:
    first, second = (
        quota({"a": 0.5, "b": 0.3, "c": 0.2}, 11, np.random.default_rng(seed)) for seed in (0, 1)
    )
    for names in (first, second):
        assert len(names) == 11
        assert all(
            abs(names.count(name) - 11 * share) < 1 for name, share in (("a", 0.5), ("b", 0.3), ("c", 0.2))
        )
    assert first != second


def test_the_app_finds_every_case_with_four_modalities_a_label_and_its_true_volume(tmp_path: Path) -> None:
    write_pool(patients(3, 1), tmp_path / "pool", quiet())
    pool = find_pool(tmp_path / "pool")
    truth = {row["case"]: row for row in csv.DictReader((tmp_path / "pool" / "truth.csv").open())}
    assert [case.id for case in pool.cases] == ["pool_1", "pool_2", "pool_3", "test_1"] == list(truth)
    assert [item.path.name for item in pool.skipped] == ["truth.csv"]
    for case in pool.cases:
        assert set(case.modalities) == set(MODALITIES)
        assert case.label
        label = read_volume(Source(case.label))
        volume = float((label.array > 0).sum()) * label.grid.voxel_ml
        assert volume == pytest.approx(float(truth[case.id]["volume_ml"]), abs=0.01)
        assert volume > 0


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_pool(patients(2, 0), tmp_path / name, quiet())
    files = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*.*"))
    assert len(files) == 11
    assert all(
        (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes() for file in files
    )


def test_every_machine_makes_the_same_images() -> None:
    """In single precision they would differ from processor to processor."""
    expected = ("f6701473ee7fc48a", "acb5f17a53d63379", "7758ab3d2b0998f3")
    for patient, digest in zip(patients()[:3], expected, strict=True):
        made = make(patient)
        assert hashlib.sha256(made.images.tobytes() + made.regions.tobytes()).hexdigest()[:16] == digest


def test_a_folder_that_holds_something_is_refused_and_kept(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ValueError, match="OUTPUT must be a new or empty folder"):
        write_pool(patients(1, 0), tmp_path, quiet())
    assert (tmp_path / "mine.txt").read_text() == "mine"


def test_a_run_that_fails_leaves_nothing(tmp_path: Path) -> None:
    good, bad = patients(2, 0)
    with pytest.raises(OSError, match="nowhere"):
        write_pool([good, replace(bad, case="nowhere/a")], tmp_path / "pool", quiet())
    assert list(tmp_path.iterdir()) == []


def test_the_figure_is_a_picture(tmp_path: Path) -> None:
    write_figure(patients(2, 0), tmp_path / "figure.png")
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")
