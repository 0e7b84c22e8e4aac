"""Training on synthetic patients: it learns, reports, repeats, stops and fails aloud."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from lib.ciml.network.ciml_network import CimlNetwork
from lib.ciml.network.precision import Precision
from lib.ciml.training.optimisation import warm_up_then_cosine
from lib.ciml.training.patches import TrainingCase
from lib.ciml.training.train import (
    EpochReport,
    TrainingError,
    TrainingSettings,
    train,
)
from lib.ciml.training.validation import Validation, dice_of, surface_distance_of, validate

QUICK = TrainingSettings(
    epochs=4, steps_per_epoch=6, batch_size=2, roi_size=(16, 24, 24), learning_rate=2e-2, validate_every=2
)
MakeCase = Callable[..., TrainingCase]


def _weights(network: CimlNetwork) -> torch.Tensor:
    return torch.cat([weight.detach().flatten() for weight in network.state_dict().values()])


def test_training_finds_the_lesion_and_an_untrained_network_does_not(
    network: CimlNetwork, make_case: MakeCase
) -> None:
    cases, held_out = [make_case(n) for n in range(3)], [make_case(n) for n in (7, 8)]
    before = validate(network, held_out).dice
    result = train(network, cases, held_out, replace(QUICK, epochs=8), seed=0)
    after = validate(network, held_out).dice
    assert before < 0.3
    assert after > 0.6
    assert result.dice == pytest.approx(after)


def test_each_step_lowers_the_loss_of_a_fixed_batch(network: CimlNetwork, make_case: MakeCase) -> None:
    settings = replace(
        QUICK, epochs=6, steps_per_epoch=1, jitter=0.0, modality_dropout=0.0, foreground_share=1.0
    )
    result = train(network, [make_case()], [], settings)
    losses = [report.loss for report in result.reports]
    assert losses[-1] < losses[0]


def test_the_same_seed_gives_the_same_weights(network: CimlNetwork, make_case: MakeCase) -> None:
    cases, start = [make_case(0), make_case(1)], copy.deepcopy(network.state_dict())
    results = []
    for seed in (3, 3, 4):
        network.load_state_dict(start)
        torch.rand(seed)  # the global generator must not matter
        train(network, cases, [], replace(QUICK, epochs=1), seed=seed)
        results.append(_weights(network).clone())
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])


def test_every_epoch_is_reported(network: CimlNetwork, make_case: MakeCase) -> None:
    reports: list[EpochReport] = []
    result = train(network, [make_case(0)], [make_case(1)], QUICK, on_epoch=reports.append)
    assert [(report.epoch, report.epochs) for report in reports] == [(n, 4) for n in (1, 2, 3, 4)]
    assert [bool(report.dice_by_region) for report in reports] == [False, True, False, True]
    assert reports == result.reports
    assert reports[-1].seconds_left == 0.0
    assert reports[0].seconds_left > 0.0
    for report in reports:
        assert set(report.kl_by_level) == {0, 1}
        assert all(0.0 <= kl < 100.0 for kl in report.kl_by_level.values())


def test_the_best_weights_are_kept_and_not_the_last(
    network: CimlNetwork, make_case: MakeCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = iter([0.2, 0.8, 0.5, 0.1])
    seen: dict[int, torch.Tensor] = {}
    monkeypatch.setattr(
        "lib.ciml.training.train.validate",
        lambda *a, **k: Validation({"lesion": next(scores)}, {"lesion": 1.0}),
    )
    result = train(
        network,
        [make_case(0)],
        [make_case(1)],
        replace(QUICK, validate_every=1, steps_per_epoch=1),
        on_epoch=lambda report: seen.update({report.epoch: _weights(network).clone()}),
    )
    assert (result.best_epoch, result.dice) == (2, 0.8)
    assert torch.equal(_weights(network), seen[2])
    assert not torch.equal(seen[2], seen[4])
    assert not network.training


def test_without_validation_the_last_weights_stay(network: CimlNetwork, make_case: MakeCase) -> None:
    result = train(network, [make_case()], [], replace(QUICK, steps_per_epoch=1))
    assert (result.best_epoch, result.dice, result.stopped) == (4, None, False)


def test_training_stops_when_asked(network: CimlNetwork, make_case: MakeCase) -> None:
    answers = iter([False] * 8 + [True])
    result = train(network, [make_case()], [], QUICK, stop=lambda: next(answers))
    assert result.stopped
    assert len(result.reports) == 1


class _Killed(Exception):
    pass


@pytest.mark.parametrize("killed_after", [1, 2, 4])
def test_a_killed_training_ends_as_if_nothing_had_stopped_it(
    network: CimlNetwork, make_case: MakeCase, tmp_path: Path, killed_after: int
) -> None:
    cases, held_out, start = [make_case(0), make_case(1)], [make_case(2)], copy.deepcopy(network.state_dict())
    settings = replace(QUICK, steps_per_epoch=2)
    whole = train(network, cases, held_out, settings, seed=5)
    expected = _weights(network).clone()

    def kill(report: EpochReport) -> None:
        if report.epoch == killed_after:
            raise _Killed

    network.load_state_dict(start)
    file = tmp_path / "state.pt"
    with pytest.raises(_Killed):
        train(network, cases, held_out, settings, seed=5, on_epoch=kill, state_file=file)
    network.load_state_dict(start)
    told: list[EpochReport] = []
    again = train(network, cases, held_out, settings, seed=5, on_epoch=told.append, state_file=file)
    assert torch.equal(_weights(network), expected)
    assert [report.epoch for report in told] == list(range(killed_after + 1, 5))
    assert (again.best_epoch, again.validation) == (whole.best_epoch, whole.validation)
    assert [report.loss for report in again.reports] == [report.loss for report in whole.reports]


def test_a_state_that_cannot_be_read_means_a_new_start(
    network: CimlNetwork, make_case: MakeCase, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "state.pt"
    file.write_bytes(b"half a file")
    result = train(network, [make_case()], [], replace(QUICK, epochs=1, steps_per_epoch=1), state_file=file)
    assert len(result.reports) == 1
    assert "starts anew" in caplog.text


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_learns_too(network: CimlNetwork, make_case: MakeCase, precision: Precision) -> None:
    settings = replace(QUICK, epochs=6, precision=precision)
    result = train(network, [make_case(0), make_case(1)], [], settings)
    assert result.reports[-1].loss < 0.8 * result.reports[0].loss


def test_messages_that_collapse_are_told(network: CimlNetwork, make_case: MakeCase) -> None:
    settings = replace(QUICK, epochs=6, steps_per_epoch=8, beta=1e3, beta_warm_up=0.2)
    result = train(network, [make_case()], [], settings)
    assert not result.reports[0].warnings
    assert any("carry no information" in sentence for sentence in result.reports[-1].warnings)


def test_a_loss_that_is_not_finite_is_an_error(network: CimlNetwork, make_case: MakeCase) -> None:
    with torch.no_grad():
        network.decoders[0].head.weight.fill_(float("nan"))
    with pytest.raises(TrainingError, match=r"must be finite; got nan .* at step 1 of 24"):
        train(network, [make_case()], [], QUICK)


def test_cases_that_lack_modalities_are_learned_from(network: CimlNetwork, make_case: MakeCase) -> None:
    cases = [make_case(0, absent="PET"), make_case(1, absent="CT"), make_case(2)]
    result = train(network, cases, [cases[0]], replace(QUICK, epochs=1, modality_dropout=1.0))
    assert np.isfinite(result.reports[0].loss)


def test_what_cannot_be_trained_is_refused(network: CimlNetwork, make_case: MakeCase) -> None:
    case = make_case()
    with pytest.raises(ValueError, match="at least one labelled case"):
        train(network, [], [], QUICK)
    with pytest.raises(ValueError, match=r"labels of p0 must be 0\.\.1; got 2"):
        train(network, [TrainingCase(case.prepared, case.label * np.uint8(2))], [], QUICK)
    with pytest.raises(ValueError, match="case p0 must have the channels"):
        train(
            network, [TrainingCase(replace(case.prepared, modalities=("A", "B", "C")), case.label)], [], QUICK
        )
    with pytest.raises(ValueError, match="roi_size must be multiples of"):
        train(network, [case], [], replace(QUICK, roi_size=(15, 24, 24)))
    with pytest.raises(ValueError, match="epochs must be at least 1"):
        TrainingSettings(epochs=0)
    with pytest.raises(ValueError, match="modality_dropout must be between 0 and 1"):
        TrainingSettings(modality_dropout=1.5)


@pytest.mark.parametrize(
    ("predicted", "reference", "dice"),
    [
        ((1, 1, 0, 0), (1, 0, 0, 0), 2 / 3),
        ((0, 0, 0, 0), (0, 0, 0, 0), 1.0),
        ((1, 0, 0, 0), (0, 0, 0, 0), 0.0),
        ((0, 0, 0, 0), (1, 0, 0, 0), 0.0),
    ],
)
def test_dice_has_a_rule_for_empty_masks(
    network: CimlNetwork, predicted: tuple[int, ...], reference: tuple[int, ...], dice: float
) -> None:
    masks = np.array(predicted, np.float32).reshape(1, 1, 2, 2)
    label = np.array(reference, np.uint8).reshape(1, 2, 2)
    assert dice_of(masks, label, decomposition=network.decomposition)[0] == pytest.approx(dice)


def test_the_surface_distance_is_in_mm_and_has_a_rule_for_empty_masks(network: CimlNetwork) -> None:
    def distance(predicted: slice, reference: slice) -> float:
        masks, label = np.zeros((1, 6, 8, 8), np.float32), np.zeros((6, 8, 8), np.uint8)
        masks[0, predicted, 2:6, 2:6], label[reference, 2:6, 2:6] = 1.0, 1
        return float(
            surface_distance_of(masks, label, decomposition=network.decomposition, spacing=(3.0, 1.0, 1.0))[0]
        )

    nothing = slice(0, 0)
    assert distance(slice(1, 3), slice(1, 3)) == 0.0
    assert distance(slice(1, 2), slice(2, 3)) == pytest.approx(3.0)  # one slice of 3 mm aside
    assert distance(nothing, slice(1, 3)) == pytest.approx(np.linalg.norm([18.0, 8.0, 8.0]))
    assert np.isnan(distance(nothing, nothing))


def learning_rates(steps: int) -> list[float]:
    """Learning rate of each step, as a share of the peak."""
    optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = warm_up_then_cosine(optimiser, steps)
    rates = []
    for _ in range(steps):
        rates += schedule.get_last_lr()
        optimiser.step()
        schedule.step()
    return rates


def test_the_learning_rate_rises_then_falls_to_zero() -> None:
    rates = learning_rates(100)
    assert np.argmax(rates) == 5
    assert max(rates) == 1.0
    assert rates[-1] < 0.001
    assert (np.diff(rates[5:]) < 0).all()
    assert learning_rates(1)[0] > 0
