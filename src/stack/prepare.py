"""`stack prepare`: make the streams and buckets what they are declared to be, once, before the services need them."""

import asyncio
import sys

from msgspec.structs import replace

from jet import definition_log
from jet.api import NO_REPLY, STREAM_NOT_FOUND, ApiError, stream_info
from jet.connection import Connection
from jet.topology import Shape, TopologyRefused, describe, prepare
from process import logs, tls
from process.health import Health
from process.settings import Market, SettingsError
from stack import keys, revisions
from stack.log_check import find_gap, missing_applied
from stack.programs import REFUSED
from stack.settings import StackSettings, read, streams_in
from wire import subjects
from wire.definitions import TIMES, Change, Definitions, changes, differing_times
from wire.errors import Refused


def main() -> int:
    """Do it for the stack of the environment. Returns the exit code."""
    logs.configure("prepare", "warning")
    return asyncio.run(run(read()))


async def run(settings: StackSettings) -> int:
    """Wait for the server, then declare everything. Returns 0, or REFUSED or 1 with a message."""
    market = settings.market
    shape = Shape(
        shards=market.shards,
        replicas=market.replicas,
        max_bytes=market.max_bytes,
        duplicate_window=market.id_window,
        reservation_life=market.reservation_life,
    )
    seed, asking = keys.seed_of(settings, "operator"), tls.client_context(settings.stack)
    async with Connection(settings.stack.url, "prepare", Health("prepare"), seed, asking) as connection:
        try:
            done = await restore_descriptions(connection, settings, shape)
            gone = await missing_applied(connection, settings)
            if gone:
                print(f"no stream is made: {gone}")
                return REFUSED
            done += await declare(connection, settings, shape)
            if older := await revisions.older_bucket(connection, settings):
                print(f"nothing can be quoted: {older}")
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
            print(f"the bucket instruments cannot be made, since its revisions follow the market log's: {damaged}")
            return REFUSED
        except TimeoutError:
            print("JetStream did not answer in time")
            return 1
        except ApiError as error:
            print(f"JetStream cannot tell yet: {error}")
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
    """Declare every stream, the bucket `instruments` last: it goes on from what the market log names. Returns what was
    done, for people.

    Raises:
        TopologyRefused, TimeoutError: as `prepare`.
        Unreadable, Refused, ApiError: as `revisions.first_sequence`.
    """
    others = [name for name in subjects.streams(shape.shards) if name != revisions.STREAM]
    done = await prepare(connection, shape, others)
    first = await revisions.first_sequence(connection, settings)
    return done + await prepare(connection, shape, [revisions.STREAM], first_sequence=first)


async def set_times(connection: Connection, market: Market) -> list[str]:
    """Have the terms name the times of the settings, by which all services work that start from now on. Returns what
    was done, for people.

    Raises:
        TopologyRefused: services run, which work by the times that are defined.
        Refused: UNAVAILABLE or OUTCOME_UNKNOWN.
    """
    known = await definition_log.read(connection)
    differs = differing_times(market.terms, known.terms) if known.terms is not None else []
    if not differs:
        return []
    if running := await definition_log.followers(connection):
        raise TopologyRefused(
            f"{'; '.join(differs)}, as is defined, and {', '.join(running)} runs: stop every service, and start again"
        )
    times = {name: getattr(market.terms, name) for name in TIMES}

    def change(known: Definitions) -> list[Change]:
        return changes(known, replace(known.terms, **times) if known.terms is not None else None, {}, stopped=True)

    await definition_log.define(connection, change)
    return [f"defined: {each}" for each in differs]


async def define_market(connection: Connection, market: Market) -> list[str]:
    """Define the market as the settings have it, if nothing is defined. Returns what was done, for people.

    Raises:
        TopologyRefused: what is defined is for another number of shards.
        Refused: UNAVAILABLE or OUTCOME_UNKNOWN: it is not, or not wholly; starting again goes on.
    """
    known = await definition_log.read(connection)
    if known.terms is None:
        done = await definition_log.define(connection, lambda known: changes(known, market.terms, market.symbols))
        return [f"defined: {len(done)} keys of the bucket instruments"]
    if known.terms.shards != market.shards:
        raise TopologyRefused(f"the market was defined for {known.terms.shards} shards, which is fixed")
    return []


async def restore_descriptions(connection: Connection, settings: StackSettings, shape: Shape) -> list[str]:
    """Declare the streams that our server, alone, has stored, and does not serve as their descriptions are damaged.

    It finds their messages in the folders. Returns what was done, for people.

    Raises:
        TopologyRefused, TimeoutError: as `prepare`.
        ApiError: the broker refuses to tell.
    """
    if len(settings.nats_servers) != 1:
        return []
    found = []
    for name in subjects.streams(shape.shards):  # of others, as of a log of more shards, nobody may ask
        if not (streams_in(settings.data) / name / "msgs").is_dir():
            continue
        try:
            await stream_info(connection, name)
        except ApiError as error:
            if error.err_code != STREAM_NOT_FOUND:
                raise
            if await prepare(connection, shape, [name]):
                await describe(connection, name)
                found.append(f"stream {name}: its description was damaged, and is made anew; its messages are kept")
    return found


if __name__ == "__main__":
    try:
        sys.exit(main())
    except SettingsError as error:
        sys.exit(str(error))
