"""Five hundred symbols at a thousand updates a second: the page stays responsive, and ends with the truth."""

import asyncio
import itertools
import logging
import time
from typing import Any

from playwright.async_api import CDPSession, expect

from support.browser import OpenPage
from support.page import Feed, PageProcess
from support.waiting import eventually

SYMBOLS = [f"S{number:03}" for number in range(500)]
RATE = 1000
SECONDS = 4.0
TICK = 0.05

WATCH = """
() => {
  window.seen = {gaps: [], long: []};
  new PerformanceObserver((list) => seen.long.push(...list.getEntries().map((entry) => entry.duration)))
    .observe({type: "longtask"});
  let last = performance.now();
  const beat = (now) => {
    seen.gaps.push(now - last);
    last = now;
    requestAnimationFrame(beat);
  };
  requestAnimationFrame(beat);
}
"""

PAINTED = "[...document.querySelectorAll('tr[data-symbol] .version .value')].every((node) => node.textContent)"


async def test_five_hundred_symbols_at_a_thousand_updates_a_second_leave_the_page_responsive(
    open_page: OpenPage, process: PageProcess, feed: Feed
) -> None:
    """Bounds are for a busy machine of two cores that runs the broker, the service and the browser besides."""
    await asyncio.gather(*(feed.quote(symbol) for symbol in SYMBOLS))
    await asyncio.gather(*(feed.position(symbol, 0, 0) for symbol in SYMBOLS))
    await process.start()
    async with open_page(process) as page:
        await expect(page.locator("tr[data-symbol]")).to_have_count(len(SYMBOLS) + 2)
        await eventually(lambda: page.evaluate(PAINTED))
        await page.evaluate(WATCH)
        session = await page.context.new_cdp_session(page)
        await session.send("Performance.enable", {"timeDomain": "threadTicks"})
        sent, seconds = await updates(feed)
        used = await processor_time(session)
        seen: Any = await page.evaluate("seen")

        await page.get_by_label("Filter symbols").fill("S499")
        last = page.locator('tr[data-symbol="S499"]')
        await expect(last.locator(".version .value")).to_have_text(str(sent // len(SYMBOLS)), timeout=2000)

    gaps, tasks = sorted(seen["gaps"]), seen["long"]
    p95 = gaps[int(len(gaps) * 0.95)]
    figures = (
        f"{sent / seconds:.0f} updates a second: the page's thread is busy for {used / seconds:.0%} of the time; "
        f"{len(gaps)} frames, median {gaps[len(gaps) // 2]:.0f} ms, p95 {p95:.0f} ms, worst {gaps[-1]:.0f} ms; "
        f"{len(tasks)} long tasks, worst {max(tasks, default=0):.0f} ms, {sum(tasks) / seconds / 1000:.0%} of the time"
    )
    logging.getLogger(__name__).info(figures)
    assert used / sent * RATE < 0.5, figures
    assert p95 < 200, figures


async def processor_time(session: CDPSession) -> float:
    """Seconds of a processor that the page's thread has used, however long it had to wait for one."""
    metrics = (await session.send("Performance.getMetrics"))["metrics"]
    return float(next(metric["value"] for metric in metrics if metric["name"] == "TaskDuration"))


async def updates(feed: Feed) -> tuple[int, float]:
    """Positions of all symbols in turn, one of five with the fill that led to it, at `RATE`.

    Returns how many there were, and the seconds they took.
    """
    turns = itertools.cycle(SYMBOLS)
    start = time.perf_counter()
    sent = 0
    while (passed := time.perf_counter() - start) < SECONDS or sent % len(SYMBOLS):
        due = int((passed + TICK) * RATE) - sent
        due = min(due, len(SYMBOLS) - sent % len(SYMBOLS))
        versions = [(next(turns), (sent + number) // len(SYMBOLS) + 1) for number in range(due)]
        fills = [feed.fills(symbol, version) for symbol, version in versions if symbol.endswith(("0", "5"))]
        await asyncio.gather(*fills)
        await asyncio.gather(*(feed.position(symbol, version % 7 - 3, version) for symbol, version in versions))
        sent += due
        await asyncio.sleep(max(0.0, start + sent / RATE - time.perf_counter()))
    return sent, time.perf_counter() - start
