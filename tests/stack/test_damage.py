"""Damage that a NATS server logs, or that its report of what it stores shows."""

import json

import pytest

from stack.damage import REPAIR_HINT, damage_in, lacking

START = "[1] 2026/11/27 08:36:47 [INF] Starting nats-server\n"
RESTORES = "[1] 2026/11/27 08:36:47 [INF]   Starting restore for stream '$G > {}'\n"
RESTORED = "[1] 2026/11/27 08:36:47 [INF]   Restored 1,500 messages for stream '$G > {}' in 15ms\n"
DIED = "runtime: out of memory: cannot allocate 918552576-byte block\nfatal error: out of memory\n\ngoroutine 95:\n"
CRASHED = "panic: runtime error: index out of range [8] with length 4\n\ngoroutine 1 [running]:\n"
REFUSED = "[1] 2026/11/27 08:36:47 [FTL] Can't start JetStream: could not create storage directory\n"
BEFORE = START + RESTORES.format("MARKET-0") + RESTORED.format("MARKET-0") + RESTORES.format("MARKET-1")


@pytest.mark.parametrize(
    ("log", "stream"),
    [
        pytest.param(BEFORE + DIED, "MARKET-1", id="it has just died"),
        pytest.param(BEFORE + DIED + BEFORE, "MARKET-1", id="it tries again"),
        pytest.param(DIED + BEFORE + DIED, "MARKET-1", id="the log was cut"),
        pytest.param(
            START + RESTORES.format("MARKET-0") + RESTORED.format("MARKET-0") + DIED, "", id="it was restored"
        ),
        pytest.param(BEFORE + CRASHED, "MARKET-1", id="it crashed"),
        pytest.param(BEFORE + DIED + START + START, "", id="two starts ago"),
        pytest.param("", "", id="there is no log"),
    ],
)
def test_the_stream_whose_restore_ended_the_server_is_named(log: str, stream: str) -> None:
    problem = damage_in(log)
    if not stream:
        assert problem == ""
    else:
        assert problem.startswith(f"{stream} cannot be restored, its store is damaged")
        assert REPAIR_HINT in problem


def test_the_stream_that_is_being_restored_is_named() -> None:
    """The log is read only while the server is not ready."""
    assert damage_in(BEFORE) == f"MARKET-1 is being restored, which does not end if its store is damaged; {REPAIR_HINT}"


def test_a_refusal_to_start_because_of_the_store_names_the_documentation() -> None:
    assert damage_in(START + REFUSED) == f"Can't start JetStream: could not create storage directory; {REPAIR_HINT}"
    assert damage_in(START + "[1] 2026/11/27 08:36:47 [FTL] Can't listen on port 4222\n") == ""


def page(**streams: tuple[int, int]) -> bytes:
    """A server's report: for each stream the number of messages it stores, and its last sequence."""
    held = [
        {"name": name.replace("_", "-", 1), "state": {"messages": count, "first_seq": 1, "last_seq": last, "bytes": 1}}
        for name, (count, last) in streams.items()
    ]
    return json.dumps({"account_details": [{"name": "QUOTESTREAM", "stream_detail": held}]}).encode()


@pytest.mark.parametrize(
    ("report", "expected"),
    [
        (page(MARKET_0=(0, 0), MARKET_1=(7, 7)), ""),
        (page(MARKET_0=(3, 3), MARKET_1=(6, 7)), "MARKET-1 lacks a message here"),
        (page(MARKET_0=(3, 1003)), "MARKET-0 lacks 1,000 messages here"),
        (page(POSITIONS=(5, 90)), ""),  # only the newest are kept
        (b"{}", ""),
        (b"\xff<html>", ""),
        (b'{"account_details":[{"stream_detail":[{"name":7}]}]}', ""),
    ],
)
def test_messages_missing_from_the_market_log_are_reported(report: bytes, expected: str) -> None:
    found = lacking(report)
    assert found.startswith(expected)
    assert bool(found) is bool(expected)
    assert not found or "A damaged store" in found
