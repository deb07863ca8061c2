"""Draws the faults of a run, and their times, from a seed. Pure.

Faults come in *episodes*: a single fault, several that overlap, or faults of all processes at once. After an episode
the system rests, mostly for long enough to recover. Faults are dealt from shuffled decks, so that a run meets every
kind on every target before it repeats one.

Ordering rules:
- Faults are sorted by their beginnings, and each ends within the duration.
- A target has one fault at a time. An outage, damage, a full disk and a lost store have the whole system to themselves,
  and so have all faults of a cluster of NATS servers.
"""

import math
import random
from collections.abc import Iterator, Sequence
from typing import Literal, TypeVar, get_args

import msgspec

Kind = Literal[
    "kill",
    "pause",
    "restart",
    "outage",
    "disk-full",
    "stall",
    "slow",
    "cut",
    "clock",
    "damage",
    "attacker",
    "leader-kill",
    "leader-pause",
    "cluster-kill",
    "store-lost",
    "partition",
]
"""kill: SIGKILL. pause: SIGSTOP, and SIGCONT later. restart: SIGTERM. outage: an orderly stop and start of everything.
disk-full: nothing can be written to the data folder. damage: an outage during which a bit of a ledger's database is
flipped, or the file truncated; in a cluster, also a file of the market log on a NATS server. attacker: an attacker does
the worst that readers' keys allow, all the time, so it is in no schedule (`chaos.attacker`).

Faults of the network between one service and the NATS servers: stall: nothing arrives. slow: everything is delayed.
cut: all connections end. Another fault of one service is clock: its clock is wrong, and then right again.

Faults of a cluster of NATS servers: leader-kill and leader-pause: a kill or pause of the server that leads a stream at
that moment. cluster-kill: SIGKILL of all servers at once. store-lost: a server is killed and loses its whole store.
partition: a server is cut off from the other servers, but not from its clients.

A new kind joins `DEFAULT_KINDS`, so it changes, for every seed, the schedule of a run that names no kinds."""

KINDS: tuple[Kind, ...] = get_args(Kind)

DEFAULT_KINDS: tuple[Kind, ...] = tuple(kind for kind in KINDS if kind != "clock")
"""The kinds of a run that names none. To repeat the schedule of a run from before a kind was added, name the kinds that
there were, with `--only`. Clocks are excluded because libfaketime makes reading the time slow."""

CLUSTER_KINDS: tuple[Kind, ...] = ("leader-kill", "leader-pause", "cluster-kill", "store-lost", "partition")

_NOT_SINGLE: tuple[Kind, ...] = ("outage", "disk-full", "damage", "attacker", *CLUSTER_KINDS)
"""The kinds that are not faults of a single process."""

DAMAGES = ("flip", "cut")
"""How files are damaged: one bit is flipped, or the file is truncated."""

EVERYTHING = "everything"
"""The target of an outage and of a full disk."""

QUIET = 2.0
"""Seconds before the first fault."""

NETWORK_KINDS: tuple[Kind, ...] = ("stall", "slow", "cut")

OF_SERVICES: tuple[Kind, ...] = (*NETWORK_KINDS, "clock")
"""The kinds that are injected into services, but not into NATS servers."""

WAYS = ("to-server", "to-client", "both")

SHORTEST_PAUSE = 1.0
LONGEST_PAUSE = 40.0

_OUTAGE = (6.0, 10.0)
_DISK_FULL = (4.0, 8.0)
_DELAY = (0.05, 0.5)
_STEP = (0.1, 300.0)
_LARGE: tuple[Kind, ...] = ("damage", "cluster-kill", "store-lost", "partition")

SHORTEST_PARTITION = 3.0
"""Seconds. The servers notice a partition after 4 to 6 s, so some of the partitions end before that."""

_SHORT_REST = (0.1, 1.5)
_REST = (2.5, 6.0)
_LONG_REST = (8.0, 12.0)

Shape = Literal["single", "several", "all-killed", "outage", "disk-full", "damage", "cluster"]

T = TypeVar("T")


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """One fault. Times are seconds since the start of the schedule.

    Attributes:
        at: when it begins.
        kind: the kind of fault.
        target: the process that it is injected into, or `EVERYTHING`; for a leader's fault, the stream.
        seconds: how long it lasts; 0 for an instantaneous fault.
        way: for a fault of the network, its direction, or `both`; for damage, one of `DAMAGES`.
        amount: for a stall, the bytes that still pass before it; for a slow network, the delay in seconds; for a clock,
            the seconds that it is ahead; for damage, its place among all bytes, from 0 to below 1.
    """

    at: float
    kind: Kind
    target: str
    seconds: float = 0.0
    way: str = ""
    amount: float = 0.0

    @property
    def ends(self) -> float:
        """When it ends."""
        return self.at + self.seconds


def schedule(
    seed: int,
    duration: float,
    targets: Sequence[str],
    kinds: Sequence[Kind] = ("kill", "pause", "restart", "outage"),
    streams: Sequence[str] = (),
) -> list[Fault]:
    """Draw the faults of a run.

    Args:
        seed: the same seed and arguments give the same faults.
        duration: seconds within which all faults end.
        targets: the processes to choose from.
        kinds: the kinds of faults to choose from.
        streams: the streams of a cluster of NATS servers, into whose leaders faults are injected; empty without a
            cluster.
    """
    draw = random.Random(f"chaos-{seed}")
    episodes = _episodes(draw, duration, targets, kinds, streams)
    found: list[Fault] = []
    at = QUIET
    while episode := next(episodes, None):
        begun = [msgspec.structs.replace(fault, at=round(at + fault.at, 2)) for fault in episode]
        end = max(fault.ends for fault in begun)
        if end > duration:
            break
        found += begun
        is_large = any(fault.target == EVERYTHING or fault.kind in _LARGE for fault in begun)
        rest = _LONG_REST if is_large else _REST
        at = end + draw.uniform(*(_SHORT_REST if draw.random() < 0.25 else rest))
    return sorted(found, key=lambda fault: (fault.at, fault.target))


