"""No process outlives the foreground."""

import asyncio
import os
import signal
import sys

from stack import process_tree
from support.processes import has_ended
from support.waiting import eventually

PARENT = """
import subprocess, sys
from stack import process_tree

process_tree.adopt_orphans()
child = subprocess.Popen(
    ["sh", "-c", "sleep 300 & echo $! ; wait"],
    stdout=subprocess.PIPE, text=True, start_new_session=True, preexec_fn=process_tree.die_with_parent,
)
print(child.pid, child.stdout.readline().strip(), flush=True)
if sys.argv[1] == "end":
    child.kill()
    process_tree.end_children(5)
else:
    sys.stdin.read()
"""


async def test_the_children_of_a_dead_child_are_ended() -> None:
    parent, _, grandchild = await _family("end")
    assert await parent.wait() == 0
    assert has_ended(grandchild)


async def test_a_child_is_terminated_when_its_parent_is_killed() -> None:
    parent, child, grandchild = await _family("stay")
    try:
        assert not has_ended(child)
        parent.kill()
        await parent.wait()
        await eventually(lambda: has_ended(child))
    finally:
        os.kill(grandchild, signal.SIGKILL)


async def _family(end: str) -> tuple[asyncio.subprocess.Process, int, int]:
    """A parent, with the ids of its child and grandchild."""
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PARENT, end, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert parent.stdout is not None
    child, grandchild = map(int, (await parent.stdout.readline()).split())
    return parent, child, grandchild


def test_a_stacks_processes_get_no_variables_meant_for_other_programs() -> None:
    needed = {"PATH": "/bin", "QS_UI_PORT": "1", "LC_ALL": "C", "NATS_URL": "nats://x", "OTEL_TRACES_SAMPLER": "a"}
    others = {"AWS_SECRET_ACCESS_KEY": "secret", "PGPASSWORD": "secret", "MY_TOKEN": "secret", "SSH_AUTH_SOCK": "/x"}
    assert process_tree.environment(needed | others) == needed
