"""MONAI Label's `/proxy`, by which OHIF reads the PACS: it stays within DICOMweb and never waits for ever.

In MONAI Label 0.8.5 (`monailabel.endpoints.proxy`) a path with `..` reaches everything else on the PACS's
host with the server's own password, and a request has no limit in time.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Coroutine
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote

import requests
from fastapi import HTTPException
from urllib3.exceptions import HTTPError

TIMEOUT_S = (5.0, 60.0)  # to connect, and between two pieces of an answer

Endpoint = Callable[..., Coroutine[Any, Any, Any]]


def guarded(endpoint: Endpoint) -> Endpoint:
    """The endpoint, answering 404 to a path that leaves DICOMweb and 502 where the PACS does not answer."""
    from monailabel.endpoints import proxy  # only a server has it

    proxy.requests = SimpleNamespace(get=_in_time(requests.get), post=_in_time(requests.post))

    @functools.wraps(endpoint)
    async def call(**arguments: Any) -> Any:
        _check_path(str(arguments.get("path", "")))
        if not proxy.settings.MONAI_LABEL_STUDIES.startswith(("http://", "https://")):
            raise HTTPException(404, "the studies lie in a folder; there is no PACS to ask.")
        try:
            return await endpoint(**arguments)
        except (requests.RequestException, HTTPError) as err:
            kind = type(err).__name__
            raise HTTPException(502, f"the PACS must answer; it does not ({kind}). Try again.") from err

    return call


def _in_time(ask: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *arguments, **options: ask(*arguments, **{"timeout": TIMEOUT_S, **options})


def _check_path(path: str) -> None:
    parts = re.split(r"[/\\]", unquote(path))
    if {".", ".."} & set(parts) or set("?#") & set(path):
        raise HTTPException(404, "a path must lie in the DICOMweb of the PACS.")
