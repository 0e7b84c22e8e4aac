"""Secrets in what `monailabel start_server` was given: taken out when it makes the app.

MONAI Label 0.8.5 keeps the address of the studies and the `--conf` pairs in its settings, in the environment
and in its log, which `GET /logs/` answers with.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monailabel.config import settings
from monailabel.interfaces.utils.app import apps

from lib.cases.dicomweb.client import PASSWORD, USER
from lib.pipeline.secrets import mask_logs, take_pacs_secret, take_setting_secrets


def take_secrets(
    app: Any, app_dir: str, studies: str, conf: Mapping[str, Any]
) -> tuple[str, Mapping[str, Any]]:
    """Studies and settings without secrets, which MONAI Label has in place of its own from now on.

    Args:
        app: The app that is being made.
        app_dir: Folder of the app, as MONAI Label knows it.
        studies: Folder of the studies, or address of a PACS.
        conf: The `--conf` pairs.
    """
    bare, bare_conf = take_pacs_secret(studies), take_setting_secrets(conf)
    mask_logs(Path(app_dir) / "logs")
    if bare != studies:
        apps[f"{app_dir}{bare}"] = app  # MONAI Label looks for the app by folder and studies
        for name in (USER, PASSWORD):
            setattr(settings, name, os.environ[name])  # its proxy to the PACS reads them here
        settings.MONAI_LABEL_STUDIES = os.environ["MONAI_LABEL_STUDIES"] = bare
    if bare_conf != conf:
        settings.MONAI_LABEL_APP_CONF = bare_conf
        os.environ["MONAI_LABEL_APP_CONF"] = json.dumps(bare_conf)
    return bare, bare_conf
