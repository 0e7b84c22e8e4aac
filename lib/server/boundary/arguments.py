"""Checks of the arguments of MONAI Label's endpoints, before anything is written, queued or run.

MONAI Label 0.8.5 parses some arguments in its endpoints, where an invalid one ends in a 500. It hands others
on to processes, which then never start.
"""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Callable
from math import isfinite
from typing import Any

from fastapi import HTTPException

from lib.labels.versions import check_tag
from lib.runtime.errors import UserError
from lib.server.errors import ClientError, offered
from lib.server.upstream.ohif import VIEWER

Arguments = dict[str, Any]  # arguments of an endpoint, by name
_CHECKSUMS = ("SHA256", "SHA512", "MD5")  # algorithms that MONAI Label knows
_LINES = 100_000  # most lines of a log in one answer
_ONE_FILE = (
    "a case is several volumes, so one file cannot be segmented. Put the case into the studies and ask for "
    "it by its id."
)


def checked(endpoint: Callable[..., Any], arguments: Arguments) -> Arguments:
    """Check the arguments of an endpoint; returns those to call it with.

    Raises:
        ClientError: If an argument is not valid.
    """
    module = endpoint.__module__.rpartition(".")[2]
    check = _CHECKS.get(f"{module}.{endpoint.__name__}", _CHECKS.get(module))
    return check(arguments) if check else arguments


def json_object(text: Any, name: str) -> dict[str, Any]:
    """Parse a JSON object; empty text gives an empty object.

    Raises:
        ClientError: If the text is anything else, names a key twice, or holds NaN or infinity, which are not
            JSON.
    """
    try:
        found = json.loads(
            text or "{}",
            parse_constant=_refuse_constant,
            parse_float=_finite,
            object_pairs_hook=_without_repeats,
        )
    except ClientError as err:
        raise ClientError(f"{name} must be a JSON object; {err.detail}") from err
    except (ValueError, RecursionError) as err:
        raise ClientError(f"{name} must be a JSON object; it cannot be read as JSON.") from err
    if not isinstance(found, dict):
        raise ClientError(f"{name} must be a JSON object; got {type(found).__name__}.")
    return found


def _refuse_constant(name: str) -> Any:
    raise ValueError(name)


