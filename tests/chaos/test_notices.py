"""The notices that a run writes for the page."""

from datetime import timedelta
from pathlib import Path

import pytest

from chaos.notices import Notifier, faults
from chaos.recovery import Recoveries
from chaos.schedule import Fault
from support.builders import NOW
from support.chaos import report
from ui.notices import Notices
from ui.notices_file import NoticesFile


def recoveries() -> Recoveries:
    """Return a kill, 100 s after the clock's zero."""
    found = Recoveries()
    killed = found.begin(Fault(at=0, kind="kill", target="exchange"), 100.0)
    found.end(killed, 100.0, 100.1)
    return found


def test_a_fault_is_shown_when_it_begins_and_again_when_it_has_ended() -> None:
    run = recoveries()
    (struck,) = faults(run.all, NOW)
    assert (struck.target, struck.what, struck.began) == ("exchange", "killed", NOW + timedelta(seconds=100))
    assert (struck.ready_at, struck.ready_after, struck.trading_after) == (None, None, None)
    run.ready("exchange", 101.0, 102.0)
    run.filled(101.5, 102.5)
    (ended,) = faults(run.all, NOW)
    assert ended.ready_at == NOW + timedelta(seconds=102)
    assert (ended.ready_after, ended.trading_after) == (2.0, 2.5)


def test_the_page_reads_what_a_run_writes(tmp_path: Path) -> None:
    path, run = tmp_path / "notices.json", recoveries()
    file, notifier = NoticesFile(path), Notifier(path)
    assert not file.poll()
    notifier.progress("trading", run.all)
    assert file.poll()
    assert not file.poll()
    notifier.progress("trading", run.all)
    assert not file.poll()
    notifier.end(report(), run.all)
    assert file.poll()
    notices = file.notices
    assert notices is not None
    assert (notices.step, notices.clean, [fault.target for fault in notices.faults]) == ("done", True, ["exchange"])
    assert notices.verdict.startswith("10 fills, each in the log once")


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff", b'{"step":"dancing","faults":[]}'])
def test_an_unreadable_file_changes_nothing(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "notices.json"
    file = NoticesFile(path)
    Notifier(path).write(Notices(step="healing", faults=[]))
    assert file.poll()
    path.write_bytes(content + b" ")
    assert not file.poll()
    assert file.notices == Notices(step="healing", faults=[])


def test_a_missing_folder_is_ignored(tmp_path: Path) -> None:
    Notifier(tmp_path / "nowhere" / "notices.json").write(Notices(step="healing", faults=[]))
