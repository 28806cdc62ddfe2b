"""A real browser without a screen, for the tests of pages."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")


@contextmanager
def open_page(
    path: Path, *, width: int = 1200, scheme: Literal["light", "dark"] = "light"
) -> Iterator:
    """A page in Chromium, offline; what it logs as an error fails the test at the end.

    Skips where there is no Chromium on the PATH.
    """
    sync_api = pytest.importorskip("playwright.sync_api")
    found = next((where for where in map(shutil.which, NAMES) if where), None)
    if found is None:
        pytest.skip(f"no browser: none of {', '.join(NAMES)} is on the PATH")
    errors: list[str] = []
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        try:
            context = browser.new_context(
                viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True
            )
            page = context.new_page()
            page.on("pageerror", lambda error: errors.append(str(error)))
            page.on(
                "console",
                lambda message: errors.append(message.text) if message.type == "error" else None,
            )
            page.set_default_timeout(120_000)  # of a loaded machine
            page.goto(path.as_uri())
            yield page
        finally:
            browser.close()
    assert errors == []
