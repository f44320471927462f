"""Chromium without a window, where it is installed."""

from __future__ import annotations

import shutil
from contextlib import contextmanager

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@contextmanager
def open_chromium():
    """Start the browser; skip the test where there is none."""
    browsers = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed; it comes with the extra 'test'"
    )
    path = next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        pytest.skip(f"no browser: none of {', '.join(NAMES)} is on the PATH")
    with browsers.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path)
        yield browser
        browser.close()
