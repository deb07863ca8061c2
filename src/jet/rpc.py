"""Requests between services: JSON over NATS request and reply, served as NATS micro services.

Any live instance may reply, because the instances of a service share a queue group. Every request is idempotent by an
id that it carries, so a caller that got no reply resends the identical request. `call` does so itself while it waits:
until the broker has noticed that an instance is paused or cut off, it keeps delivering requests to it, and the next
copy may reach another one. If an instance receives several copies of a request, it handles the request once
(`jet.single_flight`).

A refusal travels as a problem detail, and is raised at the caller. Headers state which trace a request is part of
(`traceparent`), but nothing of its content. A reply states in a header which request it answers. A reply to another
request, or one that cannot be decoded, is ignored, wherever it came from.
"""

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractContextManager, AsyncExitStack, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from typing import Any, Generic, TypeVar

import msgspec
import structlog
from nats import errors as nats_errors
from nats.aio.msg import Msg
from nats.micro.request import ERROR_CODE_HEADER, ERROR_HEADER
from prometheus_client import Counter

from jet import api, packs, retry_budget
from jet.connection import Connection
from jet.discovery import QUEUE, Endpoint, Instance
from jet.grants import CROSS_ACCOUNT_REPLIES, INBOXES, READER_ACCOUNTS
from jet.packs import Part
from jet.single_flight import Answer, Flight, SingleFlight
from jet.unexpected_messages import count_unexpected
from wire.errors import Problem, Refusal, Refused
from wire.fields import DECODE_ERRORS
from wire.processes import ProcessReport
from wire.strict_decoder import StrictDecoder

T = TypeVar("T")

HANDLER_TIMEOUT = 6.0
"""Seconds that a handler may take before the caller gets OUTCOME_UNKNOWN. A service's own timeout, which is 5 s, comes
first, because the service can report more."""

_INBOX_PREFIXES = (f"{INBOXES}.", f"{CROSS_ACCOUNT_REPLIES}.")
"""The prefixes of the subjects to which a reply may be sent: no stream stores them."""

ANSWERS = "Quotestream-Answers"
"""The header with the digest of the request that a reply answers."""

_REQUEST_INFO = "Nats-Request-Info"
"""The header in which the server names the account of a request from another account. The sender cannot forge it."""

MAX_READER_REPLIES = 100
"""The most replies per second that an instance sends to the readers of one account, on each subject that it serves for
them, and on all discovery subjects together."""

THROTTLED = Counter("quotestream_reader_requests_throttled", "Requests of readers beyond the rate that is answered.")

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Handler:
    """The handler of one subject.

    Attributes:
        subject: the subject of the requests.
        request: their type.
        handle: takes a request, and returns the reply or raises Refused.
        for_readers: readers may send it, so the rate of replies to them is limited.
    """

    subject: str
    request: type[msgspec.Struct]
    handle: Callable[[Any], Awaitable[msgspec.Struct]]
    for_readers: bool = False


