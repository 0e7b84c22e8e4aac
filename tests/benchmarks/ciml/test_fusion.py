from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from benchmarks.ciml.ciml_vs_fusion import SCHEDULE, with_steps
from benchmarks.ciml.fusion_report import print_report
from benchmarks.ciml.fusion_rows import CONTRIBUTION, MISSING, RUNS, Finished, Rows
from benchmarks.ciml.fusion_run import Run, contribution_rows, runs_of
from benchmarks.ciml.silencing import ALL, Apart, dice_of_subsets, silenced, subsets
from benchmarks.common.patients import dice, judge, oracle_threshold, outline
from lib.cases.formats.image import Grid
from lib.cases.preprocessing import PreparedCase
from lib.ciml.decomposition.table import decomposition_for
from lib.ciml.network.ciml_network import CimlNetwork
from lib.ciml.training.patches import TrainingCase

MODALITIES, SIZE = ("MR_T1", "CT", "PET"), (16, 32, 32)


@pytest.fixture
def case() -> TrainingCase:
    random = np.random.default_rng(0)
    label = np.zeros(SIZE, dtype=np.uint8)
    label[4:12, 8:24, 8:24] = 1
    array = (random.normal(size=(3, *SIZE)) + label).astype(np.float16)
    here, body = np.ones(3, dtype=bool), np.ones(SIZE, dtype=bool)
    return TrainingCase(PreparedCase("one", MODALITIES, array, body, here, Grid(SIZE, np.eye(4))), label)


@pytest.fixture
def network() -> CimlNetwork:
    """With messages that say something."""
    torch.manual_seed(0)
    network = CimlNetwork(decomposition_for(MODALITIES, labels=("lesion",)), MODALITIES)
    for name, weights in network.named_parameters():
        if name.endswith("out.weight"):
            torch.nn.init.normal_(weights, std=3.0)
    return network.eval()


def test_what_a_message_is_worth_is_what_leaving_it_alone_out_costs(
    network: CimlNetwork, case: TrainingCase
) -> None:
    class Without(Apart):
        def __init__(self, *silent: tuple[str, str]) -> None:
            super().__init__(network)
            self.silent, self.decomposition = frozenset(silent), network.decomposition

    def dice_without(*silent: tuple[str, str]) -> float:
        return dice(outline(Without(*silent), case), case, network.decomposition)

    found = silenced(network, case)
    pairs = [(sender, task.name) for task in network.decomposition.subtasks for sender in task.auxiliary]
    assert set(found) == {*pairs, *((name, ALL) for name in MODALITIES)}
    whole = dice(outline(network, case), case, network.decomposition)
    for pair in pairs:
        assert found[pair]["loss"] == pytest.approx(whole - dice_without(pair), abs=1e-4)
    for name in MODALITIES:
        every = [pair for pair in pairs if pair[0] == name]
        assert found[name, ALL]["loss"] == pytest.approx(whole - dice_without(*every), abs=1e-4)
    assert any(abs(each["loss"]) > 1e-3 for each in found.values())


def test_a_senders_contribution_is_that_of_its_messages(network: CimlNetwork, case: TrainingCase) -> None:
    rows = {(row["sender"], row["subtask"]): row["contributions"] for row in contribution_rows(network, case)}
    for name in MODALITIES:
        others = [other for other in MODALITIES if other != name]
        for measure, value in rows[name, ALL].items():
            assert value == pytest.approx(sum(rows[name, other][measure] for other in others))


def test_every_choice_of_modalities_gives_an_outline(network: CimlNetwork, case: TrainingCase) -> None:
    choices = ["+".join(subset) for subset in subsets(MODALITIES)]
    assert len(choices) == len(set(choices)) == 7
    assert list(dice_of_subsets(network, [case])) == choices[1:]


def test_the_oracle_is_the_best_of_all_thresholds(case: TrainingCase) -> None:
    uptake = case.prepared.array[2]
    best = max(
        2.0 * ((uptake >= level) & (case.label > 0)).sum() / ((uptake >= level).sum() + case.label.sum())
        for level in np.unique(uptake)
    )
    assert oracle_threshold(case) == pytest.approx(best)


