"""The evidence: who is tested, what is planned, what is run, what the report says of the rows."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from benchmarks.common.patients import Patients
from benchmarks.label_efficiency.evidence.cells import FULL, Cell, cells_of, trainings_of
from benchmarks.label_efficiency.evidence.figure import draw
from benchmarks.label_efficiency.evidence.pool import LabelledPool, by_hash
from benchmarks.label_efficiency.evidence.protocol import Protocol
from benchmarks.label_efficiency.evidence.report import markdown
from benchmarks.label_efficiency.evidence.results import Results
from benchmarks.label_efficiency.evidence.rows import CASES, CELLS, PATIENTS, RUNS, Rows
from benchmarks.label_efficiency.evidence.run import Study, carry_out
from benchmarks.label_efficiency.evidence.scores import Knowledge
from benchmarks.label_efficiency.evidence.strategies import CONTROLS, choose
from benchmarks.label_efficiency.run import PROTOCOL, app
from lib.mdal.scoring.difference import extreme
from lib.mdal.selection.strategies import SELECTORS, cluster_of
from tests.support.candidate_pools import pool as candidate_pool

ROOT = Path(__file__).parents[3]
PROTOCOLS = ROOT / "benchmarks" / "label_efficiency" / "evidence"
_NUMBER = r"[+-]?\d+(?:\.\d+)?"
SETTINGS = {
    "name": "made up",
    "modalities": ["CT", "MR_T1"],
    "without": {"p09": "it is the last"},
    "test": 2,
    "budgets": [2, 4],
    "full_seeds": 1,
    "arms": [{"check": True, "seeds": {"uniform": 4, "kmeans": 2, "mdal": 2}}],
    "questions": [["mdal", "uniform"]],
    "hypothesis_budget": 2,
    "segmenter": {"steps": 2, "roi_size": [8, 16, 16], "learning_rate": 0.003},
    "headroom": {"ask": 1, "sizes": [2]},
    "primary_end_point": "the area",
}


def protocol(**changes: object) -> Protocol:
    return Protocol.model_validate({**SETTINGS, **changes})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Ten patients of noise with a brighter box, PET beside what the protocol uses."""
    random = np.random.default_rng(0)
    for number in range(10):
        box = np.zeros((20, 20, 10), dtype=np.uint8)
        box[6 : 9 + number, 6:12, 3:7] = 1
        for name in ("CT", "MR_T1", "PET", "GTV"):
            array = box if name == "GTV" else (random.normal(size=box.shape) * 20 + 40 * box).astype(np.int16)
            file = tmp_path / "pool" / f"p{number:02d}" / f"{name}.nii.gz"
            file.parent.mkdir(parents=True, exist_ok=True)
            nib.save(nib.Nifti1Image(array, np.diag([2.0, 2.0, 3.0, 1.0])), file)
    return tmp_path / "pool"


def knowledge(count: int = 40) -> Knowledge:
    random = np.random.default_rng(1)
    differences = {name: random.normal(size=count) for name in ("in_sample", "random_encoder")}
    look = random.normal(size=(count, 3)).astype(np.float32)
    candidates = replace(candidate_pool(count), look=look)
    kinds = {id: "rare" if number < 4 else "common" for number, id in enumerate(candidates.ids[:-10])}
    return Knowledge(candidates, differences, sound_kinds=kinds)


@pytest.mark.parametrize("file", sorted(PROTOCOLS.glob("*.yaml")), ids=lambda file: file.stem)
def test_every_protocol_asks_only_for_strategies_that_there_are(file: Path) -> None:
    read = Protocol.read(file)
    named = {name for arm in read.arms for name in arm.seeds}
    assert named <= SELECTORS.keys() | CONTROLS.keys()
    compared = {*read.references, *(name.split(" ")[0] for pair in read.questions for name in pair)}
    assert compared <= named
    assert read.hypothesis_budget in read.budgets
    assert min(arm.seeds["uniform"] for arm in read.arms if arm.check) >= 15
    assert min(seeds for arm in read.arms for seeds in arm.seeds.values()) >= 3
    assert read.segmenter.schedule.steps == read.segmenter.steps


