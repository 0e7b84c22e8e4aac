"""Where the figures of a training go."""

import sys
from pathlib import Path

import pytest

from lib.ciml.training.train import EpochReport
from lib.pipeline.tracking import figures, tracker
from lib.runtime.errors import UserError

MEASURED = EpochReport(1, 2, 0.5, {2: 0.1}, {"lesion": 0.7}, {"lesion": 3.0}, 0.7, 9.0)
UNMEASURED = EpochReport(2, 2, 0.4, {2: 0.2}, {}, {}, None, 0.0)


def test_what_was_not_measured_is_left_out() -> None:
    assert figures(MEASURED) == {
        "train/loss": 0.5,
        "train/kl_nats/level_2": 0.1,
        "validation/dice": 0.7,
        "validation/dice/lesion": 0.7,
        "validation/surface_distance_mm/lesion": 3.0,
    }
    assert figures(UNMEASURED) == {"train/loss": 0.4, "train/kl_nats/level_2": 0.2}


def test_tensorboard_can_read_every_epoch(tmp_path: Path) -> None:
    with tracker(tmp_path, run="first", parameters={}) as tell:
        tell(MEASURED)
        tell(UNMEASURED)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "first"))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("train/loss")] == [
        (1, 0.5),
        (2, pytest.approx(0.4)),
    ]
    assert [event.step for event in events.Scalars("validation/dice/lesion")] == [1]


def test_mlflow_that_is_not_installed_is_said_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with (
        pytest.raises(UserError, match=r"needs MLflow; it is not installed\. Run `pip install mlflow`"),
        tracker(tmp_path, run="first", parameters={}),
    ):
        pass


@pytest.mark.slow
def test_mlflow_gets_the_same_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow")
    uri = f"sqlite:///{tmp_path / 'tracked.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with tracker(tmp_path, run="first", parameters={"seed": 3}) as tell:
        tell(MEASURED)
        tell(UNMEASURED)
    client = mlflow.MlflowClient(uri)
    (run,) = client.search_runs([client.get_experiment_by_name("mdal-ciml").experiment_id])
    assert run.info.status == "FINISHED"
    assert run.data.params == {"seed": "3"}
    assert run.data.metrics == figures(MEASURED) | figures(UNMEASURED)
    assert [metric.step for metric in client.get_metric_history(run.info.run_id, "train/loss")] == [1, 2]


@pytest.mark.slow
def test_an_mlflow_that_does_not_answer_is_said_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with (
        pytest.raises(
            UserError, match=r"MLFLOW_TRACKING_URI must name an MLflow server or database that answers"
        ),
        tracker(tmp_path, run="first", parameters={}),
    ):
        pass
