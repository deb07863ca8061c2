"""What is restarted, and when."""

from stack.nats_restart import ROOM, NatsRestart
from stack.phases import Condition, Phase
from stack.programs import Program

NATS = Program("nats", ("true",), health="http://127.0.0.1:1/healthz")
TOLD = "health: JetStream stream '$G > MARKET-0' write error: write 1.blk: no space left on device"


def at(phase: Phase, detail: str = "", pid: int = 7) -> list[Condition]:
    """The NATS server in one phase."""
    return [Condition(NATS, phase, pid, detail=detail)]


def test_a_server_that_failed_to_write_is_restarted_once_there_is_room() -> None:
    remedy = NatsRestart()
    failed = at(Phase.WAITING, TOLD)
    assert remedy.to_restart(failed, ROOM - 1) == []
    assert remedy.to_restart(failed, ROOM) == failed


def test_it_is_restarted_once_and_its_successor_again() -> None:
    remedy = NatsRestart()
    remedy.to_restart(at(Phase.WAITING, TOLD), ROOM)
    assert remedy.to_restart(at(Phase.WAITING, TOLD), ROOM) == []
    again = at(Phase.WAITING, TOLD, pid=8)
    assert remedy.to_restart(again, ROOM) == again


def test_what_is_well_or_waits_for_something_else_is_left_alone() -> None:
    remedy = NatsRestart()
    assert remedy.to_restart(at(Phase.READY), ROOM) == []
    assert remedy.to_restart(at(Phase.WAITING, "health: JetStream is not current with the meta leader"), ROOM) == []
