"""P5: how soon after a fill its row has changed in a real browser, with the whole system at work."""

import os
import shutil
from typing import Any

import msgspec

from bench.figures import Figure, percentile
from bench.generator import thinned
from bench.marketlog import Log, check
from bench.requote import DEFAULTS, LOST, RATE, all_quoted
from bench.stage import Stage, symbol_names
from bench.trial import Skipped, Trial
from jet.tail import Message
from wire import subjects

CONNECTIONS = 16
REPEATS = 3
SECONDS = 8.0
SHOWN_TIMEOUT = 30_000
"""Milliseconds the page may take to show every row."""

_NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
_FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]

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
    try:
        from playwright.async_api import async_playwright, expect
    except ImportError as error:
        raise Skipped("playwright is not installed") from error
    path = _browser()
    if path is None:
        raise Skipped("no Chromium here: install Debian's chromium-headless-shell, or set CHROMIUM to a path")
    async with (
        Stage(trial.folder, symbol_names(8), **DEFAULTS) as stage,
        async_playwright() as playwright,
    ):
        await stage.start("nats", "exposure", "ledger", "exchange", "maker", "ui")
        await all_quoted(stage)
        browser = await playwright.chromium.launch(executable_path=path, args=_FLAGS)
        page = await browser.new_page()
        await page.goto(stage.url("ui"))
        # The page's policy lets nobody evaluate a predicate in it again and again.
        await expect(page.locator("tbody tr[data-symbol]")).to_have_count(len(stage.symbols), timeout=SHOWN_TIMEOUT)
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
            trial.say(f"p50 {percentile(found[-1], 50):.1f} ms, p99 {percentile(found[-1], 99):.1f} ms")
        await browser.close()
    points = {"row changed": thinned(sorted(point for once in found for point in once), 500)}
    return [
        Figure(name="p50", unit="ms", measured=[percentile(once, 50) for once in found], at_most=True, points=points),
        Figure(name="p99", unit="ms", measured=[percentile(once, 99) for once in found], target=100.0, at_most=True),
    ]


def _browser() -> str | None:
    """The browser's path: what `CHROMIUM` names, or the first that is installed."""
    for name in (os.environ.get("CHROMIUM", ""), *_NAMES):
        if name and (path := shutil.which(name)):
            return path
    return None


def delays(messages: list[Message], seen: list[Any]) -> list[float]:
    """Milliseconds from when each fills message was stored to when its symbol's row showed that version, sorted.

    `seen` are the rows' changes: symbol, version and time in milliseconds, in order.
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
