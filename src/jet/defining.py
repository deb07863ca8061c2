"""Defining what is traded: the one way to write to the bucket `instruments`.

A change is decided on all that is defined, and each of its messages is appended only if nothing was defined since. So
two changes at once never come to something that neither would have been allowed.

The terms come last where there were none: until then nothing is listed, and whoever was interrupted begins anew.
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

DEADLINE = 5.0
"""Seconds that a change may take for each of its messages."""

READ = 30.0
"""Seconds in which all definitions must be read."""

Decide = Callable[[Definitions], Sequence[Change]]
"""What is to be written, given all that is defined; pure, as it may be asked again. Raises FieldError or Refused:
nothing is written then."""


class _Outdated(Exception):  # noqa: N818 # names what happened
    """Something was defined since. `ours` is the sequence of what we have written last, 0 if nothing."""

    def __init__(self, ours: int) -> None:
        super().__init__()
        self.ours = ours


async def read(connection: Connection) -> Definitions:
    """All that is defined.

    Raises:
        Refused: UNAVAILABLE: the broker does not tell in time.
    """
    found = Definitions()
    bootstrap = Bootstrap(connection, STREAM, [KEYS], is_definition, name="instruments")
    try:
        async with asyncio.timeout(READ):
            for message in await bootstrap.everything():
                fold(found, message)
            if not found.head:  # what holds nothing need not begin with 1
                found.skip_to(bootstrap.reached)
    except TimeoutError as error:
        why = f": {bootstrap.damage}" if bootstrap.damage else ""
        raise Refused(Refusal.UNAVAILABLE, f"the definitions could not be read within {READ:g} s{why}") from error
    return found


async def followers(connection: Connection) -> list[str]:
    """Which services follow the definitions, by the names of their consumers. One that has ended is named for up to
    10 s.

    Raises:
        ApiError, TimeoutError: the broker does not tell.
    """
    names = (await api.request(connection, f"CONSUMER.NAMES.{STREAM}", None, _Names)).consumers or []
    return sorted({name.partition(_FOLLOWS)[0] for name in names if _FOLLOWS in name})


class _Names(msgspec.Struct):
    """An answer to a question after consumers."""

    consumers: list[str] | None = None


_FOLLOWS = "-instruments-"
"""What is in the name of a service's consumer, after the name of the service."""


async def define(
    connection: Connection,
    decide: Decide,
    known: Callable[[], Awaitable[Definitions]] | None = None,
    by: str = "",
    since: int | None = None,
) -> list[Change]:
    """Have what `decide` makes of what is defined be written, as `by` wishes. Returns what was changed.

    `known` tells all that is defined when it is asked; without it, it is read. With `since`, nothing is written over
    what others have defined after that revision; prices of a feed are none of that.

    Raises:
        FieldError, Refused: as of `decide`; nothing was written.
        FieldError: of `revision`: something was defined after `since`; nothing was written.
        Refused: UNAVAILABLE: the broker does not let us, or is away, and nothing was written; OUTCOME_UNKNOWN:
            something may be written. Asking again does no harm.
    """
    done: list[Change] = []
    try:
        while True:
            definitions = await (known() if known is not None else read(connection))
            if since is not None and definitions.defined_last > since:
                raise FieldError(
                    "revision", f"is {definitions.defined_last}: something was defined since {since}; see `market diff`"
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
        raise Refused(
            Refusal.OUTCOME_UNKNOWN, f"{written} was defined, and what was to follow was not: {error}"
        ) from error


async def _write(
    connection: Connection, known: Definitions, wanted: Sequence[Change], by: str, done: list[Change]
) -> None:
    """Append changes that were decided on what is known, adding to `done` each that has landed.

    Raises:
        _Outdated: something else was defined meanwhile: what was to be written is to be decided anew.
        Refused: UNAVAILABLE; OUTCOME_UNKNOWN.
    """
    head, ours = known.head, 0
    reasons: list[str] = []
    for change in sorted(wanted, key=lambda each: (each.key == TERMS) == (known.terms is None)):
        try:
            async with asyncio.timeout(DEADLINE):
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
