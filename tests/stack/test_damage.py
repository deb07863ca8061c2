"""What a NATS server's log says of a store that it cannot restore."""

import pytest

from stack.damage import REMEDY, told_by

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
        pytest.param(BEFORE + DIED + BEFORE, "MARKET-1", id="it is at it again"),
        pytest.param(DIED + BEFORE + DIED, "MARKET-1", id="the log was cut"),
        pytest.param(
            START + RESTORES.format("MARKET-0") + RESTORED.format("MARKET-0") + DIED, "", id="it was restored"
        ),
        pytest.param(BEFORE + CRASHED, "MARKET-1", id="it crashed over it"),
        pytest.param(BEFORE + DIED + START + START, "", id="two starts ago"),
        pytest.param("", "", id="there is no log"),
    ],
)
def test_a_stream_is_named_that_a_server_ran_out_of_memory_over(log: str, stream: str) -> None:
    told = told_by(log)
    if not stream:
        assert told == ""
    else:
        assert told.startswith(f"{stream} cannot be restored, its store is damaged")
        assert REMEDY in told


def test_a_stream_that_is_being_restored_for_long_is_named() -> None:
    """The log is looked at only while the server is not ready."""
    assert told_by(BEFORE) == f"MARKET-1 is being restored, which does not end if its store is damaged; {REMEDY}"


def test_a_server_that_refuses_to_start_over_its_store_says_where_to_look() -> None:
    assert told_by(START + REFUSED) == f"Can't start JetStream: could not create storage directory; {REMEDY}"
    assert told_by(START + "[1] 2026/11/27 08:36:47 [FTL] Can't listen on port 4222\n") == ""
