"""Every stream and bucket, declared in one place, and made so on the broker.

Declaring again is harmless. A declaration that differs from what is there is applied where the broker can change it,
and refused with both values where it cannot or must not: nothing is ignored.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import structlog
from nats import errors as nats_errors

from jet import api
from jet.connection import Connection
from wire import subjects
from wire.definitions import KEPT

_SECOND = 1_000_000_000
_SHARDS = "quotestream.shards"

FORMING = 20.0
"""Seconds for which a cluster may find no place for a stream: its servers are still getting to know each other."""

SPARE_AGE = 60.0
"""Seconds that exposure's log keeps a message beyond twice the time for which it counts."""

IDLE = 60.0
"""Seconds for which a consumer that nobody uses is kept, whoever made it: so none has to be taken away by a person."""

CHANGES_KEPT = 64
"""How many messages of the kill switch are kept: one that is no change of it does not hide the change before."""

_NEVER = (api.INSUFFICIENT_STORAGE, api.REPLICAS_WITHOUT_CLUSTER)

T = TypeVar("T")

log = structlog.get_logger()


class TopologyRefused(Exception):  # noqa: N818 # names what happened
    """A stream is there with a configuration that cannot become the declared one."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What the declarations depend on.

    Attributes:
        shards: streams of the market log; fixed when they are created, because symbols would move.
        replicas: copies of every stream and bucket.
        max_bytes: the largest size of one shard, in bytes.
        duplicate_window: seconds a deduplication id is remembered.
        reservation_life: seconds after which no reservation counts any more: the quote's lifetime and the grace.
    """

    shards: int
    replicas: int
    max_bytes: int
    duplicate_window: float
    reservation_life: float


def declarations(shape: Shape) -> list[dict[str, Any]]:
    """Every stream, as JetStream configurations."""
    return [
        *(_market(shape, shard) for shard in range(shape.shards)),
        _positions(shape),
        _exposure(shape),
        _bucket(shape, subjects.RESERVATIONS_BUCKET, **_projected(shape)),
        _bucket(shape, subjects.QUOTES_BUCKET, **_projected(shape)),
        _bucket(shape, subjects.SWITCHES_BUCKET, max_msgs_per_subject=CHANGES_KEPT),
        _instruments(shape),
    ]


def _stream(shape: Shape, name: str, subject_list: list[str], **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "subjects": subject_list,
        "storage": "file",
        "retention": "limits",
        "num_replicas": shape.replicas,
        "allow_direct": True,
        "duplicate_window": int(shape.duplicate_window * _SECOND),
        "consumer_limits": {"inactive_threshold": int(IDLE * _SECOND)},
        **more,
    }


def _market(shape: Shape, shard: int) -> dict[str, Any]:
    """The market log: complete, append-only, and refusing appends when it is full rather than losing the oldest."""
    return _stream(
        shape,
        subjects.market_stream(shard),
        [subjects.quotes(shard, "*"), subjects.fills(shard, "*")],
        description="Market log: quote events and fills",
        discard="new",
        max_bytes=shape.max_bytes,
        deny_delete=True,
        deny_purge=True,
        metadata={_SHARDS: str(shape.shards)},
    )


def _positions(shape: Shape) -> dict[str, Any]:
    return _stream(
        shape,
        subjects.POSITIONS_STREAM,
        [subjects.POSITIONS],
        description="Committed position updates: a projection of the ledger",
        discard="old",
        max_msgs_per_subject=1000,
        max_bytes=1_073_741_824,
    )


def _exposure(shape: Shape) -> dict[str, Any]:
    """Exposure's log, which forgets what no longer counts, and refuses appends when it is full."""
    kept = max(2 * shape.reservation_life + SPARE_AGE, shape.duplicate_window)
    return _stream(
        shape,
        subjects.EXPOSURE_STREAM,
        [subjects.DECISIONS],
        description="Exposure's log: what was granted, activated and released",
        discard="new",
        max_age=int(kept * _SECOND),
        max_bytes=536_870_912,
        deny_delete=True,
    )


def _projected(shape: Shape) -> dict[str, Any]:
    """What is only for watchers is not synced: whoever projects it writes again what a server has lost.

    A replicated stream cannot be so.
    """
    return {"persist_mode": "async"} if shape.replicas == 1 else {}


def _bucket(shape: Shape, bucket: str, **more: Any) -> dict[str, Any]:
    """A key-value bucket of newest values, each with a TTL of its own whose end leaves a marker."""
    return _stream(
        shape,
        subjects.bucket_stream(bucket),
        [subjects.bucket_key(bucket, ">")],
        description=f"Bucket {bucket}",
        **{
            "discard": "new",
            "max_msgs_per_subject": 1,
            "max_bytes": 67_108_864,
            "allow_rollup_hdrs": True,
            "deny_delete": True,
            "allow_msg_ttl": True,
            "subject_delete_marker_ttl": 60 * _SECOND,
            **more,
        },
    )


def _instruments(shape: Shape) -> dict[str, Any]:
    """The bucket of definitions, which keeps the last of each key, so that quotes can be judged by their own."""
    return _stream(
        shape,
        subjects.bucket_stream(subjects.INSTRUMENTS_BUCKET),
        [subjects.bucket_key(subjects.INSTRUMENTS_BUCKET, ">")],
        description="Bucket instruments: what is traded, and its revisions",
        discard="new",
        max_msgs_per_subject=KEPT,
        max_bytes=1_073_741_824,
        deny_delete=True,
        deny_purge=True,
    )


