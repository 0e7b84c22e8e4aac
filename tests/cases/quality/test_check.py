"""The pool check: what is wrong is named, what is sound passes, nothing is read twice."""

from __future__ import annotations

import json
import math
import os
import re
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

import lib.cases.quality.check
from lib.cases.case import Case, Source
from lib.cases.formats.image import Grid, Volume, read_volume
from lib.cases.preprocessing import Preparation
from lib.cases.quality.alignment import BINS, align, grey_levels, mutual_information
from lib.cases.quality.check import CASES_PER_BATCH, PoolReport, check_pool
from lib.cases.quality.findings import Verdict
from lib.cases.quality.measurements import measure
from lib.cases.quality.rules import apply_rules
from lib.cases.records import Records
from tests.support.checked_samples import MODALITIES, PREPARATION, SAMPLES, changed, codes, verdict_on

STATUSES = ("ok", "warned", "quarantined")
TWO = Preparation(("T1", "T2"), "T1")


def tiny_pool(folder: Path, count: int) -> list[Case]:
    """Cases of two 6 x 7 x 8 volumes of noise, every one different."""
    rng = np.random.default_rng(0)
    cases = []
    for index in range(count):
        id = f"p{index:05d}"
        sources = {}
        for name in TWO.modalities:
            path = folder / f"{id}_{name}.nii"
            nib.save(
                nib.Nifti1Image(rng.integers(1, 200, (8, 7, 6), dtype=np.int16), np.diag([2, 2, 2, 1.0])),
                path,
            )
            sources[name] = Source(path)
        cases.append(Case(id, sources))
    return cases


def moved(volume: Volume, mm: float) -> Volume:
    affine = volume.grid.affine.copy()
    affine[0, 3] += mm
    return Volume(volume.array, Grid(volume.grid.shape, affine))


def stretched(volume: Volume) -> Volume:
    return Volume(volume.array, Grid(volume.grid.shape, volume.grid.affine @ np.diag([1.0, 1.0, 2.0, 1.0])))


def with_nan(volume: Volume) -> Volume:
    array = volume.array.copy()
    array[3, 4, 5] = np.nan
    return Volume(array, volume.grid)


def test_sound_patients_pass_and_the_misregistered_one_is_quarantined(measured: dict[str, Any]) -> None:
    verdicts = apply_rules(measured, MODALITIES)
    by_status = {status: {id for id in verdicts if verdicts[id].status == status} for status in STATUSES}
    assert by_status["quarantined"] == {"STS_019"}
    assert by_status["warned"] == {"STS_032", "STS_043", "STS_047"}  # whose MR was padded by its publishers
    assert all(codes(verdicts[id]) == {"truncated"} for id in by_status["warned"])
    sentences = {finding.code: finding.sentence for finding in verdicts["STS_019"].findings}
    assert "outlines overlap by 0." in sentences["outlines"]


@pytest.mark.parametrize(
    ("code", "modality", "change"),
    [
        pytest.param("not_finite", "CT", with_nan, id="one NaN"),
        pytest.param("empty", "PET", lambda v: Volume(np.zeros_like(v.array), v.grid), id="zero"),
        pytest.param("constant", "MR_T1", lambda v: Volume(np.full_like(v.array, 7), v.grid), id="constant"),
        pytest.param("displaced", "CT", lambda v: Volume(np.roll(v.array, 8, 1), v.grid), id="moved voxels"),
        pytest.param("displaced", "PET", lambda v: moved(v, 15.0), id="moved in the header"),
        pytest.param("grid", "PET", lambda v: moved(v, 3.0), id="moved a little in the header"),
        pytest.param("no_overlap", "PET", lambda v: moved(v, 900.0), id="elsewhere"),
        pytest.param("mirrored", "MR_T1", lambda v: Volume(v.array[:, :, ::-1], v.grid), id="mirrored"),
        pytest.param("spacing", "MR_T1", stretched, id="voxel size"),
    ],
)
def test_a_damaged_modality_is_named(
    code: str,
    modality: str,
    change: Callable[[Volume], Volume],
    cases: dict[str, Case],
    measured: dict[str, Any],
    tmp_path: Path,
) -> None:
    verdict = verdict_on(changed(cases["STS_042"], modality, change, tmp_path), measured)
    found = [finding for finding in verdict.findings if finding.code == code]
    assert found, verdict
    assert modality in found[0].modalities
    assert found[0].sentence.endswith(".")