def test_an_empty_outline_is_as_far_off_as_the_volume_is_long(
    network: CimlNetwork, case: TrainingCase
) -> None:
    nothing = np.zeros((1, *SIZE), dtype=np.float32)
    diagonal = np.linalg.norm(SIZE)
    scores = judge(nothing, case, network.decomposition)
    assert scores == {"dice": 0.0, "surface_distance": diagonal, "hausdorff95": diagonal}
    exact = judge(case.label[None].astype(np.float32), case, network.decomposition)
    assert exact == {"dice": 1.0, "surface_distance": 0.0, "hausdorff95": 0.0}


def test_a_run_that_was_cut_before_its_row_is_not_finished_and_leaves_nothing_twice(tmp_path: Path) -> None:
    rows, identity = Rows(tmp_path), _identity("ciml", 0)
    absent = {**identity, "modalities": "CT", "dice": {"a": 0.1}}
    rows.write(Finished({MISSING: [absent]}))  # killed here
    assert not rows.done()
    assert rows.read(MISSING) == []
    rows.write(
        Finished({MISSING: [{**absent, "dice": {"a": 0.2}}], RUNS: [{**identity, "dice": {"a": 0.5}}]})
    )
    assert len(rows.done()) == 1
    assert [row["dice"] for row in rows.read(MISSING)] == [{"a": 0.2}]


def test_a_cut_of_the_runs_is_fair_to_every_method() -> None:
    runs = runs_of(("ciml", "segresnet"), ("CT+PET+MR", "CT+MR"), 3)
    assert len(set(runs)) == 12
    assert all(first.seed <= second.seed for first, second in pairwise(runs))
    for cut in range(len(runs)):
        counts = [sum(run.method == name for run in runs[:cut]) for name in ("ciml", "segresnet")]
        assert abs(counts[0] - counts[1]) <= 2
    assert Run("CT+MR", "ciml", 0) in runs[:2]


def test_a_schedule_can_have_any_number_of_steps() -> None:
    assert [with_steps(SCHEDULE, steps).steps for steps in (6, 50, 500, 7, 120)] == [6, 50, 500, 7, 120]


def test_the_report_pairs_methods_by_seed_and_patient(tmp_path: Path) -> None:
    rows = Rows(tmp_path)
    for method, better in (("ciml", 0.1), ("segresnet", 0.0)):
        for seed in range(3):
            identity = _identity(method, seed)
            scores = {f"p{number}": 0.5 + 0.03 * number + 0.1 * seed + better for number in range(5)}
            run = {
                **identity, "parameters": 7, "gmac": 1, "step_s": 0.1, "dice": scores,
                "surface_distance": scores, "hausdorff95": scores,
            }  # fmt: skip
            lost = {id: score - 0.2 + better for id, score in scores.items()}
            absent = [
                {**identity, "modalities": name, "dice": dice}
                for name, dice in (("CT+MR", scores), ("CT", lost), ("MR", scores))
            ]
            said = [
                {
                    **identity, "patient": id, "sender": "MR", "subtask": subtask, "loss": score,
                    "subtask_loss": score, "contributions": {"kl": score * 2},
                }
                for id, score in scores.items()
                for subtask in ("CT", ALL)
            ]  # fmt: skip
            extra = {CONTRIBUTION: said} if method == "ciml" else {}
            rows.write(Finished({RUNS: [run], MISSING: absent, **extra}))
    rows.write(
        Finished(
            {RUNS: [{**_identity("oracle", 0), "setting": "", "dice": {f"p{n}": 0.6 for n in range(5)}}]}
        )
    )
    console = Console(record=True, width=240, file=(tmp_path / "out").open("w"))
    print_report(rows, console, split="test")
    text = console.export_text()
    assert "+0.100 [+0.100, +0.100]" in text  # ciml less segresnet
    assert "-0.100 [-0.100, -0.100]" in text  # less is lost with CT alone
    (mean,) = (line for line in text.splitlines() if "all but one, mean" in line)
    assert "-0.050 [-0.050, -0.050]" in mean  # and half of that in the mean of CT alone and MR alone
    assert "1.000 [1.000, 1.000]" in text  # contribution and loss in the same order
    assert "oracle" in text


def _identity(method: str, seed: int) -> dict[str, str]:
    numbers = (
        "epochs",
        "steps_per_epoch",
        "batch_size",
        "roi_size",
        "learning_rate",
        "beta",
        "modality_dropout",
    )
    settings = json.dumps({"training": dict.fromkeys(numbers, 1), "network": {"channels": [1]}})
    return {"split": "test", "setting": "CT+MR", "method": method, "seed": str(seed), "settings": settings}
