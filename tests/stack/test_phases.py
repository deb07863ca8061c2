"""The condition of a process, derived from supervisord's report and its own health."""

import pytest

from stack.control import ProcessInfo
from stack.observe import answer
from stack.phases import STARTUP, Answer, Phase, all_fine, condition
from stack.programs import REFUSED, Program

SERVICE = Program("exchange", ("true",), health="http://127.0.0.1:1/health")
SILENT = Program("loadgen", ("true",))
ONCE = Program("prepare", ("true",), once=True)

READY = Answer(ready=True)
BUSY = Answer(ready=False, waiting_for={"nats": "not connected"})


def process(state: str, exit_code: int = 0, uptime: int = 5) -> ProcessInfo:
    """supervisord's report on a process that started five seconds ago."""
    pid = 7 if state in ("RUNNING", "STARTING") else 0
    return ProcessInfo(name="any", statename=state, pid=pid, start=100 - uptime, now=100, exitstatus=exit_code)


@pytest.mark.parametrize(
    ("program", "found", "health", "phase"),
    [
        (SERVICE, None, None, Phase.STOPPED),
        (SERVICE, process("STOPPED"), READY, Phase.STOPPED),
        (SERVICE, process("STARTING"), None, Phase.STARTING),
        (SERVICE, process("RUNNING"), None, Phase.STARTING),
        (SERVICE, process("RUNNING", uptime=STARTUP), None, Phase.SILENT),
        (SERVICE, process("RUNNING"), BUSY, Phase.WAITING),
        (SERVICE, process("RUNNING"), READY, Phase.READY),
        (SERVICE, process("STARTING"), READY, Phase.READY),
        (SERVICE, process("BACKOFF"), None, Phase.DOWN),
        (SERVICE, process("EXITED", 1), None, Phase.DOWN),
        (SERVICE, process("EXITED", 0), None, Phase.DOWN),
        (SERVICE, process("FATAL"), None, Phase.DOWN),
        (SILENT, process("STARTING"), None, Phase.STARTING),
        (SILENT, process("RUNNING"), None, Phase.READY),
        (ONCE, process("RUNNING"), None, Phase.STARTING),
        (ONCE, process("RUNNING", uptime=STARTUP), None, Phase.SILENT),
        (ONCE, process("EXITED", 0), None, Phase.DONE),
        (ONCE, process("EXITED", REFUSED), None, Phase.REFUSED),
        (ONCE, process("EXITED", 1), None, Phase.DOWN),
        (ONCE, process("EXITED", -1), None, Phase.DOWN),
    ],
)
def test_phases(program: Program, found: ProcessInfo | None, health: Answer | None, phase: Phase) -> None:
    assert condition(program, found, health).phase is phase


def test_another_process_on_the_port_does_not_make_a_stopped_one_ready() -> None:
    assert not all_fine([condition(SERVICE, process("BACKOFF"), READY)])


def test_the_detail_says_what_a_process_waits_for_and_why() -> None:
    found = condition(SERVICE, process("RUNNING"), BUSY)
    assert found.detail == "nats: not connected"
    assert (found.pid, found.uptime) == (7, 5)


def test_the_detail_of_a_ready_process_has_its_notices() -> None:
    body = (
        b'{"service":"maker","live":true,"ready":true,"waiting_for":[],"quarantined":0,'
        b'"notices":[{"name":"AAPL","reason":"not quoted: attempt-too-far"}]}'
    )
    found = condition(SERVICE, process("RUNNING"), answer(200, body))
    assert (found.phase, found.detail) == (Phase.READY, "AAPL: not quoted: attempt-too-far")


def test_the_secret_path_of_the_monitoring_pages_is_not_shown() -> None:
    server = Program("nats", ("true",), health="http://127.0.0.1:1/secret/healthz", address="nats://127.0.0.1:4222")
    assert condition(server, process("RUNNING"), None).detail == "nats://127.0.0.1:4222 does not answer"


def test_the_detail_of_a_ready_process_counts_quarantined_messages() -> None:
    assert condition(SERVICE, process("RUNNING"), Answer(True, quarantined=3)).detail == "messages quarantined: 3"


def test_a_health_report_is_decoded_whatever_the_http_status() -> None:
    waiting = b'"waiting_for":[{"name":"nats","reason":"starting"}]'
    body = b'{"service":"ui","live":true,"ready":false,' + waiting + b',"quarantined":0}'
    assert answer(503, body) == Answer(ready=False, waiting_for={"nats": "starting"})
    assert answer(200, b'{"service":"ui","live":true,"ready":true,"waiting_for":[],"quarantined":0}') == READY


def test_the_health_of_a_nats_server_follows_from_the_http_status() -> None:
    assert answer(200, b'{"status":"ok"}') == READY
    assert answer(503, b"busy") == Answer(ready=False, waiting_for={"health": "status 503"})
    body = b'{"status":"unavailable","status_code":503,"error":"JetStream has no meta leader"}'
    assert answer(503, body) == Answer(ready=False, waiting_for={"health": "JetStream has no meta leader"})
