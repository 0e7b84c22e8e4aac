"""MONAI Label's `/proxy`, through which OHIF reads the PACS, limited to DICOMweb paths and with a timeout.

In MONAI Label 0.8.5 (`monailabel.endpoints.proxy`) a path with `..` reaches everything else on the PACS's
host with the server's own password, and a request has no timeout.
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

PROXY_TIMEOUT_S = (5.0, 60.0)  # for the connection, and between two parts of the answer

ProxyEndpoint = Callable[..., Coroutine[Any, Any, Any]]


def guarded(endpoint: ProxyEndpoint) -> ProxyEndpoint:
    """Wrap the endpoint: 404 for a path that leaves DICOMweb, 502 if the PACS does not answer."""
    from monailabel.endpoints import proxy  # exists in a server process only

    proxy.requests = SimpleNamespace(get=_with_timeout(requests.get), post=_with_timeout(requests.post))

    @functools.wraps(endpoint)
    async def call(**arguments: Any) -> Any:
        _check_path(str(arguments.get("path", "")))
        if not proxy.settings.MONAI_LABEL_STUDIES.startswith(("http://", "https://")):
            raise HTTPException(404, "the studies are in a folder; there is no PACS to ask.")
        try:
            return await endpoint(**arguments)
        except (requests.RequestException, HTTPError) as err:
            kind = type(err).__name__
            raise HTTPException(502, f"the PACS must answer; it does not ({kind}). Try again.") from err

    return call


def _with_timeout(ask: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *arguments, **options: ask(*arguments, **{"timeout": PROXY_TIMEOUT_S, **options})


def _check_path(path: str) -> None:
    parts = re.split(r"[/\\]", unquote(path))
    if {".", ".."} & set(parts) or set("?#") & set(path):
        raise HTTPException(404, "a path must lie in the DICOMweb of the PACS.")
