"""The history: a file of JSON lines with all orders sent and all responses, for the audit.

Each attempt to send an order has a `sent` line, which is written before the request, and an `answer` line, which is
written when the attempt has ended. An attempt without an `answer` line has an unknown outcome. The lines are in the
order in which the client saw the events. A file may contain several runs; each begins with a `run` line.

A run that was killed, or whose disk failed, leaves a torn line. The next run begins a new line, and `read` returns the
torn one as `Torn`.

Known limit: while orders flow, lines reach the file up to `FLUSH_EVERY` seconds late, so a load generator that is
killed loses its last lines.
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
    """An attempt begins. `attempt` counts from 1; all attempts send the identical order."""

    at: datetime
    attempt: int
    order: Order


class AnswerLine(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="answer", tag_field="event"):
    """An attempt ended.

    Attributes:
        outcome: `known`: the exchange decided. `unknown`: the order may have executed. `undelivered`: there was no
            connection, so this attempt executed nothing.
        status: the HTTP status, if there was a response.
        body: the JSON body of the response.
        text: the body of the response, if it was not JSON.
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
    """A line that is not JSON: the last line of a run that was killed, or damage."""


class History:
    """Appends to a history file. A context manager; leaving it flushes the file.

    Raises:
        OSError: the file cannot be opened, or can no longer be written to.
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
        """Record the begin of a run."""
        self._write(RunLine(at=self._clock(), plan=plan))

    def sent(self, order: Order, attempt: int) -> None:
        """Record the begin of an attempt."""
        self._write(SentLine(at=self._clock(), attempt=attempt, order=order))

    def answered(self, order_id: str, attempt: int, answer: AttemptResult) -> None:
        """Record the end of an attempt."""
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
    """Return a body as JSON on one line or, if it is not JSON, as text."""
    try:
        msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _NO_BODY, body.decode(errors="replace")
    return msgspec.Raw(body if b"\n" not in body else msgspec.json.format(body, indent=-1)), ""


def _ends_torn(path: Path) -> bool:
    """True if a file ends within a line."""
    if not path.is_file() or not path.stat().st_size:
        return False
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read() != b"\n"


def read(path: Path) -> Iterator[Line | Torn]:
    """Yield the lines of a history file, in order.

    Raises:
        OSError: it cannot be read.
        msgspec.DecodeError: a line is JSON but not a line of a history, or no line of the file is JSON.
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
