"""The command line."""

import asyncio
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cyclopts import CycloptsError

from loadgen.__main__ import BadOptionsError, command_line
from loadgen.history import SentLine, read
from loadgen.report import Report
from loadgen.settings import LoadgenSettings
from process.settings import Stack
from stack import isolated_env
from support.builders import market
from support.waiting import eventually, finishes

SYMBOL = isolated_env.SYMBOL.format(name="AAA", size=10)


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "market.toml").write_text(SYMBOL)
    return {**os.environ, "QS_MARKET_FILE": str(tmp_path / "market.toml"), "COLUMNS": "120"}


async def start(environment: dict[str, str], *arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "loadgen", *arguments),
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


def logged(output: bytes) -> list[dict[str, Any]]:
    return [msgspec.json.decode(line) for line in output.splitlines() if line.startswith(b"{")]


@pytest.mark.parametrize(
    ("arguments", "error", "named"),
    [
        ("--rate 0", CycloptsError, "--rate"),
        ("--rate fast", CycloptsError, "--rate"),
        ("--duration -1", CycloptsError, "--duration"),
        ("--max-quantity 0", CycloptsError, "--max-quantity"),
        ("--concurrency 0", CycloptsError, "--concurrency"),
        ("--aggressiveness 1.1", CycloptsError, "--aggressiveness"),
        ("--seed x", CycloptsError, "--seed"),
        ("--color red", CycloptsError, "--color"),
        ("--symbols AAA,ZZZ", BadOptionsError, "ZZZ"),
        ("--url localhost:8001", BadOptionsError, "--url"),
        ("--history /no/such/folder/file", BadOptionsError, "--history"),
        ("--json /no/such/folder/file", BadOptionsError, "--json"),
        ("--html /no/such/folder/file", BadOptionsError, "--html"),
    ],
)
def test_invalid_options_are_refused_by_name(arguments: str, error: type[Exception], named: str) -> None:
    settings = LoadgenSettings(market=market(), stack=Stack(), url="http://127.0.0.1:1")
    with pytest.raises(error) as refused:
        command_line(settings)(arguments, exit_on_error=False, print_error=False)
    assert named in str(refused.value)


def test_help_lists_every_option_with_its_default(environment: dict[str, str]) -> None:
    environment = {**environment, "QS_LOADGEN_RATE": "35"}
    output = subprocess.run(
        [sys.executable, "-m", "loadgen", "--help"], env=environment, capture_output=True, text=True
    )
    assert output.returncode == 0
    options = re.findall(r"^│ --([a-z-]+) [A-Z]", output.stdout, re.MULTILINE)
    assert options[:6] == ["rate", "duration", "symbols", "max-quantity", "concurrency", "aggressiveness"]
    assert options[6:10] == ["seed", "url", "json", "html"]
    assert output.stdout.count("[default: ") == len(options)
    assert "[default: 35.0]" in output.stdout


@pytest.mark.parametrize(
    ("variables", "arguments", "named"),
    [
        ({}, ["--rate", "0"], "--rate"),
        ({}, ["--symbols", "ZZZ"], "ZZZ"),
        ({"QS_LOADGEN_RATE": "0"}, [], "rate"),
    ],
)
async def test_invalid_options_and_settings_end_with_code_2(
    environment: dict[str, str], variables: dict[str, str], arguments: list[str], named: str
) -> None:
    process = await start({**environment, **variables}, *arguments)
    _, errors = await process.communicate()
    assert process.returncode == 2
    assert named in errors.decode()
    assert "Traceback" not in errors.decode()


async def test_a_run_with_a_duration_needs_the_exchange_at_its_start(environment: dict[str, str], nowhere: str) -> None:
    process = await start(environment, "--duration", "1", "--url", nowhere)
    _, errors = await process.communicate()
    assert process.returncode == 1
    assert f"the exchange at {nowhere} cannot be reached" in errors.decode()


async def test_a_run_with_a_duration_reports_and_ends_with_code_0(
    environment: dict[str, str], exchange: Any, tmp_path: Path
) -> None:
    files = ["--json", str(tmp_path / "report.json"), "--history", str(tmp_path / "history.jsonl")]
    files += ["--html", str(tmp_path / "report.html")]
    process = await start(
        environment, "--rate", "100", "--duration", "0.5", "--seed", "7", "--url", exchange.url, *files
    )
    output, errors = await process.communicate()
    assert process.returncode == 0, errors
    assert "latency p99" in output.decode()
    report = msgspec.json.decode((tmp_path / "report.json").read_bytes(), type=Report)
    assert report.outcomes == {"filled": len(exchange.received)}
    assert sum(interval.sent for interval in report.timeline) == report.sent
    assert report.run_id in (tmp_path / "report.html").read_text()
    sent = {line.order.order_id: line.order for line in read(tmp_path / "history.jsonl") if isinstance(line, SentLine)}
    assert sent == {order.order_id: order for order in exchange.received}


async def test_unanswered_orders_end_the_run_with_code_1(environment: dict[str, str], exchange: Any) -> None:
    """It is stopped while an order is unanswered. It waits for the response, up to the timeout of an attempt."""
    exchange.then(*[exchange.held(asyncio.Event())] * 10_000)
    process = await start(environment, "--duration", "600", "--url", exchange.url)
    await eventually(lambda: exchange.received)
    process.send_signal(signal.SIGINT)
    output, _ = await finishes(process.communicate())
    assert process.returncode == 1
    assert "UNANSWERED" in output.decode()


async def test_a_run_without_a_duration_waits_for_the_exchange_and_reports_when_stopped(
    environment: dict[str, str], nowhere: str
) -> None:
    process = await start({**environment, "QS_LOADGEN_URL": nowhere, "QS_LOADGEN_RATE": "200"})
    assert process.stdout is not None
    started = await process.stdout.readline()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(process.wait(), 0.5)
    process.send_signal(signal.SIGTERM)
    output, errors = await finishes(process.communicate())
    assert errors == b""
    lines = logged(started + output)
    assert [line["event"] for line in lines] == ["started", "report"]
    assert set(lines[-1]["outcomes"]) == {"undelivered"}
