"""An attacker with stolen readers' keys: it repeats every attack of `chaos.attacks` for the whole of a run.

It has the keys of `observer` and `ui`, connects as they do, and learns what they may read. `RATE` limits what it sends:
without a limit, it would only compete with the system for the processors.

A run fails if the broker replies to a request that it must refuse, if a stream holds a message that no service has
written, or if the attacker leaves behind a consumer or stream.
"""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import msgspec

from chaos.attacks import NAME, Attack, Attacks, Known
from jet import api, journal, link
from jet.connection import Connection
from jet.grants import grants, inbox, matches
from jet.stream_integrity import TailBroken
from jet.tail import FromSequence, Tail
from process.health import Health
from wire import subjects

READERS = ("observer", "ui")

RATE = 120.0
"""Attacks per second with each key, on average; they come in bursts."""

LEARN_EVERY = 2.0
"""Seconds between two lookups of consumers' names."""

CROWD_EVERY = 10.0
"""Seconds between two crowds of connections."""

CONNECTIONS = 8
"""Connections of a crowd, with each key."""

SUBSCRIPTIONS = 600
"""Subscriptions of each connection of a crowd: more than a reader may have."""

LISTENS = 0.2
"""Seconds for which a forbidden subscription is kept."""

PATIENCE = 2.0
"""Seconds within which the broker must reply."""

AGAIN = 0.5
"""Seconds before a retry, while the broker is away."""

_SHOWN = 50
"""The most findings that are kept."""

_MARKS = ("Nats-Marker-Reason", "KV-Operation")


class _Names(msgspec.Struct):
    consumers: list[str] | None = None
    streams: list[str] | None = None


class _Links:
    """Opens links, and counts what the broker refuses on them."""

    def __init__(self) -> None:
        self.refused = 0

    async def open_link(self, server: str, inboxes: str, options: link.Options) -> link.Link:
        """Open a link as `jet.link` does."""
        return await link.open_link(server, inboxes, replace(options, on_error=self._on_error))

    async def _on_error(self, error: Exception) -> None:
        self.refused += "permissions violation" in str(error).lower()


def is_ours(headers: Mapping[str, str]) -> bool:
    """True if a stored message was written by a service, or is a marker that the broker itself has stored."""
    return journal.is_written(headers) or ("Nats-Marker-Reason" in headers and not journal.is_copy(headers))


