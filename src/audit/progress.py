"""The progress of an audit, on a terminal."""

from contextlib import AbstractContextManager
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from recorded.replay import Replay


class Display(AbstractContextManager["Display"]):
    """A progress bar while entered. Shows nothing if the console is not a terminal."""

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[status]}"),
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

    def watch(self, activity: str, replay: Replay | None, messages: int) -> None:
        """Show what the audit is doing, and how many of `messages` are replayed."""
        if replay is None:
            self._progress.update(self._task, description=activity)
            return
        status = f"{replay.messages:,} of {messages:,} messages, {replay.fill_count:,} fills"
        self._progress.update(
            self._task, description=activity, completed=replay.messages, total=max(1, messages), status=status
        )