def test_an_unknown_key_of_a_protocol_is_refused_with_its_place(tmp_path: Path) -> None:
    file = tmp_path / "p.yaml"
    file.write_text(yaml.safe_dump({**SETTINGS, "segmenter": {**SETTINGS["segmenter"], "step": 2}}))
    with pytest.raises(ValueError, match=r"segmenter\.step of p\.yaml must fit the protocol"):
        Protocol.read(file)


def test_test_patients_and_those_left_out_are_no_candidates_and_unseen_by_the_check(
    folder: Path, tmp_path: Path
) -> None:
    opened = LabelledPool(folder, protocol(), tmp_path / "work")
    nine = [f"p{number:02d}" for number in range(9)]
    assert opened.tested == tuple(sorted(by_hash(nine)[:2]))
    assert set(opened.candidates) == set(nine) - set(opened.tested)
    workspace = opened.candidate_site(check=False, workers=1)
    assert (
        {case.id for case in workspace.pool.cases}
        == set(opened.candidates)
        == set(workspace.verdicts.by_case)
    )
    assert workspace.preparation.modalities == ("MR_T1", "CT")


def test_the_sarcoma_protocol_tests_whom_the_comparison_with_fusion_tests(tmp_path: Path) -> None:
    for number in range(1, 52):
        for name in ("CT", "MR_T1", "GTV"):
            file = tmp_path / "pool" / f"STS_{number:03d}" / f"{name}.nii.gz"
            file.parent.mkdir(parents=True) if not file.parent.exists() else None
            nib.save(nib.Nifti1Image(np.zeros((2, 2, 2), np.int16), np.eye(4)), file)
    read = Protocol.read(PROTOCOLS / "sts_ct_mr.yaml")
    opened = LabelledPool(tmp_path / "pool", read, tmp_path / "work")
    others = Patients(tmp_path / "pool", work=tmp_path / "other", without=("STS_019",))
    assert set(opened.tested) == {case.id for case in others.split("test").ask}
    assert len(opened.candidates) == 36


def test_the_truth_may_say_who_is_tested(folder: Path, tmp_path: Path) -> None:
    (folder / "truth.csv").write_text("case,split,damage,rare\np01,test,,0\np02,pool,shifted,1\n")
    opened = LabelledPool(folder, protocol(test="truth"), tmp_path / "work")
    assert opened.tested == ("p01",)
    assert "p01" not in opened.candidates
    assert "p02" in opened.candidates


def test_a_protocol_of_another_pool_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="STS_019"):
        LabelledPool(folder, protocol(without={"STS_019": "gone"}), tmp_path)
    with pytest.raises(ValueError, match="FLAIR is in no case"):
        LabelledPool(folder, protocol(modalities=["CT", "FLAIR"]), tmp_path)


@pytest.mark.parametrize("name", [*SELECTORS, *CONTROLS])
def test_a_strategy_chooses_the_same_with_the_same_seed_whatever_the_order_of_the_pool(name: str) -> None:
    known = knowledge()
    rows = np.random.default_rng(3).permutation(40)
    other = known.take(rows)
    chosen = choose(name, known, budget=6, seed=4)
    assert len(set(chosen)) == 6
    assert chosen == choose(name, other, budget=6, seed=4)


def test_a_seed_may_choose_from_a_share_of_the_candidates_whatever_their_order() -> None:
    known = knowledge()
    rows = np.random.default_rng(3).permutation(40)
    other = known.take(rows)
    first, again, second = (
        set(of.sample(0.9, seed=seed).candidates.ids) for of, seed in ((known, 0), (other, 0), (known, 1))
    )
    assert len(first) == 36
    assert first == again != second
    part = known.sample(0.5, seed=0)
    of = dict(zip(known.candidates.ids, known.differences["in_sample"], strict=True))
    assert part.differences["in_sample"].tolist() == [of[id] for id in part.candidates.ids]


