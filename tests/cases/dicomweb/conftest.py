"""A PACS that fails is asked again at once."""

from __future__ import annotations

import pytest

from lib.cases.dicomweb import client
from lib.cases.dicomweb.client import pacs_at


@pytest.fixture
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries without their waits."""
    monkeypatch.setattr(client, "RETRIES", client.RETRIES.new(backoff_factor=0.001))
    pacs_at.cache_clear()
