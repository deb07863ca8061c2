"""Requests between services: JSON over NATS request and reply, served as NATS micro services.

Any live instance may answer (they share a queue group). Every request is idempotent by an id it carries, so a caller
that got no answer sends the identical request again. `call` does so by itself while it waits: until the broker has
noticed, it goes on handing requests to an instance that is paused or cut off, and the next may go to another. Refusals
travel as problem details and are raised at the caller. Headers say what a request is part of (`traceparent`), and
nothing of what it asks.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

import msgspec
import structlog
from nats import errors as nats_errors
from nats.aio.msg import Msg
from nats.micro import add_service
from nats.micro.request import ERROR_CODE_HEADER, Request
from nats.micro.service import Service, ServiceConfig

from jet import api
from jet.connection import Connection
from jet.grants import INBOXES
from wire.entry import Entry
from wire.errors import Problem, Refusal, Refused
from wire.messages import UNREADABLE

T = TypeVar("T")

HANDLER_TIMEOUT = 5.0
"""Seconds a handler may take before the caller is told that the outcome is not known."""

AGAIN = 0.3
"""Seconds without an answer after which the identical request is sent again."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Handler:
    """What answers one subject. `handle` takes a `request` and returns the reply, or raises Refused."""

    subject: str
    request: type[msgspec.Struct]
    handle: Callable[[Any], Awaitable[msgspec.Struct]]


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
    """Ask another service, and take the first answer.

    Raises:
        Refused: as the service told; UNAVAILABLE if none is there; OUTCOME_UNKNOWN if none answered in time.
    """
    try:
        message = await connection.request(
            subject, msgspec.json.encode(request), timeout=timeout, headers=headers or None, again=AGAIN
        )
    except (nats_errors.NoRespondersError, *api.NOT_SENT) as error:
        raise Refused(Refusal.UNAVAILABLE, f"nobody answers {subject}: {error!r}") from error
    except (nats_errors.Error, TimeoutError) as error:
        raise Refused(Refusal.OUTCOME_UNKNOWN, f"no answer on {subject} within {timeout} s") from error
    try:
        if not message.headers or ERROR_CODE_HEADER not in message.headers:
            return msgspec.json.decode(message.data, type=reply)
        problem = msgspec.json.decode(message.data, type=Problem)
        refused = Refused.from_problem(problem)
    except (*UNREADABLE, KeyError) as error:
        # As of an instance that failed, or of another version: what it did is not known.
        raise Refused(Refusal.OUTCOME_UNKNOWN, f"the answer on {subject} cannot be read: {error!r}") from error
    raise refused


async def serve(connection: Connection, service: str, handlers: Sequence[Handler], around: Around = _nothing) -> None:
    """Answer requests until cancelled, each in a task of its own, and `around` each."""
    micro = await add_service(connection.client, ServiceConfig(name=service, version="1.0.0"))
    try:
        async with asyncio.TaskGroup() as group:
            for handler in handlers:
                await _add(connection, micro, group, handler, around)
            await asyncio.get_running_loop().create_future()
    finally:
        with contextlib.suppress(Exception):
            async with asyncio.timeout(0.5):
                await micro.stop()


async def _add(
    connection: Connection, micro: Service, group: asyncio.TaskGroup, handler: Handler, around: Around
) -> None:
    """Have a handler's requests answered, each begun as it is read."""

    async def take(request: Request) -> None:
        begin(request)

    def begin(request: Request) -> None:
        answering = _answer(handler, request, around)
        try:
            group.create_task(answering)
        except RuntimeError:  # the group takes no more: this instance stops, and the caller asks again
            answering.close()

    await micro.add_endpoint(name=handler.subject.replace(".", "-"), subject=handler.subject, handler=take)
    endpoint = micro._endpoints[-1]  # noqa: SLF001 # nats-py has no public name for it
    if endpoint._subscription is not None:  # noqa: SLF001 # as above

        def deliver(message: Msg) -> None:
            endpoint._num_requests += 1  # noqa: SLF001 # the micro service tells how many on request
            begin(Request(message))

        connection.hand_over(endpoint._subscription, deliver)  # noqa: SLF001 # as above


async def _answer(handler: Handler, request: Request, around: Around) -> None:
    reply = request._msg.reply  # noqa: SLF001 # nats-py has no public name for it
    if not reply.startswith(f"{INBOXES}."):
        # The broker does not check where an answer is asked for, and we may write where the caller may not.
        log.warning("not answered: no inbox", subject=handler.subject, reply=reply)
        return
    try:
        with around(handler.subject, request.headers):
            answered = await _handle(handler, request.data)
    except Refused as refused:
        data = msgspec.json.encode(refused.problem)
        answer = request.respond_error(str(refused.refusal.status), refused.refusal.slug, data)
    else:
        answer = request.respond(msgspec.json.encode(answered))
    try:
        await answer
    except nats_errors.Error as error:
        # The caller does not hear us and will ask again.
        log.warning("answer not sent", subject=handler.subject, error=repr(error))


@cache
def _entry(kind: type[msgspec.Struct]) -> Entry[msgspec.Struct]:
    return Entry(kind)


async def _handle(handler: Handler, data: bytes) -> msgspec.Struct:
    try:
        request = _entry(handler.request).decode(data)
    except msgspec.ValidationError as error:
        raise Refused(Refusal.INVALID_FIELD, str(error)) from error
    except UNREADABLE as error:
        raise Refused(Refusal.BAD_REQUEST, str(error)) from error
    try:
        async with asyncio.timeout(HANDLER_TIMEOUT):
            return await handler.handle(request)
    except TimeoutError as error:
        raise Refused(Refusal.OUTCOME_UNKNOWN, f"not decided within {HANDLER_TIMEOUT} s") from error