class _RateLimit:
    """Limits the replies per second to readers, so that they delay nobody else."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._second = 0
        self._taken = 0

    def take(self, now: float) -> bool:
        """Count a request at `now`, in seconds. Return whether it may be answered."""
        second = int(now)
        if second != self._second:
            self._second, self._taken = second, 0
        self._taken += 1
        return self._taken <= self._limit


class _Account(msgspec.Struct):
    acc: str = ""


def _account(headers: Mapping[str, str] | None) -> str:
    """Return the account that a request came from if it is an account of readers; else an empty string."""
    try:
        account = msgspec.json.decode((headers or {}).get(_REQUEST_INFO, "{}"), type=_Account).acc
    except DECODE_ERRORS:
        return ""
    return account if account in READER_ACCOUNTS else ""


def request_digest(subject: str, request: bytes) -> str:
    """Return the digest by which a reply names its request."""
    return hashlib.blake2b(b"%b\n%b" % (subject.encode(), request), digest_size=11).hexdigest()


class _PendingCall(Generic[T]):
    """A call that waits for its answer.

    Attributes:
        answer: the answer, once it has arrived.
    """

    def __init__(self, digest: str, reply: type[T]) -> None:
        self.answer: T | Refused | None = None
        self._digest = digest
        self._reply = reply

    def take(self, message: Msg) -> bool:
        """Decode a message. Return True if it is the answer, False to keep waiting."""
        headers = message.headers or {}
        try:
            if headers.get(ANSWERS) != self._digest:
                count_unexpected("unasked")
            elif ERROR_CODE_HEADER in headers:
                self.answer = Refused.from_problem(msgspec.json.decode(message.data, type=Problem))
            else:
                self.answer = msgspec.json.decode(message.data, type=self._reply)
        except (*DECODE_ERRORS, KeyError):  # for example from an instance of another version
            count_unexpected("unasked")
        return self.answer is not None


_asker: ContextVar[str] = ContextVar("asker")


def asker() -> str:
    """Identify the sender of the request that is being handled: the same string for all requests of one connection."""
    return _asker.get()


Around = Callable[[str, Mapping[str, str] | None], AbstractContextManager[object]]
"""Makes the context manager in which a request is handled, from its subject and headers."""


def _nothing(subject: str, headers: Mapping[str, str] | None) -> AbstractContextManager[object]:  # noqa: ARG001 # an Around
    return nullcontext()


async def call(
    connection: Connection,
    subject: str,
    request: msgspec.Struct,
    reply: type[T],
    *,
    timeout: float = 2.0,
    headers: dict[str, str] | None = None,
) -> T:
    """Send a request to another service, and return its answer.

    Raises:
        Refused: as raised by the service; UNAVAILABLE if no instance listens; OUTCOME_UNKNOWN if none replied in time.
    """
    payload = msgspec.json.encode(request)
    pending = _PendingCall(request_digest(subject, payload), reply)
    try:
        await connection.request(
            subject,
            payload,
            timeout=timeout,
            headers=headers or None,
            resend_after=retry_budget.FIRST_PAUSE,
            is_reply=pending.take,
            packed=True,
        )
    except (nats_errors.NoRespondersError, *api.NOT_SENT) as error:
        raise Refused(Refusal.UNAVAILABLE, f"no instance answers {subject}: {error!r}") from error
    except (nats_errors.Error, TimeoutError) as error:
        raise Refused(Refusal.OUTCOME_UNKNOWN, f"no answer on {subject} within {timeout} s") from error
    match pending.answer:
        case None:
            raise AssertionError("a request ended without its answer")
        case Refused() as refused:
            raise refused
        case answer:
            return answer


async def serve(
    connection: Connection,
    service: str,
    handlers: Sequence[Handler],
    around: Around = _nothing,
    report: Callable[[int], ProcessReport] | None = None,
) -> None:
    """Answer requests until cancelled, each in its own task, inside the context manager of `around`.

    Also answers micro discovery, even without handlers; `report` as in `jet.discovery.Instance`.
    """
    endpoints = [Endpoint(handler.subject.replace(".", "-"), handler.subject) for handler in handlers]
    async with AsyncExitStack() as stack, asyncio.TaskGroup() as group:
        server = _Server(connection, group, around)

        async def listen(subject: str, deliver: Callable[[Msg], None], queue: str = "") -> None:
            subscription = await connection.subscribe(subject, deliver, queue=queue)
            stack.push_async_callback(subscription.unsubscribe)

        for subject, make_reply in Instance(service, endpoints, report).subjects().items():
            await listen(subject, lambda message, make_reply=make_reply: server.discover(message, make_reply))  # type: ignore[misc] # mypy cannot infer it
        for handler, endpoint in zip(handlers, endpoints, strict=True):
            await listen(
                handler.subject,
                lambda message, handler=handler, endpoint=endpoint: server.begin(handler, endpoint, message),  # type: ignore[misc] # as above
                QUEUE,
            )
        await asyncio.get_running_loop().create_future()


class _Server:
    """Answers requests; copies of a request get its answer."""

    def __init__(self, connection: Connection, group: asyncio.TaskGroup, around: Around) -> None:
        self._connection = connection
        self._group = group
        self._around = around
        self._flights = SingleFlight()
        self._rate_limits: dict[tuple[str, str], _RateLimit] = {}
        self._gathered: dict[str, list[Part]] = {}

    def is_within_rate(self, subject: str, headers: Mapping[str, str] | None) -> bool:
        """Count a reader's request on a subject. Return whether it may be answered. Each account has its own limit."""
        rate_limit = self._rate_limits.setdefault((subject, _account(headers)), _RateLimit(MAX_READER_REPLIES))
        if rate_limit.take(time.monotonic()):
            return True
        THROTTLED.inc()
        return False

    def begin(self, handler: Handler, endpoint: Endpoint, message: Msg) -> None:
        """Start to answer a request, or each request of a pack."""
        endpoint.num_requests += 1
        if handler.for_readers and not self.is_within_rate(handler.subject, message.headers):
            return
        if not message.reply.startswith(_INBOX_PREFIXES):
            # The broker does not check reply subjects, and we may publish where the caller may not.
            count_unexpected("reply")
            log.warning("not answered: no inbox", subject=handler.subject, reply=message.reply)
            return
        if not message.headers or packs.HEADER not in message.headers:
            self._begin(handler, endpoint, message.reply, message.data, message.headers)
            return
        try:
            # Readers send single requests: the rate limit counts messages, and the server maps only the one reply
            # subject that it made itself back into another account.
            parts = packs.decode(message.data) if not handler.for_readers else []
        except ValueError:
            parts = []
        if not parts:
            count_unexpected("pack")
            return
        endpoint.num_requests += len(parts) - 1
        inbox = message.reply.rpartition(".")[0]
        for part in parts:
            self._begin(handler, endpoint, f"{inbox}.{part.place}", bytes(part.data), part.headers, in_pack=True)

    def _begin(
        self,
        handler: Handler,
        endpoint: Endpoint,
        reply: str,
        data: bytes,
        headers: Mapping[str, str] | None,
        *,
        in_pack: bool = False,
    ) -> None:
        arrived = self._flights.join(handler.subject, data, reply, time.monotonic(), in_pack=in_pack)
        if isinstance(arrived, Flight):
            self._spawn(self._answer(handler, endpoint, arrived, headers))
        elif isinstance(arrived, Answer):
            self._spawn(self._respond({reply: in_pack}, arrived.data, _headers(handler.subject, data, arrived)))

    def discover(self, message: Msg, make_reply: Callable[[], bytes]) -> None:
        """Reply to a discovery request."""
        if message.reply.startswith(_INBOX_PREFIXES) and self.is_within_rate("", message.headers):
            self._spawn(self._send(message.reply, make_reply(), None))

    def _spawn(self, answering: Coroutine[Any, Any, None]) -> None:
        try:
            self._group.create_task(answering)
        except RuntimeError:  # the group is closed: this instance stops, and the caller resends
            answering.close()

    async def _answer(
        self, handler: Handler, endpoint: Endpoint, flight: Flight, headers: Mapping[str, str] | None
    ) -> None:
        began = time.perf_counter_ns()
        _asker.set(next(iter(flight.replies)).rpartition(".")[0])
        try:
            with self._around(handler.subject, headers):
                answer = Answer(msgspec.json.encode(await _handle(handler, flight.data)))
        except Refused as refused:
            of, data = refused.refusal, msgspec.json.encode(refused.problem)
            answer = Answer(data, (of.status, of.slug), final=not of.retryable)
        endpoint.record(began, answer.refusal[1] if answer.refusal is not None else None)
        headers = _headers(flight.subject, flight.data, answer)
        await self._respond(self._flights.complete(flight, answer, time.monotonic()), answer.data, headers)

    async def _respond(self, replies: Mapping[str, bool], data: bytes, headers: dict[str, str]) -> None:
        """Send an answer to each reply subject; if it may travel in a pack, with others of this turn of the loop."""
        for reply, in_pack in replies.items():
            if not in_pack:
                await self._send(reply, data, headers)
                continue
            if not self._gathered:
                self._spawn(self._send_gathered())
            inbox = reply.rpartition(".")[0]
            self._gathered.setdefault(inbox, []).append(packs.part(reply, data, headers))

    async def _send_gathered(self) -> None:
        gathered, self._gathered = self._gathered, {}
        for inbox, parts in gathered.items():
            for group in packs.groups(parts):
                reply, one = f"{inbox}.{group[0].place}", group[0]
                if len(group) == 1:
                    await self._send(reply, bytes(one.data), one.headers)
                else:
                    await self._send(reply, packs.encode(group), {packs.HEADER: str(len(group))})

    async def _send(self, reply: str, data: bytes, headers: dict[str, str] | None) -> None:
        try:
            await self._connection.publish(reply, data, headers=headers)
        except nats_errors.Error as error:
            # The caller gets no reply and will resend.
            log.warning("answer not sent", error=repr(error))


def _headers(subject: str, request: bytes, answer: Answer) -> dict[str, str]:
    headers = {ANSWERS: request_digest(subject, request)}
    if answer.refusal is not None:
        status, slug = answer.refusal
        headers |= {ERROR_CODE_HEADER: str(status), ERROR_HEADER: slug}
    return headers


@cache
def _decoder_of(kind: type[msgspec.Struct]) -> StrictDecoder[msgspec.Struct]:
    return StrictDecoder(kind)


async def _handle(handler: Handler, data: bytes) -> msgspec.Struct:
    try:
        request = _decoder_of(handler.request).decode(data)
    except msgspec.ValidationError as error:
        raise Refused(Refusal.INVALID_FIELD, str(error)) from error
    except DECODE_ERRORS as error:
        raise Refused(Refusal.BAD_REQUEST, str(error)) from error
    try:
        async with asyncio.timeout(HANDLER_TIMEOUT):
            return await handler.handle(request)
    except TimeoutError as error:
        raise Refused(Refusal.OUTCOME_UNKNOWN, f"not decided within {HANDLER_TIMEOUT} s") from error
