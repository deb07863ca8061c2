"""A run that breaks things on purpose, as the page shows it."""

from datetime import timedelta
from pathlib import Path

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import expect

from chaos.notices import Notifier
from process.clock import utc_now
from support.broker import Broker
from support.browser import OpenPage, settled
from support.page import reading
from support.waiting import eventually
from ui.notices import Fault, Notices, Proof

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_faults_are_shown_live_and_the_verdict_at_the_end(
    open_page: OpenPage, broker: Broker, tmp_path: Path
) -> None:
    path = tmp_path / "notices.json"
    notifier = Notifier(path)
    began = utc_now()
    struck = Fault(target="exchange", what="killed", began=began)
    async with reading(broker, str(path)) as service, open_page(service.url) as page:
        run, step = page.locator("#run"), page.locator("#run-steps [aria-current]")
        await expect(page.locator("tr[data-symbol]").first).to_be_visible()
        await expect(run).to_be_hidden()
        notifier.write(Notices(step="trading", faults=[struck]))
        await expect(step).to_have_text("Orders flow, services fail")
        await expect(page.locator("#run-faults li")).to_contain_text("exchange killed")
        await expect(page.locator("#run-faults li")).to_have_attribute("data-state", "down")
        recovered = Fault(
            target="exchange",
            what="killed",
            began=began,
            ready_at=began + timedelta(seconds=1),
            ready_after=1.0,
            trading_after=1.25,
        )
        proofs = [Proof(code=f"I{number}", status="proved", statement="It holds.") for number in range(1, 13)]
        notifier.write(Notices(step="done", faults=[recovered], clean=True, verdict="all is well", proofs=proofs))
        await expect(page.locator("#run-verdict")).to_have_text("Clean: all is well")
        await expect(page.locator("#run-faults li")).to_contain_text("ready after 1.00 s, next fill after 1.25 s")
        await expect(page.locator("#run-proofs li")).to_have_count(12)
        await page.reload()
        await expect(page.locator("#run-verdict")).to_have_text("Clean: all is well")
        for scheme in ("light", "dark"):
            await page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type] # it is one of playwright's
            await eventually(lambda: settled(page))
            results = await Axe().run(page)
            assert results.violations_count == 0, results.generate_report()
        notifier.write(Notices(step="done", faults=[recovered], clean=False, verdict="1 finding", proofs=proofs))
        await expect(page.locator("#run-verdict")).to_have_text("Refuted: 1 finding")
        assert await page.locator("#run").get_attribute("data-clean") == "false"
