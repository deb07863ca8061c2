"""Writes and reads the definitions of what is traded: the only writer of the bucket `instruments`.

A change is decided on everything that is defined, and each of its messages is appended only if nothing was defined
since. So two concurrent changes never combine into a result that neither alone would have been allowed.

If there are no terms yet, they are written last: until then nothing is listed, so an interrupted writer starts again.
"""

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Sequence

import msgspec

from jet import api, journal
from jet.bootstrap import Bootstrap
from jet.connection import Connection
from jet.journal import Appended, Compare
from jet.listings import KEYS, STREAM, fold, is_definition
from wire import subjects
from wire.definitions import TERMS, Change, Definitions
from wire.errors import Refusal, Refused
from wire.units import FieldError

APPEND_TIMEOUT = 5.0
"""Seconds that a change may take per message."""

READ_TIMEOUT = 30.0
"""Seconds to read all definitions."""

Decide = Callable[[Definitions], Sequence[Change]]
"""Returns the changes to write, given all definitions. Pure, because it may be called again. If it raises FieldError or
Refused, nothing is written."""


class _Outdated(Exception):  # noqa: N818 # names what happened
    """Something else was defined meanwhile. `ours` is the sequence of our last message, 0 if there is none."""

    def __init__(self, ours: int) -> None:
        super().__init__()
        self.ours = ours


async def read(connection: Connection) -> Definitions:
    """Return all definitions.

    Raises:
        Refused: UNAVAILABLE: the broker does not answer in time.
    """
    found = Definitions()
    bootstrap = Bootstrap(connection, STREAM, [KEYS], is_definition, name="instruments")
    try:
        async with asyncio.timeout(READ_TIMEOUT):
            for message in await bootstrap.read_all():
                fold(found, message)
            if not found.head:  # the first sequence of an empty stream need not be 1
                found.skip_to(bootstrap.reached)
    except TimeoutError as error:
        why = f": {bootstrap.damage}" if bootstrap.damage else ""
        raise Refused(
            Refusal.UNAVAILABLE, f"the definitions could not be read within {READ_TIMEOUT:g} s{why}"
        ) from error
    return found


async def followers(connection: Connection) -> list[str]:
    """Return the names of the services that follow the definitions, by their consumers. A service that has ended is
    listed for up to 10 s more.

    Raises:
        ApiError, TimeoutError: the broker does not answer.
    """
    names = (await api.request(connection, f"CONSUMER.NAMES.{STREAM}", None, _Names)).consumers or []
    return sorted({name.partition(_CONSUMER_INFIX)[0] for name in names if _CONSUMER_INFIX in name})


class _Names(msgspec.Struct):
    """The reply to a request for the names of consumers."""

    consumers: list[str] | None = None


_CONSUMER_INFIX = "-instruments-"
"""Follows the name of the service in the name of its consumer."""


async def define(
    connection: Connection,
    decide: Decide,
    known: Callable[[], Awaitable[Definitions]] | None = None,
    by: str = "",
    since: int | None = None,
) -> list[Change]:
    """Write the changes that `decide` returns. Return the changes that were written.

    Args:
        connection: to the broker.
        decide: returns the changes, given all definitions.
        known: returns all definitions as they are now; without it, they are read from the bucket.
        by: a digest that stands in the log for whoever asked for the change.
        since: a revision; write nothing if others have defined something after it. A feed's prices do not count.

    Raises:
        FieldError, Refused: raised by `decide`; nothing was written.
        FieldError: of `revision`: something was defined after `since`; nothing was written.
        Refused: UNAVAILABLE: the broker forbids it or is away, and nothing was written; OUTCOME_UNKNOWN: something may
            have been written. Calling again does no harm.
    """
    done: list[Change] = []
    try:
        while True:
            definitions = await (known() if known is not None else read(connection))
            if since is not None and definitions.latest_revision > since:
                raise FieldError(
                    "revision",
                    f"is {definitions.latest_revision}: something was defined since {since}; see `market diff`",
                )
            try:
                await _write(connection, definitions, decide(definitions), by, done)
            except _Outdated as outdated:
                if since is not None:
                    since = max(since, outdated.ours)
                continue
            return done
    except (FieldError, Refused) as error:
        if not done:
            raise
        written = ", ".join(change.key for change in done)
        raise Refused(Refusal.OUTCOME_UNKNOWN, f"{written} was defined, and the rest was not: {error}") from error


async def _write(
    connection: Connection, known: Definitions, wanted: Sequence[Change], by: str, done: list[Change]
) -> None:
    """Append changes that were decided on the `known` definitions. Add each that was appended to `done`.

    Raises:
        _Outdated: something else was defined meanwhile, so the changes must be decided again.
        Refused: UNAVAILABLE; OUTCOME_UNKNOWN.
    """
    head, ours = known.head, 0
    reasons: list[str] = []
    for change in sorted(wanted, key=lambda each: (each.key == TERMS) == (known.terms is None)):
        try:
            async with asyncio.timeout(APPEND_TIMEOUT):
                outcome = await journal.append(
                    connection,
                    STREAM,
                    subjects.bucket_key(subjects.INSTRUMENTS_BUCKET, change.key),
                    change.value,
                    msg_id=secrets.token_hex(8),
                    compare=Compare(head),
                    headers={journal.ASKED_BY: by} if by else {},
                    on_unknown=reasons.append,
                )
        except TimeoutError as error:
            why = f": {reasons[-1]}" if reasons else ""
            detail = f"the definition {change.key} is not known to be stored{why}"
            raise Refused(Refusal.OUTCOME_UNKNOWN, detail) from error
        if not isinstance(outcome, Appended):
            raise _Outdated(ours)
        head = ours = outcome.sequence
        done.append(change)