def test_the_direction_to_move_is_told_in_the_patient_s_terms(cases: dict[str, Case], tmp_path: Path) -> None:
    facts = measure(changed(cases["STS_042"], "CT", lambda v: moved(v, 15.0), tmp_path), PREPARATION)
    sentences = [
        finding.sentence for finding in apply_rules({"STS_042": facts}, MODALITIES)["STS_042"].findings
    ]
    assert any(
        re.match(r"CT fits MR_T1 and PET better when moved 1\d mm towards the left", s) for s in sentences
    )


def test_another_patient_s_image_is_found_even_on_this_grid(
    cases: dict[str, Case], measured: dict[str, Any], tmp_path: Path
) -> None:
    other = read_volume(cases["STS_015"].modalities["PET"]).array
    padded = np.pad(other, [(0, 60)] * 3, mode="edge")

    def replaced(volume: Volume) -> Volume:
        d, h, w = volume.grid.shape
        return Volume(padded[:d, :h, :w], volume.grid)

    assert codes(verdict_on(changed(cases["STS_042"], "PET", replaced, tmp_path), measured)) & {
        "unrelated", "mirrored", "displaced", "outlines",
    }  # fmt: skip


def test_another_patient_s_file_is_found_by_its_voxels(
    cases: dict[str, Case], measured: dict[str, Any]
) -> None:
    case = cases["STS_042"]
    swapped = replace(case, modalities={**case.modalities, "PET": cases["STS_015"].modalities["PET"]})
    verdict = verdict_on(swapped, measured)
    assert verdict.status == "quarantined"
    assert any("same image as in case STS_015" in finding.sentence for finding in verdict.findings)


def test_a_stored_orientation_that_the_header_tells_is_no_fault(
    cases: dict[str, Case], tmp_path: Path
) -> None:
    def stored_otherwise(volume: Volume) -> Volume:
        affine, last = volume.grid.affine.copy(), volume.grid.shape[2] - 1
        affine[:3, 3] += last * affine[:3, 0]
        affine[:3, 0] *= -1
        return Volume(volume.array[:, :, ::-1], Grid(volume.grid.shape, affine))

    facts = measure(changed(cases["STS_042"], "CT", stored_otherwise, tmp_path), PREPARATION)
    assert facts["modalities"]["CT"]["axes"] != facts["modalities"]["MR_T1"]["axes"]
    assert apply_rules({"a": facts}, MODALITIES)["a"].status == "ok"


def test_a_truncated_file_quarantines_its_case_alone(tmp_path: Path) -> None:
    cases = tiny_pool(tmp_path, 6)
    path = cases[2].modalities["T2"].path
    path.write_bytes(path.read_bytes()[:500])
    verdicts = check_pool(cases, TWO, Records(tmp_path / "records"), workers=1)
    assert [verdict.status for verdict in verdicts.values()] == ["ok", "ok", "quarantined", "ok", "ok", "ok"]
    assert str(path) in verdicts["p00002"].findings[0].sentence


def test_a_file_that_vanishes_quarantines_its_case_alone(tmp_path: Path) -> None:
    cases = tiny_pool(tmp_path, 6)
    cases[4].modalities["T1"].path.unlink()

    def vanish(done: int, total: int) -> None:
        cases[5].modalities["T2"].path.unlink(missing_ok=True)

    verdicts = check_pool(cases, TWO, Records(tmp_path / "records"), workers=1, on_progress=vanish)
    assert [verdict.status for verdict in verdicts.values()] == ["ok"] * 4 + ["quarantined"] * 2
    assert str(cases[4].modalities["T1"].path) in verdicts["p00004"].findings[0].sentence
    assert str(cases[5].modalities["T2"].path) in verdicts["p00005"].findings[0].sentence


def test_a_second_run_reads_no_voxels(tmp_path: Path) -> None:
    cases, records = tiny_pool(tmp_path, 5), Records(tmp_path / "records")
    known: list[int] = []

    def check() -> dict[str, Verdict]:
        progress: list[int] = []
        verdicts = check_pool(
            cases, TWO, records, workers=1, on_progress=lambda done, total: progress.append(done)
        )
        known.append(progress[0])
        return verdicts

    first = check()
    assert check() == first
    path = cases[3].modalities["T1"].path
    path.write_bytes(path.read_bytes()[:-1] + b"\x63")
    assert check() == first
    path.write_bytes(bytes(4) + path.read_bytes()[4:])
    assert {id for id, verdict in check().items() if verdict.status == "quarantined"} == {"p00003"}
    assert known == [0, 5, 4, 4]


