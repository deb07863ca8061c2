"""Which NATS server is restarted, and when."""

from stack.nats_restart import ROOM, NatsRestart
from stack.phases import Condition, Phase
from stack.programs import Program

NATS = Program("nats", ("true",), health="http://127.0.0.1:1/healthz")
FULL_DISK = "health: JetStream stream '$G > MARKET-0' write error: write 1.blk: no space left on device"


def at(phase: Phase, detail: str = "", pid: int = 7) -> list[Condition]:
    """The NATS server in one phase."""
    return [Condition(NATS, phase, pid, detail=detail)]


def test_a_server_that_failed_to_write_is_restarted_when_the_disk_has_room() -> None:
    nats_restart = NatsRestart()
    failed = at(Phase.WAITING, FULL_DISK)
    assert nats_restart.to_restart(failed, ROOM - 1) == []
    assert nats_restart.to_restart(failed, ROOM) == failed


def test_each_process_is_restarted_only_once() -> None:
    nats_restart = NatsRestart()
    nats_restart.to_restart(at(Phase.WAITING, FULL_DISK), ROOM)
    assert nats_restart.to_restart(at(Phase.WAITING, FULL_DISK), ROOM) == []
    again = at(Phase.WAITING, FULL_DISK, pid=8)
    assert nats_restart.to_restart(again, ROOM) == again


def test_a_server_that_is_ready_or_waits_for_something_else_is_not_restarted() -> None:
    nats_restart = NatsRestart()
    assert nats_restart.to_restart(at(Phase.READY), ROOM) == []
    assert (
        nats_restart.to_restart(at(Phase.WAITING, "health: JetStream is not current with the meta leader"), ROOM) == []
    )
