"""The comparison with fusion: every method alike, nothing twice, and a report that pairs what is paired."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from benchmarks.ciml.fusion.__main__ import app
from benchmarks.ciml.fusion.protocol import Protocol
from benchmarks.ciml.fusion.report import Results, markdown
from benchmarks.ciml.fusion.rows import OUTLINES, RUNS, TRIALS, Outlined, Rows, outlined
from benchmarks.ciml.fusion.run import Run, Study, carry_out, choices, labelled, runs_of, trial_of, try_out
from benchmarks.ciml.methods import methods
from benchmarks.common.folders import ROOT
from lib.ciml.decomposition.table import decomposition_for

PROTOCOLS = sorted((ROOT / "benchmarks" / "ciml" / "fusion").glob("*.yaml"))
TWO_STEPS = {"learning_rate": 0.003, "steps": 2}
SETTINGS: dict[str, Any] = {
    "name": "made up",
    "modalities": ["CT", "MR_T1", "PET"],
    "without": {"p09": "it is the last"},
    "test": 2,
    "seeds": 2,
    "labels": [2, 4],
    "primary_labels": 2,
    "every_choice": 1,
    "methods": {"ciml": TWO_STEPS, "segresnet": TWO_STEPS},
    "tuning": {"pool": "made up", "learning_rates": [0.003], "steps": [1, 2], "labels": 2, "ask": 2},
    "roi_size": [8, 16, 16],
    "primary_end_point": "Dice without one modality",
}


def protocol(**changes: object) -> Protocol:
    return Protocol.model_validate({**SETTINGS, **changes})


@pytest.fixture
def study(folder: Path, tmp_path: Path) -> Study:
    return Study(folder, protocol(), tmp_path / "work", "abc")


@pytest.mark.parametrize("file", PROTOCOLS, ids=lambda file: file.stem)
def test_every_protocol_tries_the_same_with_every_method_and_names_all_that_apply(file: Path) -> None:
    read = Protocol.read(file)
    assert read.name == file.stem
    known = methods(decomposition_for(read.modalities))
    assert set(read.methods) == {name for name in known if not name.startswith("only_")}
    assert read.primary_labels == 10
    assert read.seeds >= 5
    assert len(read.tuning.trials) == 6
    for method in ("ciml", "segresnet", "ciml_beta0"):
        schedule = read.schedule(method, read.tuning.trials[0])
        assert schedule.steps == read.tuning.steps[0]
        assert schedule.beta == (0.0 if method == "ciml_beta0" else read.beta)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"primary_labels": 3}, "primary_labels must be one of labels"),
        ({"splits": 3, "seeds": 2}, "seeds as many as splits"),
        ({"learning_rate": 1}, "Extra inputs are not permitted"),
    ],
)
def test_a_protocol_that_does_not_fit_is_refused(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    file = tmp_path / "p.yaml"
    file.write_text(yaml.safe_dump({**SETTINGS, **changes}))
    with pytest.raises(ValueError, match=message):
        Protocol.read(file)


def test_a_method_without_its_trial_is_not_run() -> None:
    with pytest.raises(ValueError, match="must give ciml a learning rate and steps; it gives none"):
        trial_of(protocol(methods={"ciml": None, "segresnet": TWO_STEPS}), "ciml")


def test_more_labels_contain_fewer_and_each_seed_draws_others() -> None:
    candidates = [f"p{number}" for number in range(20)]
    assert labelled(candidates, 10, 0)[:5] == labelled(candidates[::-1], 5, 0)
    assert set(labelled(candidates, 5, 0)) != set(labelled(candidates, 5, 1))


def test_a_cut_of_the_runs_is_fair_to_every_method() -> None:
    runs = runs_of(protocol())
    assert len(set(runs)) == 8
    assert all(first.seed <= second.seed for first, second in pairwise(runs))
    for cut in range(len(runs)):
        counts = [sum(run.method == name for run in runs[:cut]) for name in ("ciml", "segresnet")]
        assert abs(counts[0] - counts[1]) <= 1


def test_every_choice_of_modalities_is_made_once() -> None:
    made = list(choices(("CT", "MR_T1", "PET")))
    assert made[0] == ("CT", "MR_T1", "PET")
    assert len(set(made)) == len(made) == 7


def test_a_run_leaves_its_outlines_of_the_test_patients_with_every_choice(study: Study) -> None:
    run = Run("ciml", 2, 0)
    first, again = carry_out(study, run), carry_out(study, run)
    assert first.rows[OUTLINES] == again.rows[OUTLINES]  # the same labels and seed: the same network
    tested = set(study.open(0).tested)
    found = {row["modalities"]: set(json.loads(row["dice"])) for row in first.rows[OUTLINES]}
    assert set(found) == {"+".join(choice) for choice in choices(study.open(0).workspace.pool.modalities)}
    for names, patients in found.items():
        assert patients == tested if names.count("+") >= 1 else len(patients) == 1
    few = carry_out(study, Run("ciml", 4, 0)).rows[OUTLINES]
    assert min(row["modalities"].count("+") for row in few) == 1


def test_a_trial_opens_no_test_patient(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    load = type(study.open(0)).load
    monkeypatch.setattr(
        "benchmarks.common.divided_pool.DividedPool.load",
        lambda self, ids: (opened.extend(ids), load(self, ids))[1],
    )
    trial = study.protocol.tuning.trials[0]
    (row,) = try_out(study, "segresnet", trial).rows[TRIALS]
    assert 0.0 <= row["dice_without_one"] <= 1.0
    assert len(set(opened)) == 4
    assert not set(opened) & set(study.open(0).tested)


def test_a_network_that_was_kept_is_not_trained_again(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeping = Study(study.pool, study.protocol, study.work, "abc", keep=tmp_path)
    first = carry_out(keeping, Run("ciml", 2, 0))
    monkeypatch.setattr("benchmarks.ciml.fusion.run.train", lambda *_, **__: pytest.fail("trained again"))
    assert carry_out(keeping, Run("ciml", 2, 0)).rows[OUTLINES] == first.rows[OUTLINES]


def test_a_run_that_was_cut_before_its_row_is_not_finished_and_leaves_nothing_twice(tmp_path: Path) -> None:
    rows, identity = Rows(tmp_path), _identity("ciml", 2, 0)
    rows.add({OUTLINES: [_outlined("ciml", 2, 0, ("CT",), 0.1).row(identity)]})  # killed here
    assert not rows.done(RUNS)
    assert not list(outlined(rows))
    rows.add(
        {OUTLINES: [_outlined("ciml", 2, 0, ("CT",), 0.2).row(identity)], RUNS: [{**identity, "loss": 1.0}]}
    )
    (found,) = outlined(rows)
    assert found.dice["p0"] == [0.2, 0.2]


@pytest.mark.parametrize("splits", [1, 4])
def test_the_report_pairs_methods_by_seed_and_patient(tmp_path: Path, splits: int) -> None:
    rows, settings = Rows(tmp_path), protocol(splits=splits, seeds=4)
    noise = np.random.default_rng(0).normal(scale=0.2, size=(4, 5))
    for method, better in (("ciml", 0.1), ("segresnet", 0.0)):
        for seed in range(4):
            identity = _identity(method, 2, seed)
            found = [
                _outlined(method, 2, seed, choice, 0.5 + better * len(choice) / 2, noise[seed])
                for choice in choices(settings.modalities)
            ]
            run = {**identity, "candidates": 10, "parameters": 7, "gmac": 1, "step_s": 0.1, **TWO_STEPS}
            rows.add({OUTLINES: [each.row(identity) for each in found], RUNS: [run]})
    text = markdown(Results.read(rows, settings))
    primary, secondary = (text.split(heading)[1].split("##")[0] for heading in ("## Primary", "## Secondary"))
    assert "+0.100 [" in primary  # two of three modalities
    assert "+0.150 [" in secondary
    assert ("| CT MR_T1 | 0.6" in text) or ("| CT MR_T1 | 0.5" in text)
    if splits > 1:  # paired by division the patients' noise cancels
        assert "+0.100 [+0.100, +0.100]" in primary


def test_a_pool_that_is_tuned_elsewhere_is_not_tuned_here(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "p.yaml"
    file.write_text(yaml.safe_dump({**SETTINGS, "tuning": {**SETTINGS["tuning"], "pool": "other"}}))
    told = CliRunner().invoke(app, ["tune", str(folder), str(file), "--output", str(tmp_path / "out")])
    assert told.exit_code != 0
    assert "protocol other" in told.output
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_the_command_line_tunes_runs_and_goes_on_after_a_cut(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.ciml.fusion.__main__.process_pool", ThreadPoolExecutor)  # starts at once
    file, output = tmp_path / "p.yaml", tmp_path / "out"
    once = {**SETTINGS["tuning"], "steps": [1]}
    file.write_text(yaml.safe_dump({**SETTINGS, "labels": [2], "tuning": once}))
    common = [str(folder), str(file), "--output", str(output), "--methods"]
    tuned = CliRunner().invoke(app, ["tune", *common, "segresnet"])
    assert tuned.exit_code == 0, tuned.output
    assert "| segresnet | **" in (output / "report.md").read_text()
    part = CliRunner().invoke(app, ["run", *common, "ciml"])
    assert "2 trainings" in part.output, part.output
    again = CliRunner().invoke(app, ["run", *common, "ciml"])
    assert "0 trainings" in again.output, again.output
    assert "## Primary" in (output / "report.md").read_text()


def _identity(method: str, labels: int, seed: int) -> dict[str, Any]:
    return {"digest": "d", "method": method, "labels": labels, "seed": seed}


def _outlined(
    method: str, labels: int, seed: int, choice: tuple[str, ...], dice: float, noise: Any = (0.0,)
) -> Outlined:
    scores = {f"p{number}": [dice + shift, dice + shift] for number, shift in enumerate(noise)}
    return Outlined(method, labels, seed, choice, scores, {})