def _episodes(
    draw: random.Random, duration: float, targets: Sequence[str], kinds: Sequence[Kind], streams: Sequence[str]
) -> Iterator[list[Fault]]:
    """Yield episodes without end, each beginning at 0."""
    singles: list[tuple[Kind, str]] = [
        (kind, target)
        for kind in kinds
        for target in targets
        if kind not in _NOT_SINGLE and not (kind in OF_SERVICES and target.startswith("nats"))
    ]
    shapes: list[Shape] = []
    single_targets = {target for _, target in singles}
    if singles:
        shapes += ["single"] * 6
        shapes += ["several"] * 3 if len(single_targets) > 1 else []
        shapes += ["all-killed"] if "kill" in kinds else []
    if "outage" in kinds:
        shapes += ["outage"]
    if "disk-full" in kinds:
        shapes += ["disk-full"]
    servers = [target for target in targets if target.startswith("nats-")]
    stores = [target for target in targets if target.partition("-")[0] == "ledger"] + (servers if streams else [])
    if "damage" in kinds and stores:
        shapes += ["damage"]
    of_cluster = [kind for kind in CLUSTER_KINDS if kind in kinds and streams and servers]
    shapes += ["cluster"] * len(of_cluster)
    if not shapes:
        return
    shape_deck = _deck(draw, shapes)
    single_deck = _deck(draw, singles)
    cluster_deck = _deck(draw, of_cluster)
    stream_deck, server_deck, store_deck = _deck(draw, streams), _deck(draw, servers), _deck(draw, stores)
    longest = min(LONGEST_PAUSE, max(2 * SHORTEST_PAUSE, duration / 6))
    for shape in shape_deck:
        match shape:
            case "single":
                yield [_single(draw, *next(single_deck), longest)]
            case "several":
                yield _several(draw, single_deck, draw.randint(2, min(3, len(single_targets))), longest)
            case "all-killed":
                yield [Fault(at=0, kind="kill", target=target) for target in targets]
            case "outage":
                yield [Fault(at=0, kind="outage", target=EVERYTHING, seconds=_uniform(draw, *_OUTAGE))]
            case "disk-full":
                yield [Fault(at=0, kind="disk-full", target=EVERYTHING, seconds=_uniform(draw, *_DISK_FULL))]
            case "damage":
                seconds, amount, way = _uniform(draw, *_OUTAGE), draw.random(), draw.choice(DAMAGES)
                yield [Fault(at=0, kind="damage", target=next(store_deck), seconds=seconds, way=way, amount=amount)]
            case "cluster":
                match next(cluster_deck):
                    case "leader-kill":
                        yield [Fault(at=0, kind="leader-kill", target=next(stream_deck))]
                    case "leader-pause":
                        seconds = _log_uniform(draw, SHORTEST_PAUSE, longest)
                        yield [Fault(at=0, kind="leader-pause", target=next(stream_deck), seconds=seconds)]
                    case "partition":
                        seconds = _log_uniform(draw, min(SHORTEST_PARTITION, longest), longest)
                        yield [Fault(at=0, kind="partition", target=next(server_deck), seconds=seconds)]
                    case "store-lost":
                        yield [Fault(at=0, kind="store-lost", target=next(server_deck))]
                    case _:
                        yield [Fault(at=0, kind="cluster-kill", target=server) for server in servers]


def _single(draw: random.Random, kind: Kind, target: str, longest: float, at: float = 0.0) -> Fault:
    """Draw the details of a fault of one process."""
    seconds = _log_uniform(draw, SHORTEST_PAUSE, longest) if kind in ("pause", "stall", "slow", "clock") else 0.0
    way, amount = "", 0.0
    match kind:
        case "stall":
            way, amount = draw.choice(WAYS), float(draw.choice((0, draw.randrange(10), draw.randrange(5000))))
        case "slow":
            way, amount = draw.choice(WAYS), _uniform(draw, *_DELAY)
        case "clock":
            amount = draw.choice((-1, 1)) * _log_uniform(draw, *_STEP)
        case _:
            pass
    return Fault(at=at, kind=kind, target=target, seconds=seconds, way=way, amount=amount)


def _several(draw: random.Random, singles: Iterator[tuple[Kind, str]], count: int, longest: float) -> list[Fault]:
    """Draw faults of different processes, the later ones during the first or shortly after it."""
    first = _single(draw, *next(singles), longest)
    found = [first]
    while len(found) < count:
        kind, target = next(singles)
        if all(target != fault.target for fault in found):
            at = _uniform(draw, 0.0, max(first.seconds, 1.5))
            found.append(_single(draw, kind, target, longest, at))
    return found


def _deck(draw: random.Random, cards: Sequence[T]) -> Iterator[T]:
    """Yield all cards in a random order, then all again in another order, and so on."""
    while cards:
        yield from draw.sample(cards, len(cards))


def _log_uniform(draw: random.Random, shortest: float, longest: float) -> float:
    """Draw a duration, uniformly on a logarithmic scale."""
    return round(math.exp(draw.uniform(math.log(shortest), math.log(longest))), 2)


def _uniform(draw: random.Random, least: float, most: float) -> float:
    return round(draw.uniform(least, most), 2)