def test_an_interrupted_run_keeps_what_it_measured(tmp_path: Path) -> None:
    cases, records = tiny_pool(tmp_path, CASES_PER_BATCH + 5), Records(tmp_path / "records")

    def stop(done: int, total: int) -> None:
        if done == total - 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        check_pool(cases, TWO, records, workers=1, on_progress=stop)
    progress: list[tuple[int, int]] = []
    check_pool(cases, TWO, records, workers=1, on_progress=lambda done, total: progress.append((done, total)))
    assert progress[0] == (CASES_PER_BATCH, CASES_PER_BATCH + 5)


@pytest.mark.alone
def test_a_thousand_tiny_cases_take_seconds(tmp_path: Path) -> None:
    cases = tiny_pool(tmp_path, 1000)
    start = time.perf_counter()
    verdicts = check_pool(cases, TWO, Records(tmp_path / "records"), workers=2)
    assert time.perf_counter() - start < 20.0
    assert {verdict.status for verdict in verdicts.values()} == {"ok"}


def measure_or_die(case: Case, preparation: Preparation) -> dict[str, Any]:
    if case.id == "p00003":
        os._exit(9)
    return measure(case, preparation)


@pytest.mark.parametrize(("count", "workers"), [(9, 2), (4, 1)])
def test_a_case_that_kills_its_process_is_quarantined_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int, workers: int
) -> None:
    monkeypatch.setattr(lib.cases.quality.check, "measure", measure_or_die)
    verdicts = check_pool(tiny_pool(tmp_path, count), TWO, Records(tmp_path / "records"), workers=workers)
    assert {id for id, verdict in verdicts.items() if verdict.status == "quarantined"} == {"p00003"}


class Broken(Source):
    """A source that fails in a way that nobody foresaw."""

    def stamp(self) -> str:
        raise TypeError("no stamp")


def test_what_fails_in_an_unforeseen_way_is_an_error_of_its_case(tmp_path: Path) -> None:
    good, bad = tiny_pool(tmp_path, 2)
    sources = {name: Broken(tmp_path / "nowhere") for name in TWO.modalities}
    verdicts = check_pool(
        [good, replace(bad, modalities=sources)], TWO, Records(tmp_path / "records"), workers=1
    )
    assert [verdict.status for verdict in verdicts.values()] == ["ok", "quarantined"]


@pytest.mark.parametrize(
    ("modality", "value", "severity"),
    [
        ("CT", 1e38, "quarantined"),
        ("CT", -1e38, "quarantined"),
        ("CT", 200_000.0, "quarantined"),
        ("CT", -40_000.0, "quarantined"),
        ("CT", 30_000.0, "ok"),
        ("PET", 1e9, "quarantined"),
        ("MR_T1", 3e38, "quarantined"),
        ("MR_T1", 1e12, "quarantined"),
    ],
)
def test_one_voxel_that_no_scanner_gives_holds_a_case_back(
    cases: dict[str, Case],
    measured: dict[str, dict[str, Any]],
    tmp_path: Path,
    modality: str,
    value: float,
    severity: str,
) -> None:
    def spoil(volume: Volume) -> Volume:
        array = volume.array.copy()
        array[3, 4, 5] = value
        return Volume(array, volume.grid)

    verdict = verdict_on(changed(cases["STS_025"], modality, spoil, tmp_path), measured)
    assert verdict.status == severity
    if severity != "ok":
        beyond_any_image = "must hold values between" if abs(value) >= 1e9 else f"has a voxel of {value:.3g}"
        assert modality in verdict.findings[0].modalities
        assert beyond_any_image in verdict.findings[0].sentence