async def prepare(
    connection: Connection,
    shape: Shape,
    only: Collection[str] | None = None,
    *,
    first_sequence: int = 1,
    timeout: float = 30.0,
) -> list[str]:
    """Make every declaration so, waiting up to `timeout` seconds for JetStream. Returns what was changed, for people.

    `only`: names of the streams to do that with; without it, all. `first_sequence`: of the first message of a stream
    that is not there yet.

    Raises:
        TopologyRefused: a stream is there and cannot become what is declared, or there is no place for it.
        TimeoutError: JetStream did not answer in time.
    """
    changes: list[str] = []
    forming_until = asyncio.get_running_loop().time() + FORMING
    async with asyncio.timeout(timeout):
        for declared in declarations(shape):
            name = declared["name"]
            if only is not None and name not in only:
                continue
            try:
                change = await _patiently(name, forming_until, partial(_declare, connection, declared, first_sequence))
            except TopologyRefused as refused:
                raise TopologyRefused(f"{refused}{_room_needed(shape, refused.__cause__)}") from refused.__cause__
            if change:
                changes.append(change)
        beyond = subjects.market_stream(shape.shards)
        if await _patiently(beyond, forming_until, partial(_exists, connection, beyond)):
            # Symbols live there, where nobody would look.
            raise TopologyRefused(
                f"stream {beyond} exists: the market log was made with more than {shape.shards} shards"
            )
    return changes


def _room_needed(shape: Shape, error: BaseException | None) -> str:
    """What to change if there is no room for all streams; empty if it is something else."""
    if not isinstance(error, api.ApiError) or error.err_code != api.INSUFFICIENT_STORAGE:
        return ""
    needed = sum(declared["max_bytes"] for declared in declarations(shape))
    return (
        f": all streams together may take {needed / 1e9:.1f} GB, of which each of the {shape.shards} shards takes "
        f"{shape.max_bytes / 1e9:.1f}, and the server's store is smaller: raise its max_file_store (nats/server.conf), "
        "or set fewer QS_MARKET_SHARDS or QS_MARKET_MAX_BYTES"
    )


async def _patiently(stream: str, forming_until: float, ask: Callable[[], Awaitable[T]]) -> T:
    """Ask again while the broker is starting or away."""
    while True:
        try:
            return await ask()
        except (nats_errors.Error, TimeoutError) as error:
            log.debug("waiting for JetStream", stream=stream, error=repr(error))
        except api.ApiError as error:
            forming = error.err_code == api.NO_PEERS and asyncio.get_running_loop().time() < forming_until
            if not forming and (error.code < 500 or error.err_code in _NEVER):
                raise TopologyRefused(f"stream {stream}: {error}") from error
        await asyncio.sleep(0.2)


async def _exists(connection: Connection, stream: str) -> bool:
    try:
        await api.stream_info(connection, stream)
    except api.ApiError as error:
        if error.err_code != api.STREAM_NOT_FOUND:
            raise
        return False
    return True


async def _declare(connection: Connection, declared: dict[str, Any], first_sequence: int) -> str | None:
    name = declared["name"]
    try:
        info = await api.stream_info(connection, name)
    except api.ApiError as error:
        if error.err_code != api.STREAM_NOT_FOUND:
            raise
        begins = {"first_seq": first_sequence} if first_sequence > 1 else {}
        await api.request(connection, f"STREAM.CREATE.{name}", {**declared, **begins}, dict, timeout=5.0)
        return f"stream {name} created" + (f", and begins with {first_sequence:,}" if begins else "")
    differing = _differences(declared, info.config)
    if not differing:
        return None
    changes = "; ".join(f"{key}: {had!r} → {wanted!r}" for key, (had, wanted) in sorted(differing.items()))
    if "metadata" in differing:
        raise TopologyRefused(f"stream {name} was created for another number of shards, which is fixed ({changes})")
    try:
        await api.request(
            connection,
            f"STREAM.UPDATE.{name}",
            {**info.config, **{key: declared[key] for key in differing}},
            dict,
            timeout=5.0,
        )
    except api.ApiError as error:
        raise TopologyRefused(f"stream {name} cannot be changed ({changes}): {error}") from error
    return f"stream {name} changed ({changes})"


async def describe(connection: Connection, stream: str, *, timeout: float = 30.0) -> None:
    """Have the server write down how a stream is configured. Where it finds a description that it cannot read, it does
    not do so when it makes the stream, and ignores the stream again at its next start.

    Raises:
        TopologyRefused, TimeoutError: as `prepare`.
    """

    async def write() -> None:
        config = (await api.stream_info(connection, stream)).config
        await api.request(connection, f"STREAM.UPDATE.{stream}", config, dict, timeout=5.0)

    async with asyncio.timeout(timeout):
        await _patiently(stream, 0.0, write)


def _differences(declared: dict[str, Any], found: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """What is declared and is not so: key → (found, declared). Metadata compares by our own keys."""
    differing: dict[str, tuple[Any, Any]] = {}
    for key, wanted in declared.items():
        had = found.get(key)
        if key == "metadata":
            had = {name: (had or {}).get(name) for name in wanted}
        if key == "persist_mode":
            continue  # that of a stream cannot be changed, and a bucket that is synced is as good, though slower
        if key == "max_age" and had is not None and had > wanted:
            continue  # what was granted when reservations lived for longer still counts for as long
        if had != wanted:
            differing[key] = (had, wanted)
    return differing


async def remove(connection: Connection, streams: Sequence[str]) -> None:
    """Delete streams and all they hold. For tests and for starting over on purpose."""
    for stream in streams:
        await api.request(connection, f"STREAM.DELETE.{stream}", None, dict)
