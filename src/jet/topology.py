"""Declares every stream and bucket in one place, and creates or updates them on the broker.

Declaring again is harmless. If an existing stream differs from its declaration, it is changed where the broker can
change it, and refused with both values where it cannot or must not. No difference is ignored silently.
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

FORMING_TIMEOUT = 20.0
"""Seconds for which a cluster may find no place for a stream, because its servers are still joining."""

SPARE_AGE = 60.0
"""Seconds that exposure's log keeps a message beyond the time for which it can count."""

CONSUMER_IDLE_TIMEOUT = 60.0
"""Seconds after which the broker deletes a consumer that nobody uses, so that nobody has to delete it by hand."""

CHANGES_KEPT = 64
"""How many messages of the kill switch are kept, so that an invalid message does not hide the change before it."""

_PERMANENT = (api.INSUFFICIENT_STORAGE, api.REPLICAS_WITHOUT_CLUSTER)

T = TypeVar("T")

log = structlog.get_logger()


class TopologyRefused(Exception):  # noqa: N818 # names what happened
    """A stream exists with a configuration that cannot be changed into the declared one."""


@dataclass(frozen=True, slots=True)
class Shape:
    """The settings on which the declarations depend.

    Attributes:
        shards: how many streams hold the market log; fixed once they exist, because symbols would move.
        replicas: how many servers hold a replica of each stream and bucket.
        max_bytes: the largest size of one shard, in bytes.
        duplicate_window: seconds for which a deduplication id is remembered.
        reservation_life: seconds after which a reservation no longer counts: the longest lifetime of a quote, and the
            grace.
    """

    shards: int
    replicas: int
    max_bytes: int
    duplicate_window: float
    reservation_life: float


def declarations(shape: Shape) -> list[dict[str, Any]]:
    """Return the JetStream configuration of every stream."""
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
        "consumer_limits": {"inactive_threshold": int(CONSUMER_IDLE_TIMEOUT * _SECOND)},
        **more,
    }


def _market(shape: Shape, shard: int) -> dict[str, Any]:
    """The market log: complete and append-only. A full shard refuses appends, and never drops old messages."""
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
    """Exposure's log: drops messages that no longer count, and refuses appends when it is full."""
    kept = max(shape.reservation_life + SPARE_AGE, shape.duplicate_window)
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
    """A projection is not synced to disk: its writer writes again what a server has lost.

    A replicated stream does not allow that.
    """
    return {"persist_mode": "async"} if shape.replicas == 1 else {}


def _bucket(shape: Shape, bucket: str, **more: Any) -> dict[str, Any]:
    """A key-value bucket with the newest value of each key. A value may have a TTL, whose end leaves a marker."""
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
    """The bucket of definitions. It keeps several of each key, so that a quote can be judged by its own revision."""
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
    """Create or change every stream as declared. Return a line about each change.

    Args:
        connection: to the broker.
        shape: what the declarations depend on.
        only: the names of the streams to declare; None for all.
        first_sequence: the sequence of the first message in each stream that does not exist yet.
        timeout: seconds to wait for JetStream.

    Raises:
        TopologyRefused: a stream exists and cannot be changed as declared, or there is no room for it.
        TimeoutError: JetStream did not answer in time.
    """
    changes: list[str] = []
    forming_until = asyncio.get_running_loop().time() + FORMING_TIMEOUT
    async with asyncio.timeout(timeout):
        for declared in declarations(shape):
            name = declared["name"]
            if only is not None and name not in only:
                continue
            try:
                change = await _retry(name, forming_until, partial(_declare, connection, declared, first_sequence))
            except TopologyRefused as refused:
                raise TopologyRefused(f"{refused}{_room_needed(shape, refused.__cause__)}") from refused.__cause__
            if change:
                changes.append(change)
        beyond = subjects.market_stream(shape.shards)
        if await _retry(beyond, forming_until, partial(_exists, connection, beyond)):
            # It holds symbols that no service would find.
            raise TopologyRefused(
                f"stream {beyond} exists: the market log was made with more than {shape.shards} shards"
            )
    return changes


def _room_needed(shape: Shape, error: BaseException | None) -> str:
    """Return advice for the case that there is no room for all streams; empty for any other error."""
    if not isinstance(error, api.ApiError) or error.err_code != api.INSUFFICIENT_STORAGE:
        return ""
    needed = sum(declared["max_bytes"] for declared in declarations(shape))
    return (
        f": all streams together may take {needed / 1e9:.1f} GB, of which each of the {shape.shards} shards takes "
        f"{shape.max_bytes / 1e9:.1f}, and the server's store is smaller: raise its max_file_store (nats/server.conf), "
        "or set fewer QS_MARKET_SHARDS or QS_MARKET_MAX_BYTES"
    )


async def _retry(stream: str, forming_until: float, ask: Callable[[], Awaitable[T]]) -> T:
    """Repeat a request while the broker is starting or away."""
    while True:
        try:
            return await ask()
        except (nats_errors.Error, TimeoutError) as error:
            log.debug("waiting for JetStream", stream=stream, error=repr(error))
        except api.ApiError as error:
            forming = error.err_code == api.NO_PEERS and asyncio.get_running_loop().time() < forming_until
            if not forming and (error.code < 500 or error.err_code in _PERMANENT):
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


async def rewrite_description(connection: Connection, stream: str, *, timeout: float = 30.0) -> None:
    """Make the server write a stream's description to disk again.

    A server ignores a stream whose description it cannot read. Creating the stream over it does not replace the
    description, so the server would ignore the stream again at its next start.

    Raises:
        TopologyRefused, TimeoutError: as `prepare`.
    """

    async def write() -> None:
        config = (await api.stream_info(connection, stream)).config
        await api.request(connection, f"STREAM.UPDATE.{stream}", config, dict, timeout=5.0)

    async with asyncio.timeout(timeout):
        await _retry(stream, 0.0, write)


def _differences(declared: dict[str, Any], found: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return the keys that differ: key → (found, declared). In the metadata only our own keys are compared."""
    differing: dict[str, tuple[Any, Any]] = {}
    for key, wanted in declared.items():
        had = found.get(key)
        if key == "metadata":
            had = {name: (had or {}).get(name) for name in wanted}
        if key == "persist_mode":
            continue  # it cannot be changed; a synced bucket is as good, only slower
        if key == "max_age" and had is not None and had > wanted:
            continue  # reservations that were granted with a longer lifetime still count
        if had != wanted:
            differing[key] = (had, wanted)
    return differing


async def remove(connection: Connection, streams: Sequence[str]) -> None:
    """Delete streams with all their messages. For tests, and for starting over on purpose."""
    for stream in streams:
        await api.request(connection, f"STREAM.DELETE.{stream}", None, dict)
