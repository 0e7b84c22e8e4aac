"""The page where MONAI Label's login is on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import requests

from tests.support.chromium import chromium, skip_without_chromium
from tests.support.realm import PASSWORD, realm
from tests.support.server import serving, slicer_client

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


def test_what_the_page_shows_is_behind_the_login_of_the_rest(samples: Callable[..., Path]) -> None:
    skip_without_chromium()
    roles = {"ann": ["monailabel-user", "monailabel-annotator"], "guest": []}
    with realm(roles) as address:
        environment = {
            "MONAI_LABEL_AUTH_ENABLE": "true",
            "MONAI_LABEL_AUTH_REALM_URI": address,
            "MONAI_LABEL_AUTO_UPDATE_SCORING": "false",
        }
        studies = samples("STS_008", "STS_025", labels=False)
        with serving(studies, conf={"prefetch": 0}, environment=environment) as server, chromium() as window:
            for path in ("today", "map", "check", "cases/STS_008", "cases/STS_008/strip.jpg"):
                assert requests.get(f"{server}/mdal/api/{path}", timeout=60).status_code == 401
            page = window.page
            page.goto(f"{server}/mdal/")
            page.get_by_label("User").fill("ann")
            page.get_by_label("Password").fill("wrong")
            page.get_by_role("button", name="Log in").click()
            page.get_by_text("does not accept this name and password").wait_for()
            page.get_by_label("Password").fill(PASSWORD)
            page.get_by_role("button", name="Log in").click()
            page.get_by_role("heading", name="The next case").wait_for()
            page.reload()  # the session goes on
            page.get_by_role("heading", name="The next case").wait_for()
            slicer = slicer_client(server)
            slicer.update_auth(slicer.auth_token("ann", PASSWORD))
            assert slicer.next_sample("random", {})["id"] in ("STS_008", "STS_025")
            token = requests.post(
                f"{server}/auth/token", data={"username": "guest", "password": PASSWORD}, timeout=60
            ).json()["access_token"]
            assert (
                requests.get(
                    f"{server}/mdal/api/today", headers={"Authorization": f"Bearer {token}"}, timeout=60
                ).status_code
                == 403
            )
