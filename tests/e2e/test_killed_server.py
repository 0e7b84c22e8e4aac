"""A server under kill -9, and one that is asked to stop."""

import signal
from pathlib import Path

import numpy as np
import pytest

from benchmarks.server.killed_server import LABELLED, PHASES, kill_once, studies_of


@pytest.mark.slow
@pytest.mark.e2e
def test_a_killed_server_leaves_no_process_and_no_label_with_the_notes_of_another(tmp_path: Path) -> None:
    studies = studies_of(tmp_path / "studies", (*LABELLED, "STS_018", "STS_041"))
    rng = np.random.default_rng(1)
    stopped = [("check", signal.SIGTERM), ("scoring", signal.SIGINT)]
    for phase, how in [*((phase, signal.SIGKILL) for phase in PHASES), *stopped]:
        seen = kill_once(studies, phase, rng, how=how, within_s=4.0)
        assert (phase, seen["left"], seen["disagree"]) == (phase, 0, 0)
