"""The history file."""

from pathlib import Path

import msgspec
import pytest

from loadgen.history import AnswerLine, History, RunLine, SentLine, Torn, read
from loadgen.outcomes import Known, Undelivered, Unknown
from loadgen.plan import Plan
from support.builders import instrument, order
from support.clock import ManualClock

PLAN = Plan(
    run_id="run",
    url="http://exchange",
    rate=10.0,
    duration=None,
    instruments={"AAA": instrument()},
    max_quantity=5,
    concurrency=8,
    aggressiveness=0.7,
    seed=7,
)


def test_every_attempt_and_every_response_is_recorded_in_order(tmp_path: Path, clock: ManualClock) -> None:
    path, sent = tmp_path / "history.jsonl", order()
    with History(path, clock) as history:
        history.run(PLAN)
        history.sent(sent, 1)
        clock.advance(0.5)
        history.answered(sent.order_id, 1, Unknown("answered 503", 503, b'{"type":"x"}', 1.0))
        history.sent(sent, 2)
        history.answered(sent.order_id, 2, Undelivered("nobody there"))
        history.sent(sent, 3)
        history.answered(sent.order_id, 3, Known(200, b'{"status":"filled"}', None))
    run, first, failed, *_, last = read(path)
    assert run == RunLine(at=ManualClock().now, plan=PLAN)
    assert first == SentLine(at=ManualClock().now, attempt=1, order=sent)
    assert isinstance(failed, AnswerLine)
    assert (failed.at, failed.order_id, failed.attempt) == (clock.now, sent.order_id, 1)
    assert (failed.outcome, failed.status, failed.error) == ("unknown", 503, "answered 503")
    assert isinstance(last, AnswerLine)
    assert (last.outcome, last.status, bytes(last.body)) == ("known", 200, b'{"status":"filled"}')
    assert [line.outcome for line in read(path) if isinstance(line, AnswerLine)] == ["unknown", "undelivered", "known"]


@pytest.mark.parametrize("body", [b"<html>\nno", b"", b"\xff\xfe", b'{"torn":'])
def test_a_body_that_is_not_json_is_recorded_as_text(tmp_path: Path, body: bytes) -> None:
    path = tmp_path / "history.jsonl"
    with History(path) as history:
        history.answered("o-1", 1, Unknown("answered 502", 502, body))
    (line,) = read(path)
    assert isinstance(line, AnswerLine)
    assert (bytes(line.body), line.text) == (b"", body.decode(errors="replace"))


def test_a_body_of_several_lines_is_recorded_on_one(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    with History(path) as history:
        history.answered("o-1", 1, Known(409, b'{\n  "type": "x"\n}', None))
    (line,) = read(path)
    assert isinstance(line, AnswerLine)
    assert msgspec.json.decode(line.body) == {"type": "x"}


@pytest.mark.parametrize("torn", [b'{"event":"sent","at":"20', b'{"event":"answer","text":"\xff', b"\0\0\0", b"{"])
def test_a_run_after_a_killed_one_begins_on_a_new_line(tmp_path: Path, torn: bytes) -> None:
    path = tmp_path / "history.jsonl"
    with History(path) as history:
        history.sent(order(), 1)
    with path.open("ab") as file:
        file.write(torn)
    assert [type(line) for line in read(path)] == [SentLine, Torn]
    with History(path) as history:
        history.run(PLAN)
        history.sent(order(), 1)
    assert [type(line) for line in read(path)] == [SentLine, Torn, RunLine, SentLine]


def test_a_json_line_that_is_not_of_a_history_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    path.write_text('{"event":"sent","at":"2026-01-05T09:30:00Z","attempt":1,"order":{}}\n')
    with pytest.raises(msgspec.ValidationError):
        list(read(path))


def test_a_second_run_is_appended_to_the_same_file(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    for _ in range(2):
        with History(path) as history:
            history.run(PLAN)
    assert len(list(read(path))) == 2


def test_lines_reach_the_file_during_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("loadgen.history.FLUSH_EVERY", 0.0)
    path = tmp_path / "history.jsonl"
    with History(path) as history:
        history.sent(order(), 1)
        assert len(list(read(path))) == 1
