"""A pytest plugin: MONAI Label's own endpoint tests on this app instead of its example apps.

Those tests name the models, strategies and images of the example apps, and most of them return at once on a
machine without a GPU. Here the names become this app's, and what needs no GPU here does not return early. A
name that stands for something that this app does not do is left as it is. Their pauses of one to five seconds
around most requests are cut short: nothing is waited for in them, but in the tests of sessions, whose times
are whole seconds.

`ENDPOINTS` in the environment is JSON: the app, the studies, the data folder and the `--conf` pairs.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

OUR_NAMES = {
    "deepedit": "ciml",
    "deepedit_seg": "ciml",
    "segmentation_spleen": "ciml",
    "spleen_ct_segmentation": "ciml",
    "lung_nodule_ct_detection": "ciml",
    "first": "mdal",
    "segmentation_spleen_epistemic": "mdal",
    "spleen_990": "spleen_3",  # what the tests upload, and then label
}
PAUSE = 0.1  # of theirs: 0.5 s where a job is started that is then asked about or stopped
_NAMED = re.compile(rf"(?<=[/=])({'|'.join(OUR_NAMES)})(?=[?&/]|$)")


def pytest_collection_modifyitems(items: list[pytest.Function]) -> None:
    """Point every suite at this app before any of them starts; the training first, as others want a model."""
    items.sort(key=lambda item: _module(item) != "test_train")
    workspace = json.loads(os.environ["ENDPOINTS"])
    suites = {item: next(base for base in item.cls.__mro__ if "client" in vars(base)) for item in items}
    for suite in set(suites.values()):
        suite.app_dir, suite.studies, suite.data_dir = (
            workspace["app"],
            workspace["studies"],
            workspace["data"],
        )
        suite.rand_id = 0
    contexts = {sys.modules[suite.__module__] for suite in suites.values()}
    for context in contexts:
        _serve(context, workspace["conf"])
    for module in contexts | {item.module for item in items}:
        if hasattr(module, "time") and module.__name__.rpartition(".")[2] != "test_session":
            module.time = SimpleNamespace(sleep=lambda seconds: time.sleep(PAUSE * seconds))
    for item, suite in suites.items():
        if suite.__name__.startswith("DICOMWeb"):
            item.add_marker(pytest.mark.skip(reason="the wheel leaves out the answers of the PACS"))
        elif hasattr(item.module, "torch") and _module(item) != "test_logs":
            item.module.torch = SimpleNamespace(cuda=SimpleNamespace(is_available=lambda: True))


@pytest.fixture(autouse=True)
def _count_requests(request: pytest.FixtureRequest, record_property: Any) -> Iterator[None]:
    """Report how often a test asked the server: one that never does shows nothing."""
    request.cls.client.asked = 0
    yield
    record_property("requests", request.cls.client.asked)


def _module(item: pytest.Function) -> str:
    return item.module.__name__.rpartition(".")[2]


def _serve(context: ModuleType, ours: dict[str, str]) -> None:
    create = context.create_client

    def create_client(app_dir: str, studies: str, data_dir: str, conf: Any = None) -> Any:
        client = create(app_dir, studies, data_dir, {"tracking": False})
        context.settings.MONAI_LABEL_APP_CONF = ours  # the examples' keys are none of this app's
        os.environ["MONAI_LABEL_APP_CONF"] = json.dumps(ours)  # for child processes
        client.base_url = "http://127.0.0.1:8000"  # a name and a machine from which it may be asked
        client._transport.client = ("127.0.0.1", 50_000)
        ask = client.request

        def request(method: str, url: str, **arguments: Any) -> Any:
            client.asked += 1
            if "model" in (arguments.get("json") or {}):
                arguments["json"]["model"] = OUR_NAMES[arguments["json"]["model"]]
            return ask(method, _NAMED.sub(lambda name: OUR_NAMES[name[0]], url), **arguments)

        client.request = request
        return client

    context.create_client = create_client
