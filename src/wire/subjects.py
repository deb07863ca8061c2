"""Subjects, streams and buckets: where each message goes. The only place that spells a subject."""

import re
import zlib

MARKET_STREAM = "MARKET"
POSITIONS_STREAM = "POSITIONS"
EXPOSURE_STREAM = "EXPOSURE"
RESERVATIONS_BUCKET = "reservations"
QUOTES_BUCKET = "quotes"
SWITCHES_BUCKET = "switches"
INSTRUMENTS_BUCKET = "instruments"

POSITIONS = "positions.*"
DECISIONS = "exposure.decisions"
MAKER_PRESENCE = "presence.maker"
"""Where makers say that they are there. It is kept nowhere."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}")


def shard_of(symbol: str, shards: int) -> int:
    """The shard a symbol's market log lives in: a stable hash (CRC-32) of its name, the same on every node."""
    return zlib.crc32(symbol.encode()) % shards


def market_stream(shard: int) -> str:
    """The stream that holds one shard of the market log."""
    return f"{MARKET_STREAM}-{shard}"


def quotes(shard: int, symbol: str) -> str:
    """Quote events of one symbol."""
    return f"quotes.{shard}.{symbol}"


def fills(shard: int, symbol: str) -> str:
    """Fills of one symbol."""
    return f"fills.{shard}.{symbol}"


def market_head(shard: int, symbol: str) -> str:
    """The filter every append to one symbol's market log compares on. All writers must send this identical string."""
    return f"*.{shard}.{symbol}"


def position(symbol: str) -> str:
    """Committed position updates of one symbol."""
    return f"positions.{symbol}"


def bucket_stream(bucket: str) -> str:
    """The stream behind a key-value bucket."""
    return f"KV_{bucket}"


def bucket_key(bucket: str, key: str) -> str:
    """The subject behind one key of a bucket."""
    return f"$KV.{bucket}.{key}"


def loss_key(symbol: str | None, *, paused: bool) -> str:
    """The subject behind the key of `switches` that says that a symbol, or all of them (None), is paused for its loss,
    or that it was resumed."""
    key = f"loss.{'paused' if paused else 'resumed'}"
    return bucket_key(SWITCHES_BUCKET, key if symbol is None else f"{key}.{symbol}")


def loss_head(symbol: str | None) -> str:
    """The filter that every append to the two keys of a symbol, or of all, compares on."""
    return bucket_key(SWITCHES_BUCKET, "loss.*" if symbol is None else f"loss.*.{symbol}")


def streams(shards: int) -> list[str]:
    """Every stream there is."""
    return [
        *(market_stream(shard) for shard in range(shards)),
        POSITIONS_STREAM,
        EXPOSURE_STREAM,
        bucket_stream(RESERVATIONS_BUCKET),
        bucket_stream(QUOTES_BUCKET),
        bucket_stream(SWITCHES_BUCKET),
        bucket_stream(INSTRUMENTS_BUCKET),
    ]


def last_token(subject: str) -> str:
    """The symbol or key a subject ends in."""
    return subject.rpartition(".")[2]


def is_name(token: str) -> bool:
    """Whether the end of a subject may be the name of a symbol or of a switch. The broker takes others, too."""
    return _NAME.fullmatch(token) is not None


def matches(subject: str, pattern: str) -> bool:
    """Whether a subject is one of a pattern: `*` stands for any one part of it, and a last `>` for all that follow."""
    parts, wanted = subject.split("."), pattern.split(".")
    if wanted[-1] == ">":
        del wanted[-1]
        if len(parts) <= len(wanted):
            return False
        del parts[len(wanted) :]
    return len(parts) == len(wanted) and all(want in ("*", part) for want, part in zip(wanted, parts, strict=True))


def stream_of(subject: str) -> str:
    """The stream that holds a subject of the market log."""
    return f"{MARKET_STREAM}-{subject.split('.')[1]}"


def in_home_shard(subject: str, shards: int) -> bool:
    """Whether a subject of the market log is the one that its symbol's messages belong to, of so many shards."""
    kind, _, place = subject.partition(".")
    symbol = last_token(place)
    return kind in ("quotes", "fills") and place == f"{shard_of(symbol, shards)}.{symbol}"


class Rpc:
    """Subjects of requests between services. Any live instance of the service may answer."""

    RESERVE = "rpc.exposure.reserve"
    RELEASE = "rpc.exposure.release"
    ACTIVATE = "rpc.exposure.activate"
    DEACTIVATE = "rpc.exposure.deactivate"
    USAGE = "rpc.exposure.usage"
    PUT_QUOTE = "rpc.exchange.put-quote"
    WITHDRAW_QUOTE = "rpc.exchange.withdraw-quote"
