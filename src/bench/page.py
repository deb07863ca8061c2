"""P5: the time from a fill until its row has changed in a real browser, with the whole system running."""

from typing import TYPE_CHECKING, Any

import msgspec

from bench.browser import launched
from bench.figures import Figure, percentile
from bench.generator import thinned
from bench.marketlog import Log, check
from bench.requote import DEFAULTS, LOST, RATE, all_quoted
from bench.stage import Stage, symbol_names
from bench.trial import Trial
from jet.tail import Message
from wire import subjects

if TYPE_CHECKING:
    from playwright.async_api import Browser, Page, ViewportSize

CONNECTIONS = 16
REPEATS = 3
SECONDS = 8.0
SHOWN_TIMEOUT = 30_000
"""Milliseconds that the page may take to show every row."""

VIEWPORT: "ViewportSize" = {"width": 1440, "height": 900}

_WATCH = """
() => {
  window.seen = [];
  const versions = new Map();
  const look = () => {
    const at = performance.timeOrigin + performance.now();
    for (const row of document.querySelectorAll("tbody tr[data-symbol]")) {
      const version = Number(row.querySelector(".version .value").textContent.replace(/\\D/g, ""));
      if (versions.get(row.dataset.symbol) === version) continue;
      versions.set(row.dataset.symbol, version);
      window.seen.push([row.dataset.symbol, version, at]);
    }
  };
  new MutationObserver(look).observe(
    document.querySelector("tbody"), {subtree: true, childList: true, characterData: true});
  look();
}
"""


class _Fill(msgspec.Struct):
    number: int


_FILLS = msgspec.json.Decoder(list[_Fill])


async def measure(trial: Trial) -> list[Figure]:
    """Median and 99th percentile."""
    async with launched() as browser, Stage(trial.folder, symbol_names(8), **DEFAULTS) as stage:
        await stage.start("nats", "exposure", "ledger", "exchange", "maker", "ui")
        await all_quoted(stage)
        page = await opened(browser, stage)
        await page.evaluate(_WATCH)
        log = Log(stage)
        found: list[list[float]] = []
        for _ in range(trial.repeats(REPEATS)):
            await log.messages()
            seconds = trial.seconds(SECONDS)
            url, symbols = stage.url("exchange"), stage.symbols
            done = await trial.load(stage, url, symbols, CONNECTIONS, seconds, rate=RATE, rejections=True)
            await page.wait_for_timeout(LOST)
            messages = await log.messages()
            check(messages, done.load.filled)
            found.append(delays(messages, await page.evaluate("window.seen")))
            trial.report(f"p50 {percentile(found[-1], 50):.1f} ms, p99 {percentile(found[-1], 99):.1f} ms")
    points = {"row changed": thinned(sorted(point for once in found for point in once), 500)}
    return [
        Figure(name="p50", unit="ms", measured=[percentile(once, 50) for once in found], at_most=True, points=points),
        Figure(name="p99", unit="ms", measured=[percentile(once, 99) for once in found], target=100.0, at_most=True),
    ]


async def opened(browser: "Browser", stage: Stage, view: str = "") -> "Page":
    """Open the page, and wait until it shows every row. `view` is the part of its address after the `#`."""
    from playwright.async_api import expect

    page = await browser.new_page(viewport=VIEWPORT)
    await page.goto(stage.url("ui") + f"/#{view}")
    # The page's content security policy forbids `wait_for_function`.
    await expect(page.locator("tbody tr[data-symbol]")).to_have_count(len(stage.symbols), timeout=SHOWN_TIMEOUT)
    return page


def delays(messages: list[Message], seen: list[Any]) -> list[float]:
    """Return the milliseconds from storing each fills message until its symbol's row showed that version, sorted.

    `seen` are the changes of rows: symbol, version and time in milliseconds, in order.
    """
    shown: dict[str, list[tuple[int, float]]] = {}
    for symbol, version, at in seen:
        shown.setdefault(symbol, []).append((version, at))
    found = []
    for message in messages:
        if message.subject.startswith("fills."):
            number = _FILLS.decode(message.data)[-1].number
            rows = shown.get(subjects.last_token(message.subject), [])
            at = next((at for version, at in rows if version >= number), None)
            found.append(LOST if at is None else at - message.time.timestamp() * 1000)
    return sorted(found)
