"""What more labels bring is told where the earlier versions show it, with how sure that is."""

from __future__ import annotations

import numpy as np
import pytest

from lib.ciml.label_gain import Judged, label_gain, mean_interval


def judged(*labels: int, doubling: float, spread: float = 0.0, patients: int = 8) -> list[Judged]:
    """Versions whose Dice rises with each doubling of the labels, by more or less in every other patient."""
    levels = np.linspace(0.3, 0.6, patients)
    slopes = [doubling + spread * (-1) ** number for number in range(patients)]
    return [
        Judged(
            number,
            count,
            {
                f"p{place}": float(level + slope * np.log2(count / labels[0]))
                for place, (level, slope) in enumerate(zip(levels, slopes, strict=True))
            },
        )
        for number, count in enumerate(labels, start=1)
    ]


def test_a_gain_that_all_patients_share_is_found_whatever_their_level() -> None:
    gain = label_gain(judged(10, 20, 40, doubling=0.05), coming=40)
    assert gain is not None
    assert gain.doubling[0] == pytest.approx(0.05)
    assert gain.coming[0] == pytest.approx(0.05)  # 40 more are one doubling
    assert gain.coming[1] == pytest.approx((0.05, 0.05))
    assert (gain.first.version, gain.last.version, gain.patients) == (1, 3, 8)
    assert not gain.is_flat


def test_a_flat_curve_is_called_so_only_where_the_interval_says_it() -> None:
    flat = label_gain(judged(10, 20, 40, doubling=0.001), coming=10)
    unsure = label_gain(judged(10, 20, 40, doubling=0.001, spread=0.1), coming=10)
    assert flat
    assert flat.is_flat
    assert unsure
    low, high = unsure.coming[1]
    assert low < 0.0 < 0.01 < high
    assert not unsure.is_flat


@pytest.mark.parametrize(
    "versions",
    [
        [],
        judged(10, 40, doubling=0.1),
        judged(10, 11, 12, doubling=0.1),
        [
            Judged(each.version, each.labels, dict([*each.dice.items()][:4]))
            for each in judged(10, 20, 40, doubling=0.1)
        ],
    ],
    ids=["none", "two versions", "hardly more labels", "four patients"],
)
def test_of_too_little_nothing_is_told(versions: list[Judged]) -> None:
    assert label_gain(versions, coming=10) is None


def test_only_versions_and_patients_that_are_comparable_count() -> None:
    _, *later = judged(5, 10, 20, 40, doubling=0.05)
    few = Judged(1, 5, {"p0": 0.9})  # of the first days: one validation patient
    more = Judged(4, 40, {**later[-1].dice, "new": 0.0})
    gain = label_gain([few, *later[:-1], more], coming=10)
    assert gain is not None
    assert (gain.first.version, gain.patients) == (2, 8)
    assert gain.doubling[0] == pytest.approx(0.05)


def test_the_interval_of_a_mean_holds_it_and_narrows_with_more_values() -> None:
    values = np.random.default_rng(1).normal(0.7, 0.1, 400)
    low, high = mean_interval(values)
    assert low < values.mean() < high
    assert (high - low) == pytest.approx(4 * 0.1 / 20, rel=0.15)
    assert mean_interval(values) == (low, high)
    assert mean_interval([0.5, 0.5]) == (0.5, 0.5)
