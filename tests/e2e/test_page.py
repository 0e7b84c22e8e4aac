"""The page at `/mdal/` in Chromium, on a live server with the samples."""

from __future__ import annotations

import pytest

from tests.e2e.conftest import Page

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


def test_the_page_opens_with_today(page: Page) -> None:
    page.open("")
    assert page.window.page.locator("main h1").inner_text() == "Today"
