"""Arguments of MONAI Label's endpoints: what does not fit is told before anything is done with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from fastapi import HTTPException
from monailabel.endpoints import batch_infer, datastore, infer, logs, model, ohif, scoring, train, wsi_infer

from lib.server.boundary.arguments import checked, json_object
from lib.server.endpoints import page
from lib.server.errors import ClientError


class App:
    """Stands in for an app with one task of each kind."""

    def info(self) -> dict[str, Any]:
        return {"trainers": {"ciml": {}}, "scoring": {"mdal": {}}, "models": {"ciml": {}}}

    def datastore(self) -> App:
        return self

    def add_image(self, *_: Any) -> None:
        raise ClientError("images must be put in the studies folder.")


@pytest.fixture(autouse=True)
def _app(load_app: Callable[[App], App]) -> None:
    load_app(App())


@pytest.mark.parametrize(
    ("endpoint", "arguments", "said"),
    [
        (infer.api_run_inference, {"image": ""}, "got none"),
        (infer.api_run_inference, {"image": "p", "session_id": "x"}, "several volumes"),
        (infer.api_run_inference, {"image": "p", "file": object()}, "several volumes"),
        (infer.api_run_inference, {"image": "p", "label": object()}, "no label"),
        (infer.api_run_inference, {"image": "p", "output": infer.ResultType.dicom_seg}, "output must be"),
        (infer.api_run_inference, {"image": "p", "params": "[1"}, "params must be a JSON object"),
        (wsi_infer.api_run_wsi_v2_inference, {"wsi": "{"}, "no whole-slide"),
        (wsi_infer.api_run_wsi_inference, {}, "no whole-slide"),
        (train.api_run_model, {"model": "x"}, "model must be one of ciml"),
        (train.api_run_model, {"model": "ciml", "params": {"max_epochs": 0}}, "max_epochs must be"),
        (train.api_run_model, {"model": "ciml", "params": {"max_epochs": "5"}}, "max_epochs must be"),
        (train.api_run, {"params": {"ciml": {"max_epochs": True}}}, "max_epochs must be"),
        (scoring.api_run_method, {"method": "x"}, "method must be one of mdal"),
        (batch_infer.api_run, {"model": "x"}, "model must be one of ciml"),
        (batch_infer.api_run, {"model": "ciml", "params": {"label_tag": "final"}}, "must not take the place"),
        (batch_infer.api_run, {"model": "ciml", "params": {"label_tag": "../x"}}, "tag must be"),
        (batch_infer.api_run, {"model": "ciml", "params": {"max_workers": -1}}, "max_workers must be"),
        (datastore.api_add_image, {}, "studies folder"),
        (datastore.api_check_image, {"check_sum": "MD9:1"}, "check_sum must begin"),
        (datastore.api_download_dataset, {"limit_cases": -1}, "limit_cases must be"),
        (datastore.api_put_image_info, {"info": "{"}, "info must be"),
        (datastore.api_put_label_info, {"info": "[]"}, "got list"),
        (datastore.api_update_label_info, {"params": "1"}, "params must be"),
        (model.api_model_info, {"model": "x"}, "model must be one of ciml"),
    ],
)
def test_what_does_not_fit_is_refused_with_a_sentence(
    endpoint: Any, arguments: dict[str, Any], said: str
) -> None:
    with pytest.raises(ClientError) as caught:
        checked(endpoint, arguments)
    assert said in str(caught.value.detail)
    assert 400 <= caught.value.status_code < 500


def test_devices_and_folders_that_clients_name_reach_no_process() -> None:
    sent = {"gpus": 5, "device": "cuda:7", "train_ds": "/etc", "name": "../x", "client_id": "ann"}
    assert checked(train.api_run_model, {"model": "ciml", "params": {**sent, "max_epochs": 3}})["params"] == {
        "max_epochs": 3
    }
    assert checked(train.api_run, {"params": {"ciml": {**sent, "max_epochs": 2}}})["params"] == {
        "max_epochs": 2
    }
    assert checked(scoring.api_run_method, {"method": "mdal", "params": sent})["params"] == {}
    batch = checked(batch_infer.api_run, {"model": "ciml", "params": {**sent, "images": ["/etc/passwd"]}})
    assert batch["params"] == {"label_tag": "original"}


@pytest.mark.parametrize("text", ["{", "[" * 100_000, '{"a": NaN}', '{"a": -Infinity}', "null", '"x"', "\0"])
def test_what_is_no_json_object_is_refused(text: str) -> None:
    with pytest.raises(ClientError, match="must be a JSON object"):
        json_object(text, "params")
    assert json_object("", "params") == {}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"a": 1, "b": {"c": 2, "c": 3}}', "names 'c' twice"),
        ('{"a": 1, "a": 1}', "names 'a' twice"),
        ('{"a": 1e999}', "1e999, which is beyond any number"),
        ('{"a": [-1e400]}', "-1e400, which is beyond any number"),
    ],
)
def test_json_that_could_be_read_in_two_ways_is_refused(text: str, said: str) -> None:
    with pytest.raises(ClientError, match="params must be a JSON object") as caught:
        json_object(text, "params")
    assert said in str(caught.value.detail)


def test_a_log_is_sent_up_to_a_bound() -> None:
    assert checked(logs.api_get_logs, {"lines": 10**30})["lines"] == 100_000


def test_a_folder_of_the_viewer_and_a_missing_gpu_are_not_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    for endpoint, arguments in ((ohif.api_get_ohif, {"path": ".."}), (logs.gpu_info, {})):
        with pytest.raises(HTTPException) as caught:
            checked(endpoint, arguments)
        assert caught.value.status_code == 404
    assert checked(ohif.api_get_ohif, {"path": ""}) == {"path": ""}


@pytest.mark.parametrize("path", ["x" * 258, "é" * 200, "a\0b", "a/" * 3000])
def test_a_name_that_no_file_can_have_is_no_file_of_the_viewer_and_none_of_the_page(path: str) -> None:
    assert checked(ohif.api_get_ohif, {"path": path}) == {"path": path}  # the viewer's start page answers
    for name in (path, f"{path}.js", f"../{path}.js"):
        with pytest.raises(ClientError, match="no such file"):
            page.static(name)
