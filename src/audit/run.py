"""Runs one audit: opens the sources, replays the market log, and collects the verdicts."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import msgspec

from audit import hash_chain
from audit.check import Check, verdicts
from audit.client_history import ClientHistory
from audit.completeness import Completeness
from audit.conservation import Tally
from audit.epochs import END, InForce, PerEpoch, in_force
from audit.executions import OncePerOrder, OnTheActiveQuote, WithinQuantity
from audit.findings import Findings
from audit.hash_chain import Chain, Seal
from audit.ledger_database import LedgerDatabase, LedgerUnreadable
from audit.limit import WithinLimit
from audit.money import ExactMoney
from audit.positions import AfterItsFills, Publications, SignedSum, read_publications
from audit.proposals import SameProposal
from audit.quotes import OneActive, OnlyNewer
from audit.recording import Recorded
from audit.report import Report
from audit.reservations import Reserved
from jet.connection import Connection
from loadgen.history import read as read_history
from process.settings import Market
from recorded import market_log, service_logs, streams
from recorded.market_log import MarketLog
from recorded.proposer import Proposer
from recorded.replay import Replay
from recorded.reservations import Grant, Reservations
from recorded.revisions import Revisions
from recorded.streams import CannotRead
from stack.record import Epoch
from wire import subjects


@dataclass(frozen=True, slots=True)
class Sources:
    """The sources of an audit, besides the broker.

    Attributes:
        where: the name of the broker, for people.
        market: the present settings.
        logs: the folder of the services' log files.
        databases: the ledgers' databases; all must exist.
        histories: the load generator's history files.
        recorded: the record of the settings in force.
        seals: the seals to compare the market log with; None for no comparison.
    """

    where: str
    market: Market
    logs: Path
    databases: Sequence[Path]
    histories: Sequence[Path]
    recorded: Sequence[Epoch] = ()
    seals: Sequence[Seal] | None = None


Watch = Callable[[str, Replay | None, int], None]
"""Called now and then with the present activity, the replay if it has begun, and the number of messages to replay."""


async def audit(connection: Connection, sources: Sources, watch: Watch) -> Report:
    """Audit a system, running or not.

    Raises:
        CannotRead: something that is needed is missing or cannot be read.
    """
    with ExitStack() as exits:
        # In this order, so that the market log, which is last, contains everything that the others refer to.
        history = exits.enter_context(_history(sources.histories, watch)) if sources.histories else None
        ledgers = [exits.enter_context(_open(path)) for path in sources.databases]
        watch("reading reservations and positions", None, 0)
        shards = await market_log.shard_count(connection)
        reservations = await streams.reservations(connection)
        publications = await read_publications(connection)
        granted = service_logs.grants(sources.logs)
        horizon = await market_log.horizon(connection, shards, _applied(ledgers))
        revisions = await streams.revisions(connection)  # after the horizon, because the log refers to them

        completeness, tally = Completeness(), Tally()
        checks = _checks(
            in_force(sources.recorded, sources.market),
            completeness,
            ledgers,
            history,
            reservations,
            granted,
            publications,
            revisions,
        )
        replay = Replay([*checks, tally], shards)
        broken = Findings()
        chains = {shard: Chain(subjects.market_stream(shard), sources.seals or (), broken) for shard in range(shards)}
        log = MarketLog(connection, horizon, {shard: chain.take for shard, chain in chains.items()})
        async for batch in log.batches():
            for place, payload in batch:
                completeness.arrived(place)
                replay.feed(place, payload)
            watch("replaying the market log", replay, horizon.messages)
        _check_ends(completeness, log, horizon, ledgers)
        watch("comparing", replay, horizon.messages)
        for chain in chains.values():
            chain.ended()
        found = verdicts(checks, replay, horizon.time)
        return Report(
            audited=sources.where,
            as_of=horizon.time,
            streams={subjects.market_stream(shard): last for shard, last in horizon.last.items()},
            ledgers={str(ledger.path): _by_stream(ledger.applied) for ledger in ledgers},
            histories=[str(path) for path in sources.histories],
            remarks=[*horizon.lost, *_clock_remarks(log.went_back)],
            verdicts=[*found, hash_chain.verdict(list(chains.values()), sources.seals, broken)],
            totals=tally.totals(replay),
        )


def _checks(
    epochs: Sequence[InForce],
    completeness: Completeness,
    ledgers: Sequence[LedgerDatabase],
    history: ClientHistory | None,
    reservations: Reservations,
    granted: dict[str, Grant],
    publications: Publications,
    revisions: Revisions,
) -> list[Check]:
    """Return all checks, in the order of their verdicts.

    A check for which a setting is only a tolerance uses the most generous value that was ever in force.
    """
    lifetime = timedelta(seconds=max(epoch.market.max_quote_ttl for epoch in epochs))
    grace = timedelta(seconds=max(epoch.market.grace for epoch in epochs))
    window = timedelta(seconds=min(epoch.market.id_window for epoch in epochs))
    known_from = next((epoch.since for epoch in epochs if epoch.counts < epoch.until), END)

    def limit(market: Market) -> Check:
        return WithinLimit(market.limit, timedelta(seconds=market.grace), revisions)

    def proposal(market: Market) -> Check:
        return SameProposal(Proposer(market.listings, revisions))

    return [
        completeness,
        OneActive(),
        PerEpoch(epochs, limit, remembers=True),
        Reserved(lifetime, grace, reservations, granted, known_from, revisions),
        OnTheActiveQuote(grace),
        WithinQuantity(),
        OncePerOrder(window),
        Recorded(ledgers, history),
        SignedSum(publications, ledgers),
        AfterItsFills(publications),
        OnlyNewer(),
        PerEpoch(epochs, proposal, remembers=False),
        ExactMoney(publications, ledgers),
    ]


def _check_ends(
    completeness: Completeness, log: MarketLog, horizon: market_log.Horizon, ledgers: Sequence[LedgerDatabase]
) -> None:
    for stream, last in log.ended.items():
        completeness.ended(stream, last)
    for shard, last in horizon.last.items():
        stream = subjects.market_stream(shard)
        for ledger in ledgers:
            completeness.applied(stream, last, ledger.applied.get(shard, 0), ledger.name)


def _applied(ledgers: Sequence[LedgerDatabase]) -> dict[int, int]:
    """Return the last sequence of each shard that any ledger has applied."""
    shards = {shard for ledger in ledgers for shard in ledger.applied}
    return {shard: max(ledger.applied.get(shard, 0) for ledger in ledgers) for shard in shards}


def _history(paths: Sequence[Path], watch: Watch) -> ClientHistory:
    history = ClientHistory()
    for path in paths:
        watch(f"reading {path}", None, 0)
        try:
            history.add_file(path.name, read_history(path))
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise CannotRead(f"the history {path} cannot be read: {error}") from error
    return history


def _open(path: Path) -> LedgerDatabase:
    try:
        return LedgerDatabase(path)
    except LedgerUnreadable as error:
        raise CannotRead(str(error)) from error


def _by_stream(applied: Mapping[int, int]) -> dict[str, int]:
    return {subjects.market_stream(shard): sequence for shard, sequence in sorted(applied.items())}


def _clock_remarks(went_back: timedelta) -> list[str]:
    if not went_back:
        return []
    seconds = went_back.total_seconds()
    uncertain = "the verdicts on I2 and I9 are uncertain about messages of different streams around then"
    return [f"the broker's clock was set back by up to {seconds:g} s while the log was written: {uncertain}"]


async def make_seal(connection: Connection) -> Seal:
    """Make a seal of the present market log.

    Raises:
        CannotRead: the log cannot be read, or its hash chain is broken.
    """
    shards = await market_log.shard_count(connection)
    until = await market_log.horizon(connection, shards)
    found = Findings()
    chains = [Chain(subjects.market_stream(shard), (), found) for shard in range(shards)]
    for shard, chain in enumerate(chains):
        async for message in streams.messages(connection, subjects.market_stream(shard), until.last[shard]):
            chain.take(message)
    if found.count:
        first = found.kept[0]
        raise CannotRead(f"nothing is sealed: {first.source} #{first.sequence}: {first.detail}")
    return Seal(
        until.time, {subjects.market_stream(shard): (each.sequence, each.sum) for shard, each in enumerate(chains)}
    )