def _finite(text: str) -> float:
    if not isfinite(number := float(text)):
        raise ClientError(f"it holds {text[:20]}, which is beyond any number. Send finite numbers.")
    return number


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Object of these pairs; of two values under one key, readers of JSON take different ones."""
    found = dict(pairs)
    if len(found) < len(pairs):
        repeated = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise ClientError(f"it names {repeated[:40]!r} twice. Send each key once.")
    return found


def _infer(arguments: Arguments) -> Arguments:
    if arguments.get("file") or arguments.get("session_id"):
        raise ClientError(_ONE_FILE)
    if arguments.get("label"):
        raise ClientError("ciml starts from the images alone; send no label with the request.")
    if not arguments.get("image"):
        raise ClientError("image must be the id of a case or of one of its volumes; got none.")
    if getattr(arguments.get("output"), "value", "") == "dicom_seg":
        raise ClientError(
            "output must be image, json or all. Labels reach the PACS as DICOM SEG when they are saved."
        )
    json_object(arguments.get("params"), "params")
    return arguments


def _no_slides(_: Arguments) -> Arguments:
    raise ClientError("this app has no whole-slide images; ask /infer/ciml for a case.", status=404)


def _train(arguments: Arguments) -> Arguments:
    """Keep the arguments of the task; clients also send devices and folders, which the settings decide."""
    from lib.server.tasks.train import check_epochs  # with torch, takes seconds to import

    trainers = _app().info()["trainers"]
    model = arguments["model"] if "model" in arguments else None
    if model is not None:
        offered("model", model, trainers)
    sent = arguments.get("params") or {}
    own = sent.get(model or next(iter(trainers), ""))
    asked = {**sent, **(own if isinstance(own, dict) else {})}
    kept = {"max_epochs": check_epochs(asked["max_epochs"])} if "max_epochs" in asked else {}
    return {**arguments, "params": kept}


def _scoring(arguments: Arguments) -> Arguments:
    """Keep no parameter: the settings decide how the pool is scored."""
    if "method" in arguments:
        offered("method", arguments["method"], _app().info()["scoring"])
    return {**arguments, "params": {}}


def _batch(arguments: Arguments) -> Arguments:
    """Keep the arguments of the task."""
    offered("model", arguments["model"], _app().info()["models"])
    sent = arguments.get("params") or {}
    kept: dict[str, Any] = {
        name: _whole_number(sent[name], name)
        for name in ("max_workers", "max_batch_size")
        if sent.get(name) is not None
    }
    if (tag := sent.get("label_tag") or "original") == "final":
        raise ClientError("a model's answers must not take the place of readers' final labels; use original.")
    try:
        kept["label_tag"] = check_tag(getattr(tag, "value", tag))
    except UserError as err:
        raise ClientError(str(err)) from err
    return {**arguments, "params": kept}


def _whole_number(value: Any, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 1_000_000:
        raise ClientError(f"{name} must be a whole number from 0 to 1,000,000; got {str(value)[:40]!r}.")
    return value


def _check_sum(arguments: Arguments) -> Arguments:
    algorithm, colon, _ = (arguments.get("check_sum") or "").partition(":")
    if colon and algorithm not in _CHECKSUMS:
        raise ClientError(f"check_sum must begin with {', '.join(_CHECKSUMS)}; got {algorithm[:40]!r}.")
    return arguments


def _limit_cases(arguments: Arguments) -> Arguments:
    if (limit := arguments.get("limit_cases")) is not None:
        _whole_number(limit, "limit_cases")
    return arguments


def _info(arguments: Arguments) -> Arguments:
    name = "params" if "params" in arguments else "info"
    json_object(arguments.get(name), name)
    return arguments


def _no_images(_: Arguments) -> Arguments:
    _app().datastore().add_image("", "", {})  # raises, with the reason
    raise AssertionError("a datastore of cases takes no single image")


def _log(arguments: Arguments) -> Arguments:
    return {**arguments, "lines": min(arguments.get("lines") or 0, _LINES)}


def _gpu(arguments: Arguments) -> Arguments:
    if not shutil.which("nvidia-smi"):
        raise HTTPException(404, "this machine has no NVIDIA GPU: there is no nvidia-smi to ask.")
    return arguments


def _viewer_file(arguments: Arguments) -> Arguments:
    path = str(arguments.get("path", ""))
    if path and os.path.isdir(VIEWER / path):  # False for a name that no file can have
        raise HTTPException(404, "the viewer has no such file. Open /ohif/.")
    return arguments


def _model(arguments: Arguments) -> Arguments:
    offered("model", arguments["model"], _app().info()["models"])
    return arguments


def _app() -> Any:
    from monailabel.interfaces.utils.app import app_instance

    return app_instance()


# Keys: module and function of a MONAI Label endpoint, or the module alone for all of its endpoints.
_CHECKS: dict[str, Callable[[Arguments], Arguments]] = {
    "infer": _infer,
    "wsi_infer": _no_slides,
    "train.api_run": _train,
    "train.api_run_model": _train,
    "scoring.api_run": _scoring,
    "scoring.api_run_method": _scoring,
    "batch_infer.api_run": _batch,
    "datastore.api_add_image": _no_images,
    "datastore.api_check_image": _check_sum,
    "datastore.api_download_dataset": _limit_cases,
    "datastore.api_put_image_info": _info,
    "datastore.api_put_label_info": _info,
    "datastore.api_update_label_info": _info,
    "logs.api_get_logs": _log,
    "logs.gpu_info": _gpu,
    "model": _model,
    "ohif": _viewer_file,
}
