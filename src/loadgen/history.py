"""The history: a file of JSON lines that says what was sent and what was answered, for the audit.

Each attempt of an order has a `sent` line, written before the request leaves, and an `answer` line, written when the
attempt ended. A `sent` line without an `answer` is an attempt whose outcome is unknown. The order of lines is the order
of events as the client saw them. A file may hold several runs, each begun by its `run` line.

A run that was killed, or lost its disk, leaves a torn line. The next run begins on a line of its own; who reads the
file gets the torn one as `Torn`.

Known limit: lines reach the file at most `FLUSH_EVERY` seconds late while orders flow, so a generator that is killed
loses its last few.
"""

import os
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Literal, NamedTuple, Self

import msgspec
from msgspec.structs import replace

from loadgen.outcomes import AttemptResult, Known, Undelivered, Unknown
from loadgen.plan import Plan
from process.clock import Clock, utc_now
from wire.orders import Order

FLUSH_EVERY = 0.2

_NO_BODY = msgspec.Raw()


class RunLine(msgspec.Struct, frozen=True, kw_only=True, tag="run", tag_field="event"):
    """A run begins."""

    at: datetime
    plan: Plan


class SentLine(msgspec.Struct, frozen=True, kw_only=True, tag="sent", tag_field="event"):
    """An attempt begins. `attempt` counts from 1; each attempt of an order carries the identical order."""

    at: datetime
    attempt: int
    order: Order


class AnswerLine(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="answer", tag_field="event"):
    """An attempt ended.

    Attributes:
        outcome: `known`: the exchange decided. `unknown`: the order may or may not have executed. `undelivered`: there
            was no connection, so this attempt executed nothing.
        status: the HTTP status, where there was a response.
        body: the response's JSON body.
        text: the response's body where it was no JSON.
        error: why there is no decision.
    """

    at: datetime
    order_id: str
    attempt: int
    outcome: Literal["known", "unknown", "undelivered"]
    status: int | None = None
    body: msgspec.Raw = _NO_BODY
    text: str = ""
    error: str = ""


Line = RunLine | SentLine | AnswerLine


class Torn(NamedTuple):
    """A line that is no JSON: the last of a run that did not end by itself, or damage."""


class History:
    """Appends to a history file. A context manager: leaving it writes out what is left.

    Raises:
        OSError: the file cannot be opened, or cannot be written to any more.
    """

    def __init__(self, path: Path, clock: Clock = utc_now) -> None:
        is_torn = _ends_torn(path)
        self._file = path.open("ab", buffering=1 << 20)
        if is_torn:
            self._file.write(b"\n")
        self._clock = clock
        self._encoder = msgspec.json.Encoder()
        self._flushed = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def run(self, plan: Plan) -> None:
        """A run begins."""
        self._write(RunLine(at=self._clock(), plan=plan))

    def sent(self, order: Order, attempt: int) -> None:
        """An attempt begins."""
        self._write(SentLine(at=self._clock(), attempt=attempt, order=order))

    def answered(self, order_id: str, attempt: int, answer: AttemptResult) -> None:
        """An attempt ended."""
        line = AnswerLine(at=self._clock(), order_id=order_id, attempt=attempt, outcome="known")
        match answer:
            case Known(status, body):
                raw, text = _as_json(body)
                line = replace(line, status=status, body=raw, text=text)
            case Unknown(why, status, body):
                raw, text = _as_json(body)
                line = replace(line, outcome="unknown", status=status, body=raw, text=text, error=why)
            case Undelivered(why):
                line = replace(line, outcome="undelivered", error=why)
        self._write(line)

    def _write(self, line: Line) -> None:
        self._file.write(self._encoder.encode(line) + b"\n")
        now = time.monotonic()
        if now - self._flushed >= FLUSH_EVERY:
            self._file.flush()
            self._flushed = now


def _as_json(body: bytes) -> tuple[msgspec.Raw, str]:
    """A body to embed as it is if it is JSON on one line, else as text."""
    try:
        msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _NO_BODY, body.decode(errors="replace")
    return msgspec.Raw(body if b"\n" not in body else msgspec.json.format(body, indent=-1)), ""


def _ends_torn(path: Path) -> bool:
    """Whether a file ends within a line."""
    if not path.is_file() or not path.stat().st_size:
        return False
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read() != b"\n"


def read(path: Path) -> Iterator[Line | Torn]:
    """The lines of a history file, in order.

    Raises:
        OSError: it cannot be read.
        msgspec.DecodeError: a line is JSON, and none of a history; or the file has lines, and none of them is JSON.
    """
    decoder: msgspec.json.Decoder[Line] = msgspec.json.Decoder(Line)
    is_history, fault = False, None
    with path.open("rb") as file:
        for line in file:
            try:
                read = decoder.decode(line) if line.endswith(b"\n") else Torn()
            except msgspec.ValidationError:
                raise
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                read, fault = Torn(), error
            is_history = is_history or not isinstance(read, Torn)
            yield read
    if fault is not None and not is_history:
        raise fault