@pytest.mark.parametrize("spacing", [1e300, 1e5, math.inf, 0.0, -1.0, math.nan, 1e-300])
def test_geometry_that_no_scanner_gives_holds_its_case_back_and_shifts_nothing(
    measured: dict[str, dict[str, Any]], spacing: float
) -> None:
    before = apply_rules(measured, MODALITIES)
    poisoned = dict(measured)
    for number in range(8):
        facts = deepcopy(measured["STS_002"])
        for volume in facts["modalities"].values():
            volume["spacing"] = [spacing] * 3
            volume["affine"] = np.diag([spacing, spacing, spacing, 1.0]).tolist()
            volume["voxels"] = f"{number}"
        for pair in facts["pairs"]:
            pair["dice"] = pair["shared"] = 0.0
        poisoned[f"poison{number}"] = facts
    after = apply_rules(poisoned, MODALITIES)
    assert {id: after[id] for id in measured} == before
    assert all(after[id].status == "quarantined" for id in after.keys() - measured.keys())
    json.dumps(PoolReport(after).to_json(), allow_nan=False)


def test_of_two_equal_cases_the_later_is_quarantined(tmp_path: Path) -> None:
    one, other = tiny_pool(tmp_path, 2)
    twin = replace(other, modalities=one.modalities)
    verdicts = check_pool([one, twin], TWO, Records(tmp_path / "records"), workers=1)
    assert [verdict.status for verdict in verdicts.values()] == ["ok", "quarantined"]
    assert "case p00000" in verdicts[twin.id].findings[0].sentence


def test_one_image_under_two_names_is_quarantined(tmp_path: Path) -> None:
    (case,) = tiny_pool(tmp_path, 1)
    case = replace(case, modalities={"T1": case.modalities["T1"], "T2": case.modalities["T1"]})
    assert "same_image" in codes(check_pool([case], TWO, Records(tmp_path / "records"), workers=1)[case.id])


def test_a_missing_modality_warns_and_the_report_is_plain_json(tmp_path: Path) -> None:
    cases = tiny_pool(tmp_path, 2)
    cases[1] = replace(cases[1], modalities={"T2": cases[1].modalities["T2"]})
    report = PoolReport(check_pool(cases, TWO, Records(tmp_path / "records"), workers=1))
    document = json.loads(json.dumps(report.to_json()))
    assert document["counts"] == {"ok": 1, "warned": 1, "quarantined": 0}
    assert document["cases"]["p00001"]["findings"][0]["sentence"].startswith("T1 is missing.")


def test_a_volume_four_times_larger_than_usual_warns(tmp_path: Path) -> None:
    cases = tiny_pool(tmp_path, 7)
    rng = np.random.default_rng(1)
    for source in cases[6].modalities.values():
        noise = rng.integers(1, 200, (40, 7, 6), dtype=np.int16)
        nib.save(nib.Nifti1Image(noise, np.diag([2, 2, 2, 1.0])), source.path)
    verdicts = check_pool(cases, TWO, Records(tmp_path / "records"), workers=1)
    assert codes(verdicts["p00006"]) == {"extent"}
    assert "80 x 14 x 12 mm" in verdicts["p00006"].findings[0].sentence


def test_nobody_s_files_are_changed(cases: dict[str, Case], tmp_path: Path) -> None:
    files = [path for path in SAMPLES.rglob("*") if path.is_file()]
    before = {path: path.stat().st_mtime_ns for path in files}
    check_pool([cases["STS_025"]], PREPARATION, Records(tmp_path / "records"), workers=1)
    assert {path: path.stat().st_mtime_ns for path in SAMPLES.rglob("*") if path.is_file()} == before


def test_mutual_information_is_one_of_an_image_with_itself_and_zero_with_noise() -> None:
    x, y = np.random.default_rng(0).normal(size=(2, 24, 24, 24)).astype(np.float32)
    assert mutual_information(grey_levels(x), grey_levels(-x)) == pytest.approx(1.0, abs=0.01)
    assert mutual_information(grey_levels(x), grey_levels(y)) < 0.002


def test_what_is_outside_the_field_of_view_does_not_count() -> None:
    x = np.random.default_rng(0).normal(size=(16, 16, 16)).astype(np.float32)
    y = x.copy()
    y[:6] = np.nan
    assert (grey_levels(y)[:6] == BINS).all()
    assert mutual_information(grey_levels(x), grey_levels(y)) > 0.9


def test_a_planted_move_is_found() -> None:
    rng = np.random.default_rng(0)
    x = np.kron(rng.normal(size=(8, 8, 8)), np.ones((4, 4, 4))).astype(np.float32)
    y = np.roll(-x, (2, -3, 1), (0, 1, 2))
    present, best, move = align(grey_levels(x), grey_levels(y), (6, 6, 6))
    assert move == (-2, 3, -1)
    assert best > 2 * present
