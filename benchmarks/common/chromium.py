"""Headless Chromium that draws without a GPU and reaches no host but the local one."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from playwright.sync_api import Page, Request, Response, Route, sync_playwright

MISSING = "Chromium must be installed for this: apt-get install --no-install-recommends chromium"
HERE = "127.0.0.1"
FLAGS = (
    "--no-sandbox",  # containers have no user namespaces
    "--use-angle=swiftshader",  # WebGL on the CPU
    "--enable-unsafe-swiftshader",
    "--ignore-gpu-blocklist",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-quic",
    "--disable-sync",
    "--no-first-run",
)


def is_installed() -> bool:
    """Whether Chromium is installed."""
    return bool(shutil.which("chromium"))


@dataclass
class Window:
    """A page, with its requests and errors that are not visible on it.

    Attributes:
        page: Page in the browser.
        foreign: Other hosts that the page asked for; every such request was aborted.
        refused: Status and path of each answer with a status of 400 or above.
        failures: Exceptions that no script caught.
        console: Errors written to the console.
    """

    page: Page
    foreign: set[str] = field(default_factory=set)
    refused: set[tuple[int, str]] = field(default_factory=set)
    failures: list[str] = field(default_factory=list)
    console: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Watch the page."""
        self.page.route(lambda address: urlsplit(address).hostname not in (HERE, None), self._keep_out)
        self.page.on("response", self._look_at)
        self.page.on("pageerror", lambda error: self.failures.append(str(error)))
        self.page.on("console", lambda line: self.console.append(line.text) if line.type == "error" else None)

    def _keep_out(self, route: Route, request: Request) -> None:
        self.foreign.add(str(urlsplit(request.url).hostname))
        route.abort()

    def _look_at(self, response: Response) -> None:
        if response.status >= 400:
            self.refused.add((response.status, urlsplit(response.url).path))


@contextmanager
def chromium(*, width: int = 1600, height: int = 1000) -> Iterator[Window]:
    """A private browser with one empty page; every wait times out after a minute."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=list(FLAGS))
        try:
            page = browser.new_page(viewport={"width": width, "height": height})
            page.set_default_timeout(60_000)
            yield Window(page)
        finally:
            browser.close()
