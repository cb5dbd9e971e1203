"""Pages in a browser: what they do, and how they look."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import chromium
import pytest
from playwright.sync_api import Browser, Page


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    try:
        with chromium.launched() as running:
            yield running
    except chromium.AbsentError as error:
        assert not os.environ.get("CI"), error
        pytest.skip(str(error))


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
