"""`stack prepare`: create the streams and buckets, or update them to their declarations, before the services start."""

import asyncio
import sys

from msgspec.structs import replace

from jet import definition_log
from jet.api import NO_REPLY, STREAM_NOT_FOUND, ApiError, stream_info
from jet.connection import Connection
from jet.topology import Shape, TopologyRefused, prepare, rewrite_description
from process import logs, tls
from process.health import Health
from process.settings import Market, SettingsError
from stack import keys, revisions
from stack.log_check import find_gap, missing_applied
from stack.programs import REFUSED
from stack.settings import StackSettings, read, streams_in
from wire import subjects
from wire.definitions import Change, Definitions, changes, differing_times, times
from wire.errors import Refused


def main() -> int:
    """Prepare the stack that the environment describes. Return the exit code."""
    logs.configure("prepare", "warning")
    return asyncio.run(run(read()))


async def run(settings: StackSettings) -> int:
    """Wait for the server, then declare everything. Return 0, or print a message and return REFUSED or 1."""
    market = settings.market
    shape = Shape(
        shards=market.shards,
        replicas=market.replicas,
        max_bytes=market.max_bytes,
        duplicate_window=market.id_window,
        reservation_life=market.reservation_life,
    )
    seed, context = keys.seed_of(settings, "operator"), tls.client_context(settings.stack)
    async with Connection(settings.stack.url, "prepare", Health("prepare"), seed, context) as connection:
        try:
            done = await restore_descriptions(connection, settings, shape)
            if missing := await missing_applied(connection, settings):
                print(f"no stream is made: {missing}")
                return REFUSED
            done += await declare(connection, settings, shape)
            if problem := await revisions.older_bucket(connection, settings):
                print(f"nothing can be quoted: {problem}")
                return REFUSED
            done += await set_times(connection, market)
            done += await define_market(connection, market)
            if damage := await find_gap(connection, market.shards):
                print(damage)
                return REFUSED
        except TopologyRefused as refused:
            print(f"the streams cannot be made as declared: {refused}")
            return REFUSED
        except revisions.Unreadable as damaged:
            print(f"the bucket instruments cannot be made, because its revisions follow the market log's: {damaged}")
            return REFUSED
        except TimeoutError:
            print("JetStream did not answer in time")
            return 1
        except ApiError as error:
            print(f"JetStream cannot answer yet: {error}")
            return 1
        except NO_REPLY as error:
            print(f"the connection to NATS was lost: {error}")
            return 1
        except Refused as refused:
            print(f"the market cannot be defined yet: {refused.detail}")
            return 1
    print("\n".join(done) or "every stream is as declared")
    return 0


async def declare(connection: Connection, settings: StackSettings, shape: Shape) -> list[str]:
    """Declare every stream. Return lines that describe what was done.

    The bucket `instruments` comes last: its revisions continue from those that the market log names.

    Raises:
        TopologyRefused, TimeoutError: as for `prepare`.
        Unreadable, Refused, ApiError: as for `revisions.first_sequence`.
    """
    others = [name for name in subjects.streams(shape.shards) if name != revisions.STREAM]
    done = await prepare(connection, shape, others)
    first = await revisions.first_sequence(connection, settings)
    return done + await prepare(connection, shape, [revisions.STREAM], first_sequence=first)


async def set_times(connection: Connection, market: Market) -> list[str]:
    """Set the defined times to those of the settings; all services that start later use them. Return lines that
    describe what was done.

    Raises:
        TopologyRefused: services run, and use the times that are defined now.
        Refused: UNAVAILABLE or OUTCOME_UNKNOWN.
    """
    known = await definition_log.read(connection)
    differs = differing_times(market.terms, known.terms) if known.terms is not None else []
    if not differs:
        return []
    if running := await definition_log.followers(connection):
        raise TopologyRefused(
            f"{'; '.join(differs)}, as is defined, and {', '.join(running)} runs: stop every service, then start again"
        )
    if known.terms is not None and known.terms.quote_ttl > market.max_quote_ttl:
        defined = f"quote_ttl is defined as {known.terms.quote_ttl:g}"
        raise TopologyRefused(f"max_quote_ttl is {market.max_quote_ttl:g}, and {defined}: lower that first")
    fixed = times(market.terms)

    def change(known: Definitions) -> list[Change]:
        return changes(known, replace(known.terms, **fixed) if known.terms is not None else None, {}, stopped=True)

    await definition_log.define(connection, change)
    return [f"defined: {each}" for each in differs]


async def define_market(connection: Connection, market: Market) -> list[str]:
    """Define the market from the settings, if nothing is defined yet. Return lines that describe what was done.

    Raises:
        TopologyRefused: the market was defined for another number of shards.
        Refused: UNAVAILABLE or OUTCOME_UNKNOWN: the market may be defined only in part; the next call completes it.
    """
    known = await definition_log.read(connection)
    if known.terms is None:
        done = await definition_log.define(connection, lambda known: changes(known, market.terms, market.symbols))
        return [f"defined: {len(done)} keys of the bucket instruments"]
    if known.terms.shards != market.shards:
        raise TopologyRefused(f"the market was defined for {known.terms.shards} shards, which is fixed")
    return []


async def restore_descriptions(connection: Connection, settings: StackSettings, shape: Shape) -> list[str]:
    """Declare again the streams that a single server stores, but does not serve because their descriptions are damaged.

    The server then finds their messages in its folders. Return lines that describe what was done.

    Raises:
        TopologyRefused, TimeoutError: as for `prepare`.
        ApiError: the broker refuses the request.
    """
    if len(settings.nats_servers) != 1:
        return []
    found = []
    for name in subjects.streams(shape.shards):  # no user may query other streams, such as those of more shards
        if not (streams_in(settings.data) / name / "msgs").is_dir():
            continue
        try:
            await stream_info(connection, name)
        except ApiError as error:
            if error.err_code != STREAM_NOT_FOUND:
                raise
            if await prepare(connection, shape, [name]):
                await rewrite_description(connection, name)
                found.append(f"stream {name}: its description was damaged, and is replaced; its messages are kept")
    return found


if __name__ == "__main__":
    try:
        sys.exit(main())
    except SettingsError as error:
        sys.exit(str(error))
