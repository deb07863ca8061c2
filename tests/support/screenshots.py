"""Pictures of the page of a whole system that has traded for a while, in light and dark: `just screenshots --help`."""

import asyncio
import tempfile
from pathlib import Path

import httpx
from cyclopts import run

from support.browser import launched
from support.needs import find_chromium
from support.stack import Stack
from support.waiting import eventually

ROOT = Path(__file__).parents[2]
TRADED = 1200
"""Fills there must be before a picture is worth taking."""

RATE = 60
"""Orders a second."""


def screenshots(
    folder: Path = ROOT / "docs",
    *,
    symbols: int = 0,
    view: str = "symbol=ETH-USD",
    explain: bool = False,
    height: int = 640,
) -> None:
    """Make `page-light.png` and `page-dark.png`.

    Parameters
    ----------
    folder
        Where to.
    symbols
        How many made-up symbols to trade, in place of those of market.toml.
    view
        What is looked at, as the page's address has it after the `#`.
    explain
        Tell the story of the chosen symbol's quote.
    height
        Of the pictures, in pixels.
    """
    asyncio.run(_taken(folder, symbols, view, explain, height))


async def _taken(folder: Path, symbols: int, view: str, explain: bool, height: int) -> None:
    path = find_chromium()
    if path is None:
        raise SystemExit("no Chromium here: install Debian's chromium-headless-shell, or set CHROMIUM to a path")
    with tempfile.TemporaryDirectory() as scratch:
        stack = _stack(Path(scratch), symbols)
        await asyncio.to_thread(stack.start)
        try:
            await eventually(lambda: _has_traded(stack), timeout=120, pause=0.5)
            async with launched(path) as browser:
                for scheme in ("light", "dark"):
                    options = {"viewport": {"width": 1440, "height": height}, "color_scheme": scheme}
                    page = await browser.new_page(**options)  # type: ignore[arg-type] # playwright's own dictionaries
                    await page.goto(stack.url("ui", f"/#{view}"))
                    await page.locator("tr[data-quote=active]").first.wait_for()
                    await eventually(page.locator("#total-rate").text_content)
                    if explain:
                        await page.keyboard.press("e")
                        await page.locator("#story-events li").first.wait_for()
                    await page.screenshot(path=folder / f"page-{scheme}.png")
        finally:
            await asyncio.to_thread(stack.stop)


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
