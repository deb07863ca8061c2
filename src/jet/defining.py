"""Defining what is traded: the one way to write to the bucket `instruments`.

A change is decided on all that is defined, and each of its messages is appended only if nothing was defined since. So
two changes at once never come to something that neither would have been allowed.

The terms come last where there were none: until then nothing is listed, and whoever was interrupted begins anew.
"""

import asyncio
import secrets
from collections.abc import Mapping, Sequence
from contextlib import aclosing

from jet import journal
from jet.connection import Connection
from jet.journal import Appended, Compare
from jet.listings import KEYS, STREAM, fold, is_definition
from jet.opening import Opening
from wire import subjects
from wire.definitions import TERMS, Change, Definitions, Terms, changes
from wire.errors import Refusal, Refused
from wire.instruments import Instrument

DEADLINE = 5.0
"""Seconds that a change may take for each of its messages."""


class Outdated(Exception):  # noqa: N818 # names what happened
    """Something was defined since: what was to be written is to be decided anew. What was written already stands."""


async def read(connection: Connection) -> Definitions:
    """All that is defined. It waits for as long as the broker is away."""
    found = Definitions()
    opening = Opening(connection, STREAM, [KEYS], is_definition, name="instruments")
    async with aclosing(opening.batches()) as batches:  # type: ignore[type-var] # it is a generator
        async for batch in batches:
            for message in batch:
                fold(found, message)
            if opening.current:
                break
    return found


async def define(
    connection: Connection, terms: Terms | None, instruments: Mapping[str, Instrument], by: str = ""
) -> list[Change]:
    """Have the terms and these instruments be as given, as `by` wishes; without terms, those that there are stay.
    Returns what was changed.

    Raises:
        FieldError: they do not go together, or cannot follow on what is defined.
        Refused: UNAVAILABLE: nothing is defined yet that they could follow on, or the broker does not let us;
            OUTCOME_UNKNOWN: asking again does no harm.
    """
    done: list[Change] = []
    while True:
        known = await read(connection)
        agreed = terms or known.terms
        if agreed is None:
            raise Refused(Refusal.UNAVAILABLE, "nothing is defined yet: the stack defines it when it starts")
        wanted = changes(known, agreed, instruments)
        try:
            await write(connection, known, wanted, by, done)
        except Outdated:
            continue
        return done


async def write(
    connection: Connection, known: Definitions, wanted: Sequence[Change], by: str, done: list[Change]
) -> None:
    """Append changes that were decided on what is known, adding to `done` each that has landed.

    Raises:
        Outdated: something else was defined meanwhile.
        Refused: UNAVAILABLE; OUTCOME_UNKNOWN.
    """
    head = known.head
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
                )
        except TimeoutError as error:
            raise Refused(Refusal.OUTCOME_UNKNOWN, f"the definition {change.key} is not known to be stored") from error
        if not isinstance(outcome, Appended):
            raise Outdated
        head = outcome.sequence
        done.append(change)
