"""Requests between services: JSON over NATS request and reply, served as NATS micro services.

Any live instance may answer (they share a queue group). Every request is idempotent by an id it carries, so a caller
that got no answer sends the identical request again. `call` does so by itself while it waits: until the broker has
noticed, it goes on handing requests to an instance that is paused or cut off, and the next may go to another. An
instance answers the copies that it gets itself once (`jet.single_flight`). Refusals travel as problem details and are
raised at the caller. Headers say what a request is part of (`traceparent`), and nothing of what it asks. An answer
names in a header what it answers: what names something else, or cannot be read, is passed over, wherever it came from.
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
from jet.grants import ACROSS, INBOXES, OUTSIDE
from jet.packs import Part
from jet.single_flight import Answer, Flight, SingleFlight
from jet.unexpected_messages import count_unexpected
from wire.errors import Problem, Refusal, Refused
from wire.fields import DECODE_ERRORS
from wire.processes import ProcessReport
from wire.strict_decoder import StrictDecoder

T = TypeVar("T")

HANDLER_TIMEOUT = 6.0
"""Seconds a handler may take before the caller is told that the outcome is not known. What a service itself says at its
own deadline, which is 5 s, comes first: it knows more."""

_INBOXES = (f"{INBOXES}.", f"{ACROSS}.")
"""What the subjects begin with to which an answer may go: no stream takes them."""

ANSWERS = "Quotestream-Answers"
"""The header by which an answer names what it answers."""

_ASKER = "Nats-Request-Info"
"""The header by which the server tells the account of who asks from another one, in place of what the asker may say."""

MOST_FOR_READERS = 100
"""Answers a second that an instance gives to questions of readers of one account: on each subject that it serves for
them, and on all by which services are found together."""

THROTTLED = Counter("quotestream_reader_requests_throttled", "Requests of readers beyond the rate that is answered.")

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Handler:
    """What answers one subject. `handle` takes a `request` and returns the reply, or raises Refused.

    `for_readers`: whoever only looks may ask it, so what comes in floods is not answered.
    """

    subject: str
    request: type[msgspec.Struct]
    handle: Callable[[Any], Awaitable[msgspec.Struct]]
    for_readers: bool = False


class _Share:
    """So many answers a second, for those who only look, so that they do not hold up anybody else."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._second = 0
        self._given = 0

    def take(self, now: float) -> bool:
        """Whether one more is answered at `now`, in seconds; it is counted."""
        second = int(now)
        if second != self._second:
            self._second, self._given = second, 0
        self._given += 1
        return self._given <= self._most


class _Account(msgspec.Struct):
    acc: str = ""


def _account(headers: Mapping[str, str] | None) -> str:
    """The account that a question came from, if it is one of readers."""
    try:
        account = msgspec.json.decode((headers or {}).get(_ASKER, "{}"), type=_Account).acc
    except DECODE_ERRORS:
        return ""
    return account if account in OUTSIDE else ""


def name_of(subject: str, request: bytes) -> str:
    """How an answer names what it answers."""
    return hashlib.blake2b(b"%b\n%b" % (subject.encode(), request), digest_size=11).hexdigest()


class _Awaited(Generic[T]):
    """What a call waits for.

    Attributes:
        answer: what was answered, once it was.
    """

    def __init__(self, name: str, reply: type[T]) -> None:
        self.answer: T | Refused | None = None
        self._name = name
        self._reply = reply

    def take(self, message: Msg) -> bool:
        """Whether a message is the answer, or whether to go on waiting."""
        headers = message.headers or {}
        try:
            if headers.get(ANSWERS) != self._name:
                count_unexpected("unasked")
            elif ERROR_CODE_HEADER in headers:
                self.answer = Refused.from_problem(msgspec.json.decode(message.data, type=Problem))
            else:
                self.answer = msgspec.json.decode(message.data, type=self._reply)
        except (*DECODE_ERRORS, KeyError):  # as of an instance of another version
            count_unexpected("unasked")
        return self.answer is not None


_asker: ContextVar[str] = ContextVar("asker")


def asker() -> str:
    """Who sent the request that is being handled: the same for all requests over one connection."""
    return _asker.get()


