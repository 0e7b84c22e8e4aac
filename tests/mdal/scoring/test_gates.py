"""Gates: figures with limits, in words."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lib.mdal.scoring.gates import (
    follows_gates,
    memory_gate,
    nats_gate,
    place_gate,
    protocol_gate,
    retrieval_gate,
    rise_gate,
    seeds_gate,
)

RNG = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("matched", "chance", "passes", "says"),
    [
        (0.39, 0.125, True, "39% of unseen"),
        (0.14, 0.125, False, "too little was learnt"),
        (0.995, 0.125, False, "shortcut"),
        (math.nan, math.nan, None, "could not be computed"),
        (1.0, 1.0, None, "could not be computed"),  # nobody to be told from
    ],
)
def test_retrieval_is_neither_chance_nor_perfect(matched, chance, passes, says):
    gate = retrieval_gate(matched, chance, "Training ended")
    assert gate.passed is passes
    assert says in gate.sentence
    assert (gate.value is None) == (passes is None)
    assert ("Training ended." in gate.sentence) == (passes is not None)


def test_seeds_that_disagree_fail_and_say_by_how_much():
    same = RNG.standard_normal(40)
    assert seeds_gate([same, same + 0.1, same * 2]).value == pytest.approx(1.0)
    other = seeds_gate([same, RNG.standard_normal(40)])
    assert other.passed is False
    assert "below the limit" in other.sentence
    assert seeds_gate([same]).passed is None


def test_models_that_remember_fail():
    assert memory_gate(1.0, 0.8, 0.3).passed is True
    assert memory_gate(3.0, 0.8, 0.3).passed is False


@pytest.mark.parametrize("kind", ["exchanged", "shifted", "erased"])
def test_a_difference_that_does_not_rise_in_spoilt_cases_fails(kind):
    assert rise_gate(kind, np.array([1.0, 0.5, 0.2, 0.1, math.nan])).passed is True
    gate = rise_gate(kind, np.array([1.0, -0.5, -0.2, -0.1]))
    assert gate.passed is False
    assert gate.value == 0.25
    assert rise_gate(kind, np.array([math.nan])).value is None


def test_nats_are_nats_only_where_the_mean_ratio_is_near_one():
    assert nats_gate(0.2).passed is True
    assert nats_gate(2.0).passed is False


def test_cases_of_different_parts_of_the_body_are_not_compared_by_place():
    brains, anywhere = place_gate(0.67), place_gate(0.07)
    assert (brains.passed, anywhere.passed, place_gate(math.nan).passed) == (True, False, None)
    assert "the order `representative` is a random one" in anywhere.sentence
    assert not anywhere.of_the_order


def test_a_difference_that_merely_follows_the_size_of_the_patient_fails():
    difference = RNG.standard_normal(60)
    measured = {
        "foreground volume": difference + 0.3 * RNG.standard_normal(60),
        "noise": RNG.standard_normal(60),
    }
    size, noise = follows_gates(difference, measured)
    assert (size.passed, noise.passed) == (False, True)
    assert "may measure that instead" in size.sentence
    assert follows_gates(difference, {"nothing": np.full(60, math.nan)})[0].passed is None


def test_a_difference_that_is_a_matter_of_the_scanner_fails():
    spacing = np.repeat([[3.0, 1.0, 1.0], [5.0, 0.8, 0.8]], 20, axis=0)
    difference = RNG.standard_normal(40) + 4 * (np.arange(40) < 20)
    assert protocol_gate(difference, spacing).passed is False
    assert protocol_gate(RNG.standard_normal(40), spacing).passed is True
    assert protocol_gate(difference, np.ones((40, 3))).passed is None
