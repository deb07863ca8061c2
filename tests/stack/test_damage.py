"""What a NATS server's log says of a store that it cannot restore."""

import pytest

from stack.damage import REMEDY, told_by

START = "[1] 2026/11/27 08:36:47 [INF] Starting nats-server\n"
RESTORES = "[1] 2026/11/27 08:36:47 [INF]   Starting restore for stream '$G > {}'\n"
RESTORED = "[1] 2026/11/27 08:36:47 [INF]   Restored 1,500 messages for stream '$G > {}' in 15ms\n"
DIED = "runtime: out of memory: cannot allocate 918552576-byte block\nfatal error: out of memory\n\ngoroutine 95:\n"
BEFORE = START + RESTORES.format("MARKET-0") + RESTORED.format("MARKET-0") + RESTORES.format("MARKET-1")


@pytest.mark.parametrize(
    ("log", "stream"),
    [
        pytest.param(BEFORE + DIED, "MARKET-1", id="it has just died"),
        pytest.param(BEFORE + DIED + BEFORE, "MARKET-1", id="it is at it again"),
        pytest.param(DIED + BEFORE + DIED, "MARKET-1", id="the log was cut"),
        pytest.param(BEFORE, "", id="it restores"),
        pytest.param(
            START + RESTORES.format("MARKET-0") + RESTORED.format("MARKET-0") + DIED, "", id="it was restored"
        ),
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
