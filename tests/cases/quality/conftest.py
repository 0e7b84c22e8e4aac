"""The sample patients, measured once."""

from __future__ import annotations

from typing import Any

import pytest

from lib.cases.case import Case
from lib.cases.discovery.layouts import find_pool
from lib.cases.quality.measurements import measure
from tests.support.checked_samples import PREPARATION, SAMPLES


@pytest.fixture(scope="package")
def cases() -> dict[str, Case]:
    return {case.id: case for case in find_pool(SAMPLES, layout="folder").cases}


@pytest.fixture(scope="package")
def measured(cases: dict[str, Case]) -> dict[str, dict[str, Any]]:
    return {id: measure(case, PREPARATION) for id, case in cases.items()}
