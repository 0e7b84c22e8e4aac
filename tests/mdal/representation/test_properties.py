"""What is measured of a case without a label."""

from __future__ import annotations

import numpy as np
import pytest

from lib.cases.formats.image import Grid
from lib.cases.preprocessing import PreparedCase
from lib.mdal.representation.properties import measure_properties, stack_properties


def case(array, present=(True, True), spacing=(1.0, 1.0, 1.0)):
    inside = np.zeros(array.shape[1:], dtype=bool)
    inside[2:-2, 4:-4, 4:-4] = True
    grid = Grid(array.shape[1:], np.diag([*spacing[::-1], 1.0]))
    return PreparedCase("p", ("CT", "PET"), array.astype(np.float16), inside, np.array(present), grid)


def smooth(seed=0, *, noise=0.0):
    generator = np.random.default_rng(seed)
    z, y, x = np.mgrid[:16, :40, :40]
    field = np.sin(x / 6 + generator.uniform(0, 6)) + np.cos(y / 7 + z / 5)
    return field + noise * generator.standard_normal(field.shape)


def test_volume_and_protocol_are_those_of_the_grid():
    found = measure_properties(case(np.stack([smooth(), smooth(1)]), spacing=(5.0, 2.0, 0.5)))
    assert found.spacing.tolist() == [5.0, 2.0, 0.5]
    assert found.foreground_ml == pytest.approx(12 * 32 * 32 * 5 / 1000)


def test_noise_is_measured_apart_from_content():
    quiet, loud = (
        measure_properties(case(np.stack([smooth(noise=level)] * 2))).signal_to_noise[0]
        for level in (0.1, 0.5)
    )
    assert quiet == pytest.approx(10, rel=0.25)
    assert loud == pytest.approx(2.2, rel=0.25)


def test_what_is_absent_or_constant_is_no_number_and_no_error():
    found = measure_properties(case(np.stack([smooth(), np.zeros((16, 40, 40))]), present=(True, False)))
    assert np.isnan(found.signal_to_noise[1])
    constant = measure_properties(case(np.stack([smooth(), np.ones((16, 40, 40))])))
    assert np.isnan(constant.signal_to_noise[1])


def test_cases_are_stacked():
    both = stack_properties([measure_properties(case(np.stack([smooth(), smooth(1)]))) for _ in range(2)])
    assert both.spacing.shape == (2, 3)
    assert both.foreground_ml.shape == (2,)
