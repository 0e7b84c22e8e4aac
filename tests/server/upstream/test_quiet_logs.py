"""Log lines of MONAI Label that are not printed."""

import logging

import pytest

from lib.server.tasks.progress_log import ProgressLog
from lib.server.upstream.quiet_logs import quiet_logs


def test_ticks_are_not_printed_whatever_level_is_set_later_and_warnings_are(
    caplog: pytest.LogCaptureFixture,
) -> None:
    quiet_logs()
    quiet_logs()  # as in a process that loads the app twice
    logger = logging.getLogger("timeloop")
    logger.setLevel(logging.INFO)
    logger.info("Starting Timeloop..")
    logger.warning("a job failed")
    assert [record.message for record in caplog.records] == ["a job failed"]


def test_a_job_logs_its_progress_every_ten_seconds_at_most(
    caplog: pytest.LogCaptureFixture,
) -> None:
    seconds = iter([0.0, 0.0, 0.0, 3.0, 9.9, 10.0, 10.0, 12.0])
    caplog.set_level(logging.INFO)
    log = ProgressLog("scoring", logging.getLogger("a job"), clock=lambda: next(seconds))
    for done in (0.0, 0.1, 0.2, 0.5, 0.6):
        log(done, f"training {done}")
    assert [record.message for record in caplog.records] == [
        "scoring   0 %: training 0.0",
        "scoring  50 %: training 0.5, 10 s left",
    ]
