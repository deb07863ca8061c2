"""The servers that tests start."""

import asyncio
import os
import sys
from pathlib import Path

from support.waiting import eventually

SCRIPT = """
import sys
from pathlib import Path
from support.broker import NatsServer
server = NatsServer(Path(sys.argv[1]))
server.start()
print(server._process.pid, flush=True)
sys.stdin.read()
"""


async def test_a_server_ends_with_a_run_of_the_tests_that_is_killed(tmp_path: Path) -> None:
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    pipe = asyncio.subprocess.PIPE
    run = await asyncio.create_subprocess_exec(
        sys.executable, "-c", SCRIPT, str(tmp_path), env=environ, stdin=pipe, stdout=pipe
    )
    assert run.stdout is not None
    server = int(await run.stdout.readline())
    assert not _has_ended(server)
    run.kill()
    await run.wait()
    await eventually(lambda: _has_ended(server))


def _has_ended(pid: int) -> bool:
    """True if a process has ended, even if nobody has reaped it yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True