class Attacker:
    """Attacks one stack, until cancelled.

    Attributes:
        sent: how many attacks were sent, by kind; `subscriptions` are those of its crowds.
        findings: what the broker should have refused, but did not.
    """

    def __init__(self, url: str, seeds: Mapping[str, Path | None], symbols: Sequence[str], shards: int, seed: int):
        """`seeds` are the files with the keys of the readers and of the auditor, by user."""
        self._url = url
        self._seeds = seeds
        self._symbols = symbols
        self._shards = shards
        self._seed = seed
        self._streams = subjects.streams(shards)
        self._granted = {grant.user: grant.publish for grant in grants(shards)}
        self._known = Known()
        self._links = _Links()
        self.sent: Counter[str] = Counter()
        self.findings: list[str] = []

    @property
    def refused(self) -> int:
        """How often the broker reported a refusal."""
        return self._links.refused

    async def run(self) -> None:
        """Attack without end, whether the broker runs or not."""
        async with asyncio.TaskGroup() as group:
            for user in READERS:
                group.create_task(self._attack(user))
                group.create_task(self._open_crowds(user))
            group.create_task(self._learn())
            for stream in self._streams:
                group.create_task(self._check_stream(stream))

    async def find_leftovers(self) -> None:
        """Look for consumers and streams that the attacks left behind, once the system has recovered."""
        try:
            async with asyncio.timeout(4 * PATIENCE):
                await self._find_leftovers()
        except api.NO_REPLY as error:
            self._found(f"could not look for leftovers: {error!r}")

    async def _find_leftovers(self) -> None:
        async with self._connection("observer") as observer:
            for stream in self._streams:
                names = (await api.request(observer, f"CONSUMER.NAMES.{stream}", None, _Names)).consumers or []
                for name in names:
                    if name.startswith(NAME):
                        self._found(f"the consumer {name} of {stream} is there")
            for name in (await api.request(observer, "STREAM.NAMES", None, _Names)).streams or []:
                if name not in self._streams:
                    self._found(f"the stream {name} is there")

    def must_refuse(self, user: str, attack: Attack) -> bool:
        """True if a user may not send to the attack's subject, so that the broker must refuse it."""
        return not any(matches(granted, attack.subject) for granted in self._granted[user])

    def _connection(self, user: str) -> Connection:
        return Connection(self._url, user, Health(NAME), self._seeds[user], client=self._links)

    async def _attack(self, user: str) -> None:
        loop = asyncio.get_running_loop()
        refused_to = f"{inbox(user)}.refused"
        attacks = Attacks(f"{self._seed}-{user}", self._symbols, self._shards, self._known)
        async with self._connection(user) as connection:
            await connection.subscribe(f"{refused_to}.*", lambda answer: self._answered(user, answer.subject))
            for burst in attacks.bursts():
                due = loop.time() + len(burst) / RATE
                try:
                    for attack in burst:
                        await self._send(connection, user, attack, refused_to)
                except api.NO_REPLY:  # the broker is away
                    due += AGAIN
                await asyncio.sleep(max(0.0, due - loop.time()))

    async def _send(self, connection: Connection, user: str, attack: Attack, refused_to: str) -> None:
        if attack.kind == "listening":
            await self._listen(connection, user, attack.subject)
        else:
            is_refused = self.must_refuse(user, attack)
            own = f"{refused_to}.{attack.kind}" if is_refused else f"{inbox(user)}.asked"
            reply = own if is_refused else attack.reply or own
            await connection.publish(attack.subject, attack.payload, reply=reply, headers=attack.headers)
        self.sent[attack.kind] += 1

    async def _listen(self, connection: Connection, user: str, subject: str) -> None:
        subscription = await connection.subscribe(
            subject, lambda message: self._found(f"{user} received {message.subject} on {subject}")
        )
        await asyncio.sleep(LISTENS)
        await subscription.unsubscribe()

    async def _open_crowds(self, user: str) -> None:
        """Open many connections with more subscriptions than are allowed, again and again."""
        while True:
            async with AsyncExitStack() as crowd:
                try:
                    async with asyncio.timeout(PATIENCE):
                        for _ in range(CONNECTIONS):
                            each = await crowd.enter_async_context(self._connection(user))
                            for number in range(SUBSCRIPTIONS):
                                await each.subscribe(f"{inbox(user)}.{number}", lambda _: None)
                                self.sent["subscriptions"] += 1
                except (*api.NO_REPLY, OSError):
                    pass
            await asyncio.sleep(CROWD_EVERY)

    async def _learn(self) -> None:
        """Learn what an observer may read: names of consumers, and which reservations begin and end."""
        reservations = subjects.bucket_key(subjects.RESERVATIONS_BUCKET, "*")
        async with self._connection("observer") as observer:
            await observer.subscribe(
                reservations,
                lambda passing: self._known.observed(
                    passing.subject, any(mark in (passing.headers or {}) for mark in _MARKS)
                ),
            )
            while True:
                for stream in self._streams:
                    try:
                        names = await api.request(observer, f"CONSUMER.NAMES.{stream}", None, _Names, timeout=PATIENCE)
                        self._known.consumers[stream] = names.consumers or []
                    except api.NO_REPLY:
                        await asyncio.sleep(AGAIN)
                await asyncio.sleep(LEARN_EVERY)

    async def _check_stream(self, stream: str) -> None:
        """Check every message of a stream as it is stored."""
        async with self._connection("auditor") as auditor:
            while True:
                try:
                    info = await api.stream_info(auditor, stream, timeout=PATIENCE)
                    start = FromSequence(info.state.last_seq + 1)
                    tail = Tail(auditor, stream, info.config["subjects"], start, name="witness", skip_damaged=True)
                    async for batch in tail.batches():
                        for message in batch:
                            if not is_ours(message.headers or {}):
                                self._found(f"{stream} #{message.sequence}, {message.subject}, is from no service")
                except (*api.NO_REPLY, TailBroken):  # away; or recreated, as a repair does with published positions
                    await asyncio.sleep(AGAIN)

    def _answered(self, user: str, place: str) -> None:
        self._found(f"{subjects.last_token(place)}: {user} got a reply to a request that must be refused")

    def _found(self, what: str) -> None:
        if what not in self.findings and len(self.findings) < _SHOWN:
            self.findings.append(what)