def test_the_controls_differ_from_diverse_md_in_the_member_alone() -> None:
    known = knowledge()
    group = dict(
        zip(known.candidates.ids, cluster_of(known.candidates, 6, np.random.default_rng(4)), strict=True)
    )
    chosen = {
        name: choose(name, known, budget=6, seed=4)
        for name in ("diversemd", "kmeans", "diversemd_random", "diversemd_min")
    }
    for ids in chosen.values():
        assert sorted(group[id] for id in ids) == list(range(6))
    assert len({frozenset(ids) for ids in chosen.values()}) == 4


def test_controls_of_the_scores_rank_by_the_other_difference() -> None:
    known = knowledge()
    best = int(np.argmax(known.differences["in_sample"]))
    assert choose("in_sample", known, budget=3, seed=0)[0] == known.candidates.ids[best]
    assert choose("in_sample", known, budget=3, seed=0) != choose("mdal", known, budget=3, seed=0)


@pytest.mark.parametrize("name", ["mdal_usual", "diversemd_usual", "kmeans_look", "paced"])
def test_cases_of_extreme_difference_are_chosen_last_where_the_strategy_says_so(name: str) -> None:
    known = knowledge()
    known.candidates.difference[[5, 9]] = 50.0, 60.0
    suspect = {known.candidates.ids[row] for row in np.flatnonzero(extreme(known.candidates.difference))}
    left = len(known.candidates) - len(suspect)
    assert not suspect & set(choose(name, known, budget=left, seed=0))
    assert suspect <= set(choose("mdal", known, budget=left, seed=0))


def test_the_oracle_takes_the_kinds_in_turn_and_nothing_damaged() -> None:
    known = knowledge()
    order = choose("oracle", known, budget=40, seed=0)
    assert [known.sound_kinds[id] for id in order[:8]].count("rare") == 4
    assert set(order) == set(known.sound_kinds)
    with pytest.raises(ValueError, match=r"truth\.csv says none"):
        choose("oracle", replace(known, sound_kinds={}), budget=3, seed=0)


def test_cells_that_chose_the_same_cases_with_one_seed_share_a_training() -> None:
    cells = [
        Cell(True, "one", 2, 0, ("a", "b")),
        Cell(True, "other", 2, 0, ("b", "a")),
        Cell(True, "other", 2, 1, ("b", "a")),
        Cell(True, "one", 2, 1, ("a", "c")),
    ]
    found = trainings_of(cells, order_seed=0)
    assert len(found) == 3
    assert {training.cases for training in found} == {("a", "b"), ("a", "c")}


