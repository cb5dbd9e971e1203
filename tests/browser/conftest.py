"""Debian's Chromium, driven by Playwright: what a page does, and how it looks."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

FAMILIES = ("chromium", "chromium-browser", "google-chrome")


def install() -> None:
    """Install Debian's package; only root can."""
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    apt = ["apt-get", "-qq", "-y", "-o", "DPkg::Lock::Timeout=300"]
    for command in ([*apt, "update"], [*apt, "install", "--no-install-recommends", "chromium"]):
        subprocess.run(command, env=env, check=True, stdout=subprocess.DEVNULL)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    find = lambda: next(filter(None, map(shutil.which, FAMILIES)), None)  # noqa: E731
    if find() is None and os.geteuid() == 0 and shutil.which("apt-get"):
        install()
    path = find()
    if path is None:
        reason = f"none of {', '.join(FAMILIES)} is installed: apt-get install chromium"
        assert not os.environ.get("CI"), reason
        pytest.skip(reason)
    with sync_playwright() as playwright:
        # A container has no user namespaces for its sandbox; the pages are our own.
        running = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield running
        running.close()


class Opened:
    """A page that was opened from its file, and all that it did not do well."""

    def __init__(self, browser: Browser, path: Path, **looks: Any) -> None:
        context = browser.new_context(offline=True, **looks)
        self.page: Page = context.new_page()
        self.faults: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda said: self.faults.append(f"{said.type}: {said.text}"))
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(path.as_uri())
        self.page.wait_for_load_state("load")


@pytest.fixture
def opened(browser: Browser) -> Iterator[Any]:
    made: list[Opened] = []

    def open_page(path: Path, **looks: Any) -> Opened:
        made.append(Opened(browser, path, **looks))
        return made[-1]

    yield open_page
    for one in made:
        one.page.context.close()
