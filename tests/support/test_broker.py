"""The servers that tests start."""

import asyncio
import os
import sys
from pathlib import Path

from support.processes import has_ended
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
    assert not has_ended(server)
    run.kill()
    await run.wait()
    await eventually(lambda: has_ended(server))
