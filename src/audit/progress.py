"""How far an audit is, on a terminal, while it goes on."""

from contextlib import AbstractContextManager
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from recorded.replay import Replay


class Display(AbstractContextManager["Display"]):
    """A progress bar while entered; nothing where the console is no terminal."""

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[told]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._progress.add_task("starting", total=None, status="")

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def watch(self, doing: str, replay: Replay | None, messages: int) -> None:
        """Show what is being done, and how far the replay is of how many messages."""
        if replay is None:
            self._progress.update(self._task, description=doing)
            return
        status = f"{replay.messages:,} of {messages:,} messages, {replay.fill_count:,} fills"
        self._progress.update(
            self._task, description=doing, completed=replay.messages, total=max(1, messages), status=status
        )
