"""The command line: exit codes, text and JSON. On a whole system: `tests/system/test_making.py`."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from audit.__main__ import CANNOT, main
from recorded import streams
from stack.isolated_env import SYMBOL
from support.audit import SYMBOLS, Script
from support.broker import NatsServer, clean_broker, free_port
from support.builders import market
from support.recorded import store_script
from support.waiting import STACK_HANG


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nats_server: NatsServer) -> Path:
    """Where the settings point to: a data folder, the session's server, and two symbols."""
    (tmp_path / "market.toml").write_text("".join(SYMBOL.format(name=name, size=10) for name in SYMBOLS))
    monkeypatch.setenv("QS_MARKET_FILE", str(tmp_path / "market.toml"))
    monkeypatch.setenv("QS_STACK_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("NATS_URL", nats_server.url)
    return tmp_path


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command as a user does."""
    return subprocess.run(
        [sys.executable, "-m", "audit", *arguments], capture_output=True, text=True, timeout=STACK_HANG
    )


async def test_refuted_invariants_are_printed_and_the_exit_code_is_1(folder: Path, nats_server: NatsServer) -> None:
    script = Script()
    script.quote("AAA")
    script.trade("AAA", "buy", 11)
    script.withdraw("AAA")
    async with clean_broker(nats_server, market()) as broker:
        await store_script(broker, script)
        printed, as_json = run(), run("--json")
        explained, unknown = run("explain", "AAA-v0-a1"), run("explain", "AAA-v0-a9")
    assert printed.returncode == as_json.returncode == 1
    assert "I5   refuted        The fills of one side of a quote never sum to more" in printed.stdout
    place = "MARKET-1 #2 fills.1.AAA (order_id order-1)"
    assert f"{place}: with AAA-f1, 11 lots of AAA-v0-a1's ask have executed; it has 10" in printed.stdout
    assert printed.stdout.rstrip().endswith("refuted: I5")
    verdicts = {verdict["code"]: verdict for verdict in json.loads(as_json.stdout)["verdicts"]}
    assert verdicts["I5"]["status"] == "refuted"
    assert verdicts["I5"]["findings"][0] == {
        "source": "MARKET-1",
        "sequence": 2,
        "subject": "fills.1.AAA",
        "ids": {"fill_id": "AAA-f1", "quote_id": "AAA-v0-a1", "order_id": "order-1"},
        "detail": "with AAA-f1, 11 lots of AAA-v0-a1's ask have executed; it has 10",
    }
    assert explained.returncode == 0
    assert "AAA-f1: buy 11 at" in explained.stdout
    assert (unknown.returncode, unknown.stdout) == (1, "")
    assert unknown.stderr.startswith("audit: no quote AAA-v0-a9")


async def test_a_sealed_log_is_compared_with_the_seal(folder: Path, nats_server: NatsServer) -> None:
    key = folder / "seal.key"
    script = Script()
    script.quote("AAA")
    async with clean_broker(nats_server, market()) as broker:
        await store_script(broker, script)
        made = run("seal", str(key))
    assert (made.returncode, made.stdout) == (0, "sealed MARKET-0 up to 0, MARKET-1 up to 1\n")
    script = Script()
    script.quote("AAA", attempt=2)
    async with clean_broker(nats_server, market()) as broker:
        await store_script(broker, script)
        audited = run("--sealed", f"{key}.pub", "--json")
    assert audited.returncode == 1
    link = {verdict["code"]: verdict for verdict in json.loads(audited.stdout)["verdicts"]}["link"]
    assert link["status"] == "refuted"
    assert link["findings"][0]["sequence"] == 1


def test_without_a_server_the_audit_fails(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(streams, "CONNECT_TIMEOUT", 0.3)
    monkeypatch.setenv("NATS_URL", f"nats://127.0.0.1:{free_port()}")
    assert main([]) == CANNOT
    assert "audit: no NATS server answers at" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--store", "nowhere"], "there is no folder nowhere"),
        (["--histroy", "x"], "Unknown option"),
        (["explain"], "requires an argument"),
    ],
)
def test_an_audit_that_cannot_be_carried_out_has_exit_code_2(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], why: str
) -> None:
    assert main(arguments) == CANNOT
    printed = capsys.readouterr()
    assert why in " ".join((printed.err + printed.out).split())


async def test_a_file_that_cannot_be_read_is_named_and_the_exit_code_is_2(
    folder: Path, nats_server: NatsServer
) -> None:
    async with clean_broker(nats_server, market()):
        (folder / "logs" / "exposure.log").mkdir(parents=True)
        log = run()
        (folder / "logs" / "exposure.log").rmdir()
        (folder / "ledger.sqlite").write_bytes(b"no database" * 1000)
        database = run()
        missing = run("--history", str(folder / "none.jsonl"))
    for result, named in ((log, "exposure.log"), (database, "ledger.sqlite"), (missing, "none.jsonl")):
        assert (result.returncode, "Traceback" in result.stderr) == (CANNOT, False), result.stderr
        assert named in result.stderr


def test_with_invalid_settings_the_exit_code_is_2(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("QS_MARKET_LIMIT", "none")
    assert main([]) == CANNOT
    assert "limit" in capsys.readouterr().err
