"""The names of subjects, streams and buckets. No other module spells a subject."""

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
"""The subject on which makers announce their presence. No stream stores it."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}")


def shard_of(symbol: str, shards: int) -> int:
    """Return the shard of a symbol's market log: a stable hash (CRC-32) of its name, the same on every node."""
    return zlib.crc32(symbol.encode()) % shards


def market_stream(shard: int) -> str:
    """Return the stream that holds one shard of the market log."""
    return f"{MARKET_STREAM}-{shard}"


def quotes(shard: int, symbol: str) -> str:
    """Return the subject of one symbol's quote events."""
    return f"quotes.{shard}.{symbol}"


def fills(shard: int, symbol: str) -> str:
    """Return the subject of one symbol's fills."""
    return f"fills.{shard}.{symbol}"


def market_head(shard: int, symbol: str) -> str:
    """Return the subject filter of one symbol's market log. Appends are compared with the last message that matches it.

    All writers must send this identical string.
    """
    return f"*.{shard}.{symbol}"


def position(symbol: str) -> str:
    """Return the subject of one symbol's committed position updates."""
    return f"positions.{symbol}"


def bucket_stream(bucket: str) -> str:
    """Return the stream of a key-value bucket."""
    return f"KV_{bucket}"


def bucket_key(bucket: str, key: str) -> str:
    """Return the subject of a key in a bucket."""
    return f"$KV.{bucket}.{key}"


def loss_key(symbol: str | None, *, paused: bool) -> str:
    """Return the subject, in `switches`, of pauses for a loss or of resumptions: of a symbol, or (None) of all."""
    key = f"loss.{'paused' if paused else 'resumed'}"
    return bucket_key(SWITCHES_BUCKET, key if symbol is None else f"{key}.{symbol}")


def loss_head(symbol: str | None) -> str:
    """Return the subject filter of both `loss_key`s of a symbol, or (None) of all.

    Appends are compared with the last message that matches it.
    """
    return bucket_key(SWITCHES_BUCKET, "loss.*" if symbol is None else f"loss.*.{symbol}")


def streams(shards: int) -> list[str]:
    """Return the names of all streams."""
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
    """Return the last token of a subject: its symbol or key."""
    return subject.rpartition(".")[2]


def is_name(token: str) -> bool:
    """True if a token may be the name of a symbol or of a switch. The broker accepts other tokens, too."""
    return _NAME.fullmatch(token) is not None


def matches(subject: str, pattern: str) -> bool:
    """True if a subject matches a pattern: `*` stands for one token, and a final `>` for one or more tokens."""
    parts, wanted = subject.split("."), pattern.split(".")
    if wanted[-1] == ">":
        del wanted[-1]
        if len(parts) <= len(wanted):
            return False
        del parts[len(wanted) :]
    return len(parts) == len(wanted) and all(want in ("*", part) for want, part in zip(wanted, parts, strict=True))


def stream_of(subject: str) -> str:
    """Return the stream that holds a subject of the market log."""
    return f"{MARKET_STREAM}-{subject.split('.')[1]}"


def in_home_shard(subject: str, shards: int) -> bool:
    """True if a subject of the market log names the shard to which its symbol belongs, of `shards` shards."""
    kind, _, place = subject.partition(".")
    symbol = last_token(place)
    return kind in ("quotes", "fills") and place == f"{shard_of(symbol, shards)}.{symbol}"


class Rpc:
    """Subjects of requests between services. Any live instance of the service may reply."""

    RESERVE = "rpc.exposure.reserve"
    RELEASE = "rpc.exposure.release"
    ACTIVATE = "rpc.exposure.activate"
    DEACTIVATE = "rpc.exposure.deactivate"
    USAGE = "rpc.exposure.usage"
    PUT_QUOTE = "rpc.exchange.put-quote"
    WITHDRAW_QUOTE = "rpc.exchange.withdraw-quote"