Around = Callable[[str, Mapping[str, str] | None], AbstractContextManager[object]]
"""What is entered while a request is answered, given its subject and headers."""


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
    """Ask another service, and take the first answer to that.

    Raises:
        Refused: as the service told; UNAVAILABLE if none is there; OUTCOME_UNKNOWN if none answered in time.
    """
    payload = msgspec.json.encode(request)
    awaited = _Awaited(name_of(subject, payload), reply)
    try:
        await connection.request(
            subject,
            payload,
            timeout=timeout,
            headers=headers or None,
            resend_after=retry_budget.FIRST,
            is_reply=awaited.take,
            packed=True,
        )
    except (nats_errors.NoRespondersError, *api.NOT_SENT) as error:
        raise Refused(Refusal.UNAVAILABLE, f"nobody answers {subject}: {error!r}") from error
    except (nats_errors.Error, TimeoutError) as error:
        raise Refused(Refusal.OUTCOME_UNKNOWN, f"no answer on {subject} within {timeout} s") from error
    match awaited.answer:
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
    """Answer requests until cancelled, each in a task of its own, and `around` each.

    It is found by micro discovery too, also if there are no handlers; `report` as of `jet.discovery.Instance`.
    """
    endpoints = [Endpoint(handler.subject.replace(".", "-"), handler.subject) for handler in handlers]
    async with AsyncExitStack() as stack, asyncio.TaskGroup() as group:
        server = _Server(connection, group, around)

        async def listen(subject: str, deliver: Callable[[Msg], None], queue: str = "") -> None:
            subscription = await connection.subscribe(subject, deliver, queue=queue)
            stack.push_async_callback(subscription.unsubscribe)

        for subject, say in Instance(service, endpoints, report).subjects().items():
            await listen(subject, lambda message, say=say: server.introduce(message, say))  # type: ignore[misc] # mypy cannot infer it
        for handler, endpoint in zip(handlers, endpoints, strict=True):
            await listen(
                handler.subject,
                lambda message, handler=handler, endpoint=endpoint: server.begin(handler, endpoint, message),  # type: ignore[misc] # as above
                QUEUE,
            )
        await asyncio.get_running_loop().create_future()


class _Server:
    """Answers what arrives, copies together with what they are copies of."""

    def __init__(self, connection: Connection, group: asyncio.TaskGroup, around: Around) -> None:
        self._connection = connection
        self._group = group
        self._around = around
        self._flights = SingleFlight()
        self._shares: dict[tuple[str, str], _Share] = {}
        self._gathered: dict[str, list[Part]] = {}

    def may_have(self, subject: str, headers: Mapping[str, str] | None) -> bool:
        """Whether a reader's question on a subject is answered now. Who asks too much has nothing taken from readers of
        another account."""
        share = self._shares.setdefault((subject, _account(headers)), _Share(MOST_FOR_READERS))
        if share.take(time.monotonic()):
            return True
        THROTTLED.inc()
        return False

    def begin(self, handler: Handler, endpoint: Endpoint, message: Msg) -> None:
        """Have a request answered."""
        endpoint.num_requests += 1
        if handler.for_readers and not self.may_have(handler.subject, message.headers):
            return
        if not message.reply.startswith(_INBOXES):
            # The broker does not check where an answer is asked for, and we may write where the caller may not.
            count_unexpected("reply")
            log.warning("not answered: no inbox", subject=handler.subject, reply=message.reply)
            return
        if not message.headers or packs.HEADER not in message.headers:
            self._begin(handler, endpoint, message.reply, message.data, message.headers)
            return
        try:
            # Who only looks asks one by one: that is what its share counts, and across accounts the server maps no
            # other reply back than the one that it made.
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
            self._spawn(self._fly(handler, endpoint, arrived, headers))
        elif isinstance(arrived, Answer):
            self._spawn(self._respond({reply: in_pack}, arrived.data, _headers(handler.subject, data, arrived)))

    def introduce(self, message: Msg, say: Callable[[], bytes]) -> None:
        """Have somebody told who we are."""
        if message.reply.startswith(_INBOXES) and self.may_have("", message.headers):
            self._spawn(self._send(message.reply, say(), None))

    def _spawn(self, answering: Coroutine[Any, Any, None]) -> None:
        try:
            self._group.create_task(answering)
        except RuntimeError:  # the group takes no more: this instance stops, and the caller asks again
            answering.close()

    async def _fly(
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
        """Send an answer, if it may with those to the same inbox that are given in the same turn of the loop."""
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
            # The caller does not hear us and will ask again.
            log.warning("answer not sent", error=repr(error))


def _headers(subject: str, request: bytes, answer: Answer) -> dict[str, str]:
    headers = {ANSWERS: name_of(subject, request)}
    if answer.refusal is not None:
        status, slug = answer.refusal
        headers |= {ERROR_CODE_HEADER: str(status), ERROR_HEADER: slug}
    return headers


@cache
def _entry(kind: type[msgspec.Struct]) -> StrictDecoder[msgspec.Struct]:
    return StrictDecoder(kind)


async def _handle(handler: Handler, data: bytes) -> msgspec.Struct:
    try:
        request = _entry(handler.request).decode(data)
    except msgspec.ValidationError as error:
        raise Refused(Refusal.INVALID_FIELD, str(error)) from error
    except DECODE_ERRORS as error:
        raise Refused(Refusal.BAD_REQUEST, str(error)) from error
    try:
        async with asyncio.timeout(HANDLER_TIMEOUT):
            return await handler.handle(request)
    except TimeoutError as error:
        raise Refused(Refusal.OUTCOME_UNKNOWN, f"not decided within {HANDLER_TIMEOUT} s") from error
