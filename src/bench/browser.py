"""A real browser, where there is one."""

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from bench.trial import Skipped

if TYPE_CHECKING:
    from playwright.async_api import Browser

_NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
_FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]


@asynccontextmanager
async def launched() -> "AsyncIterator[Browser]":
    """Launch a headless browser for the duration of the block.

    Raises:
        Skipped: no browser is installed.
    """
    try:
        from playwright.async_api import async_playwright
    except ImportError as error:
        raise Skipped("playwright is not installed") from error
    path = _path()
    if path is None:
        raise Skipped("no Chromium found: install Debian's chromium-headless-shell, or set CHROMIUM to a path")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=_FLAGS)
        try:
            yield browser
        finally:
            await browser.close()


def _path() -> str | None:
    """Return the browser's path: the one that `CHROMIUM` names, or the first that is installed."""
    for name in (os.environ.get("CHROMIUM", ""), *_NAMES):
        if name and (path := shutil.which(name)):
            return path
    return None
