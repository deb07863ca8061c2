"""Screenshots of the page of a whole system that has traded for a while, light and dark: `just screenshots --help`."""

import asyncio
import os
import re
import signal
import sys
import tempfile
from asyncio.subprocess import PIPE
from pathlib import Path
from typing import Any

import httpx
from cyclopts import run

from support.browser import launched, settled
from support.film import Film
from support.needs import find_chromium
from support.stack import Stack
from support.waiting import eventually

ROOT = Path(__file__).parents[2]
TRADED = 1200
"""The number of fills to wait for before a screenshot."""

SCHEMES = ("light", "dark")

FILM = {"width": 1290, "height": 850}
"""The size of the animation in pixels."""

RATE = 60
"""Orders per second."""


def screenshots(
    folder: Path = ROOT / "docs",
    *,
    symbols: int = 0,
    view: str = "symbol=ETH-USD",
    explain: bool = False,
    demo: bool = False,
    height: int = 900,
    width: int = 1440,
) -> None:
    """Make `page-light.png` and `page-dark.png`, or `demo-light.png`, `demo-dark.png` and the animation `demo.webp`.

    Parameters
    ----------
    folder
        The folder for the pictures.
    symbols
        The number of made-up symbols to trade, instead of those of market.toml.
    view
        The view of the page, as in its address after the `#`.
    explain
        Show the story of the selected symbol's quote.
    demo
        Show the end of the demo instead of a stack that trades.
    height
        The height of the pictures in pixels.
    width
        Their width in pixels; 390 is that of a phone.
    """
    path = find_chromium()
    if path is None:
        raise SystemExit("no Chromium found: install Debian's chromium-headless-shell, or set CHROMIUM to a path")
    asyncio.run(
        _demonstrated(path, folder, (width, height))
        if demo
        else _taken(path, folder, symbols, view, explain, (width, height))
    )


async def _demonstrated(path: str, folder: Path, size: tuple[int, int]) -> None:
    command = (sys.executable, "-m", "chaos", "demo", "--page")
    run = await asyncio.create_subprocess_exec(*command, env={**os.environ, "DISPLAY": ""}, stdout=PIPE)
    assert run.stdout is not None
    try:
        async with launched(path) as browser:
            pages = {}
            filming: asyncio.Task[None] | None = None
            async for line in run.stdout:
                if found := re.search(r"(http://\S+/) shows every fault", line.decode()):
                    for scheme in SCHEMES:
                        pages[scheme] = await browser.new_page(**_options(size, scheme))
                        await pages[scheme].goto(found[1])
                    watched = await browser.new_page(**_options((FILM["width"], FILM["height"]), "light"))
                    await watched.goto(found[1])
                    film = Film(watched)
                    filming = asyncio.create_task(film.record())
                elif b"until Ctrl-C" in line:
                    break
            for scheme, page in pages.items():
                await page.locator("#run-proofs li").first.wait_for()
                await eventually(lambda page=page: settled(page))  # type: ignore[misc] # a default binds
                await page.screenshot(path=folder / f"demo-{scheme}.png")
            assert filming is not None
            filming.cancel()
            await asyncio.wait([filming])
            await film.take()
            (folder / "demo.webp").write_bytes(await film.developed(browser))
    finally:
        run.send_signal(signal.SIGINT)
        await run.wait()


async def _taken(path: str, folder: Path, symbols: int, view: str, explain: bool, size: tuple[int, int]) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        stack = _stack(Path(scratch), symbols)
        await asyncio.to_thread(stack.start)
        try:
            await eventually(lambda: _has_traded(stack), timeout=120, pause=0.5)
            async with launched(path) as browser:
                for scheme in SCHEMES:
                    page = await browser.new_page(**_options(size, scheme))
                    await page.goto(stack.url("ui", f"/#{view}"))
                    await page.locator("tr[data-quote=active]").first.wait_for()
                    await eventually(page.locator("#total-rate").text_content)
                    if explain:
                        await page.keyboard.press("e")
                        await page.locator("#story-events li").first.wait_for()
                    await page.screenshot(path=folder / f"page-{scheme}.png")
        finally:
            await asyncio.to_thread(stack.stop)


def _options(size: tuple[int, int], scheme: str) -> Any:
    """Return playwright's options for a page."""
    width, height = size
    return {"viewport": {"width": width, "height": height}, "color_scheme": scheme}


def _stack(scratch: Path, symbols: int) -> Stack:
    if symbols:
        names = [f"S{number:03}" for number in range(symbols)]
        return Stack(scratch, names, size=5, MARKET_LIMIT=5 * symbols, LOADGEN_RATE=5 * RATE)
    stack = Stack(scratch, ["AAPL"], LOADGEN_RATE=RATE)
    stack.environ["QS_MARKET_FILE"] = str(ROOT / "market.toml")
    return stack


async def _has_traded(stack: Stack) -> bool:
    async with httpx.AsyncClient(verify=stack.tls or True) as client:
        positions = (await client.get(stack.url("ledger", "/positions"))).json()
    return sum(position["position_version"] for position in positions) >= TRADED


if __name__ == "__main__":
    run(screenshots)