def test_wherever_the_runs_are_cut_every_strategy_has_had_about_the_same_share() -> None:
    settings = protocol(
        budgets=[2, 4, 8], arms=[{"check": True, "seeds": {"uniform": 9, "kmeans": 3, "farthest": 3}}]
    )
    cells = cells_of(settings, {True: knowledge()})
    order = trainings_of(cells, order_seed=1)
    assert order == trainings_of(list(reversed(cells)), order_seed=1) != trainings_of(cells, order_seed=2)
    third = {training for training in order[: len(order) // 3]}
    by_strategy = {
        name: np.mean([cell.training in third for cell in cells if cell.strategy == name])
        for name in ("uniform", "kmeans", "farthest")
    }
    assert all(0.2 < share < 0.5 for share in by_strategy.values()), by_strategy
    assert sum(cell.strategy == FULL for cell in cells) == 1


def test_a_budget_of_every_candidate_is_refused() -> None:
    with pytest.raises(ValueError, match="below the 4 candidates"):
        cells_of(protocol(), {True: knowledge(4)})


def test_a_run_leaves_a_row_and_one_for_each_test_patient(folder: Path, tmp_path: Path) -> None:
    settings = protocol()
    opened = LabelledPool(folder, settings, tmp_path / "work")
    study = Study(folder, settings, tmp_path / "work", opened.digest, "abc")
    training = Cell(True, "uniform", 2, 0, opened.candidates[:2]).training
    first, again = carry_out(study, training), carry_out(study, training)
    assert [row["patient"] for row in first.patients] == list(opened.tested)
    assert first.patients == again.patients  # the same cases and seed: the same network
    assert first.run["dice"] == pytest.approx(np.mean([row["dice"] for row in first.patients]), abs=1e-5)
    other = carry_out(study, replace(training, cases=opened.candidates[2:4]))
    assert other.patients != first.patients
    rows = Rows(tmp_path / "rows")
    rows.add(first.run, first.patients)
    rows.add(first.run, first.patients)
    assert rows.done(opened.digest) == {training.key}
    assert rows.done("other") == set()
    assert (len(rows.read(RUNS)), len(rows.read(PATIENTS))) == (1, 2)


def test_what_a_training_depends_on_changes_its_digest(folder: Path, tmp_path: Path) -> None:
    def digest(**changes: object) -> str:
        return LabelledPool(folder, protocol(**changes), tmp_path / "work").digest

    longer = {**SETTINGS["segmenter"], "steps": 3}
    assert digest() == digest(budgets=[2, 3], primary_end_point="another")
    assert len({digest(), digest(segmenter=longer), digest(test=3), digest(modalities=["CT", "PET"])}) == 4


@pytest.mark.slow
def test_a_run_that_was_cut_does_what_is_left_and_nothing_twice(folder: Path, tmp_path: Path) -> None:
    file, output = tmp_path / "p.yaml", tmp_path / "out"
    small = {"folds": 2, "repeats": 1, "scoring_steps": 2}
    file.write_text(yaml.safe_dump({**SETTINGS, "scoring": small}))
    command = ["run", str(folder), str(file), "--output", str(output), "--strategies", "kmeans"]
    first = CliRunner().invoke(app, [*command, "--budgets", "2"])
    assert first.exit_code == 0, first.output
    assert "2 cells, 2 trainings to run" in first.output
    rows = (output / RUNS).read_text()
    again = CliRunner().invoke(app, command)
    assert "4 cells, 2 trainings to run" in again.output
    assert (output / RUNS).read_text().startswith(rows)
    assert "| kmeans | 2 of 2 | 2 of 2 |" in (output / "report.md").read_text()
    assert "0 trainings to run" in CliRunner().invoke(app, command).output
    assert len((output / PATIENTS).read_text().splitlines()) == 1 + 4 * 2


def write_rows(folder: Path, settings: Protocol, *, missing: tuple[str, ...] = ()) -> Results:
    """Rows in which `mdal` is 0.1 above chance, `kmeans` 0.1 below, and Dice follows the mean difference."""
    rows, random = Rows(folder), np.random.default_rng(0)
    patients = random.normal(0.5, 0.05, 12)
    cells, runs = [], []
    for name, seeds, more in (("uniform", 15, 0.0), ("mdal", 3, 0.1), ("kmeans", 3, -0.1), (FULL, 1, 0.2)):
        for budget in settings.budgets if name != FULL else (30,):
            for seed in range(seeds):
                subset, md = f"{name}{budget}", random.normal()
                cells.append(
                    {
                        "digest": "d", "check": 1, "strategy": name, "budget": budget, "seed": seed,
                        "subset": subset, "mean_md": md, "volume_ml": random.uniform(10, 20), "voxels": 100,
                        "damaged": 0, "rare": 0, "cases": "a b",
                    }
                )  # fmt: skip
                dice = patients + more + 0.02 * np.log2(budget) + 0.002 * md
                runs.append(((name, budget), subset, seed, dice))
    held = {
        "case": "a",
        "served": 0,
        "difference": "",
        "damage": "shifted",
        "rare": 1,
        "volume_ml": 1,
        "voxels": 3,
    }
    served = [
        {**held, "case": f"c{n}", "served": 1, "difference": n, "damage": "", "rare": n % 2, "volume_ml": n}
        for n in range(11)
    ]
    served.append({**served[0], "case": "last", "difference": 90, "damage": "noise"})
    rows.plan(CASES, [held, *served])
    rows.plan(CELLS, cells)
    for (name, _), subset, seed, dice in runs:
        if name not in missing:
            identity = {"digest": "d", "subset": subset, "seed": seed}
            rows.add(
                {**identity, "dice": dice.mean(), "empty": 1},
                [
                    {**identity, "patient": f"t{row}", "dice": value, "surface_distance": 4.0}
                    for row, value in enumerate(dice)
                ],
            )
    return Results.read(rows, settings)


def test_the_report_finds_what_was_put_into_the_rows(tmp_path: Path) -> None:
    settings = protocol(budgets=[2, 4, 8])
    results = write_rows(tmp_path, settings)
    text = markdown(results)
    assert re.search(r"mdal above uniform \| \+0\.(099|1)", text)
    assert "| yes |" in text
    of_kmeans = next(line for line in text.splitlines() if line.startswith("| kmeans | 3 | 0.4"))
    assert re.search(r"-0\.(099|1)", of_kmeans)
    by_chance = text.split("## Labels needed")[1].split("##")[0].splitlines()
    assert next(line for line in by_chance if line.startswith("| mdal")) == "| mdal | ≤ 2 | ≤ 2 | ≤ 2 |"
    assert next(line for line in by_chance if line.startswith("| kmeans")).count("> 8") >= 2
    slopes = [
        line for line in text.split("training set?")[1].splitlines() if line.startswith(("| 2 ", "| 4 "))
    ]
    assert len(slopes) == 2
    assert all("p < 0.001" in line for line in slopes)
    assert "2 of 13 candidates are damaged; the check held back 1 of them and 0 sound ones." in text
    assert "| damaged: noise | 1 | 96 | 1 |" in text
    assert "| sound and rare | 5 | 46 | 0 |" in text
    draw(results, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 10_000


@pytest.mark.slow
@pytest.mark.parametrize("pool", ["sts", "glioma_second"])
def test_a_published_report_is_what_its_rows_say(pool: str) -> None:
    published = (RESULTS / f"evidence_{pool}.md").read_text()
    rows = RESULTS / f"evidence_{pool}"
    made = markdown(Results.read(Rows(rows), Protocol.read(rows / PROTOCOL)))
    words, figures = split(published.partition("Primary end point")[2])
    assert (words, pytest.approx(figures, abs=0.0011)) == split(made.partition("Primary end point")[2])


def split(text: str) -> tuple[list[str], list[float]]:
    """What lies between the numbers of a text, and these; processors may round the last digit apart."""
    return re.split(_NUMBER, text), [float(number) for number in re.findall(_NUMBER, text)]


def test_a_report_of_half_of_the_runs_says_so(tmp_path: Path) -> None:
    text = markdown(write_rows(tmp_path, protocol(), missing=("kmeans", FULL)))
    assert "| kmeans | 0 of 3 | 0 of 3 |" in text
    assert "Training on all candidates was not run yet." in text
    assert "less kmeans" not in text


def test_rows_of_other_settings_are_not_reported(tmp_path: Path) -> None:
    results = write_rows(tmp_path, protocol())
    rows = Rows(tmp_path)
    identity = {"digest": "older", "subset": "mdal2", "seed": 0}
    rows.add({**identity, "dice": 0.0}, [{**identity, "patient": "t0", "dice": 0.0}])
    again = Results.read(rows, protocol())
    assert np.array_equal(again.dice("mdal", 2), results.dice("mdal", 2))
