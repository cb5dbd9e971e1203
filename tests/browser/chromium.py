"""Debian's Chromium, found or installed, and driven by Playwright."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, sync_playwright

FAMILIES = ("chromium", "chromium-browser", "google-chrome")


class AbsentError(Exception):
    """No browser is installed, and none can be."""


def install() -> None:
    """Install Debian's package; only root can."""
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    apt = ["apt-get", "-qq", "-y", "-o", "DPkg::Lock::Timeout=300"]
    for command in ([*apt, "update"], [*apt, "install", "--no-install-recommends", "chromium"]):
        subprocess.run(command, env=env, check=True, stdout=subprocess.DEVNULL)


def find() -> str | None:
    return next(filter(None, map(shutil.which, FAMILIES)), None)


@contextmanager
def launched() -> Iterator[Browser]:
    """Give a running browser.

    Raises:
        AbsentError: none is there, and this account cannot install one.
    """
    if find() is None and os.geteuid() == 0 and shutil.which("apt-get"):
        install()
    path = find()
    if path is None:
        raise AbsentError(f"none of {', '.join(FAMILIES)} is installed: apt-get install chromium")
    with sync_playwright() as playwright:
        # A container has no user namespaces for its sandbox; the pages are our own.
        running = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield running
        running.close()
