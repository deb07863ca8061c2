"""The progress bar of an audit."""

import io

from rich.console import Console

from audit.progress import Display
from support.audit import busy


def test_a_terminal_shows_how_far_the_replay_is() -> None:
    output = io.StringIO()
    replay = busy().replay()
    with Display(Console(file=output, force_terminal=True, width=120)) as display:
        display.watch("replaying the market log", replay, 100)
    assert f"{replay.messages} of 100 messages, {replay.fill_count} fills" in output.getvalue()
