"""Who may do what on the broker: one user a service, and every subject it may publish to and subscribe to.

The NATS servers enforce this table (`stack.keys` writes it into their configuration), and `docs/permissions.md` shows
it. What is not granted here is refused. The boundaries that matter:

- Only the exchange writes quotes, only exposure writes reservations, only the ledger writes positions, only makers the
  kill switch. Fills are written by the exchange, and by the ledger for `POST /fills`.
- Nobody may purge or delete a stream. Only the operator may make or change one, and it may write to none.
- Requests are answered by the service that they are for, and by nobody else.
- Everyone hears only the answers to its own questions: inboxes begin with the user's name. One who answers may write to
  the inboxes of those who may ask it. The broker itself needs no grant to answer.

The order publisher has no user: it talks HTTP only.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from wire import subjects
from wire.subjects import Rpc

QUOTES = subjects.bucket_stream(subjects.QUOTES_BUCKET)
RESERVATIONS = subjects.bucket_stream(subjects.RESERVATIONS_BUCKET)
SWITCHES = subjects.bucket_stream(subjects.SWITCHES_BUCKET)


INBOXES = "_INBOX"
"""What the subjects of all inboxes begin with."""


@dataclass(frozen=True, slots=True)
class Grant:
    """What one user may publish to and subscribe to: subjects, with wildcards."""

    user: str
    publish: tuple[str, ...]
    subscribe: tuple[str, ...]


def grants(shards: int) -> list[Grant]:
    """Everyone, for a market log of so many shards."""
    numbers = range(shards)
    market = [subjects.market_stream(shard) for shard in numbers]
    quotes = [subjects.quotes(shard, "*") for shard in numbers]
    fills = [subjects.fills(shard, "*") for shard in numbers]
    streams = subjects.streams(shards)
    return [
        _grant(
            "exchange",
            publish=[
                *quotes,
                *fills,
                subjects.bucket_key(subjects.QUOTES_BUCKET, "*"),
                *_follow(*market, subjects.POSITIONS_STREAM),
                *_look_up(*market, QUOTES),
                *[Rpc.ACTIVATE, Rpc.GIVE_BACK],
                *_answer("maker", "observer"),
            ],
            subscribe=_serve("exchange"),
        ),
        _grant(
            "ledger",
            publish=[
                *fills,
                subjects.POSITIONS,
                *_follow(*market, subjects.POSITIONS_STREAM),
                *_look_up(*streams),
            ],
        ),
        _grant(
            "exposure",
            publish=[
                subjects.DECISIONS,
                subjects.bucket_key(subjects.RESERVATIONS_BUCKET, "*"),
                *_follow(*market, subjects.EXPOSURE_STREAM),
                *_look_up(*market, subjects.EXPOSURE_STREAM, RESERVATIONS),
                *_answer("exchange", "maker", "ui", "observer"),
            ],
            subscribe=_serve("exposure"),
        ),
        _grant(
            "maker",
            publish=[
                subjects.bucket_key(subjects.SWITCHES_BUCKET, "*"),
                subjects.MAKERS,
                *_follow(*market, subjects.POSITIONS_STREAM, SWITCHES),
                *_look_up(*market, SWITCHES),
                *[Rpc.RESERVE, Rpc.RELEASE, Rpc.PUT_QUOTE, Rpc.WITHDRAW_QUOTE],
            ],
            subscribe=[subjects.MAKERS],
        ),
        _grant("ui", publish=[*_follow(*market, subjects.POSITIONS_STREAM), *_look_up(*market), Rpc.USAGE]),
        _grant("operator", publish=[*_declare(*streams), f"$JS.API.STREAM.INFO.{subjects.market_stream(shards)}"]),
        _grant(
            "observer",
            publish=[
                *_follow(*streams),
                *_look_up(*streams),
                *_browse(*streams),
                *[Rpc.USAGE, "$SRV.>", "_INBOX.observer.>"],
            ],
            subscribe=[
                "quotes.>",
                "fills.>",
                subjects.POSITIONS,
                subjects.DECISIONS,
                subjects.MAKERS,
                "$KV.>",
                "$JS.EVENT.>",
            ],
        ),
    ]


def inbox(user: str) -> str:
    """What the inboxes of a user begin with."""
    return f"{INBOXES}.{user}"


def _grant(user: str, publish: Iterable[str], subscribe: Iterable[str] = ()) -> Grant:
    return Grant(user, tuple(dict.fromkeys(publish)), (f"{inbox(user)}.>", *subscribe))


def _follow(*streams: str) -> list[str]:
    """What a tail asks of a stream."""
    return [
        f"$JS.API.{request}"
        for stream in streams
        for request in (f"STREAM.INFO.{stream}", f"CONSUMER.CREATE.{stream}.*", f"CONSUMER.MSG.NEXT.{stream}.*")
    ]


def _look_up(*streams: str) -> list[str]:
    """What an append, and whoever wants one message, asks of a stream."""
    return [f"$JS.API.STREAM.{request}.{stream}" for stream in streams for request in ("INFO", "MSG.GET")]


def _declare(*streams: str) -> list[str]:
    """What makes a stream as it is declared; and what backs it up, and restores it where it is not."""
    return [
        *(
            f"$JS.API.STREAM.{request}.{stream}"
            for stream in streams
            for request in ("INFO", "CREATE", "UPDATE", "SNAPSHOT", "RESTORE")
        ),
        "$JS.SNAPSHOT.ACK.>",
        "$JS.SNAPSHOT.RESTORE.>",
    ]


def _browse(*streams: str) -> list[str]:
    """What the nats command line asks besides, when it only reads.

    It follows by consumers that are sent to its inbox, with a subject in their request and with flow control, and takes
    them away afterwards: that is granted where no service follows.
    """
    return [
        *(f"$JS.API.{request}" for request in ("INFO", "STREAM.NAMES", "STREAM.LIST")),
        *(
            f"$JS.API.{request}"
            for stream in streams
            for request in (
                f"CONSUMER.CREATE.{stream}",
                f"CONSUMER.CREATE.{stream}.>",
                f"CONSUMER.NAMES.{stream}",
                f"CONSUMER.LIST.{stream}",
                f"CONSUMER.INFO.{stream}.*",
                f"DIRECT.GET.{stream}",
                f"DIRECT.GET.{stream}.>",
            )
        ),
        f"$JS.API.CONSUMER.DELETE.{QUOTES}.*",
        "$JS.FC.>",
    ]


def _serve(service: str) -> list[str]:
    """Where a service hears requests, and is found by micro discovery."""
    found = [f"$SRV.{verb}{end}" for verb in ("PING", "INFO", "STATS") for end in ("", f".{service}", f".{service}.*")]
    return [f"rpc.{service}.*", *found]


def _answer(*users: str) -> list[str]:
    return [f"{inbox(user)}.>" for user in users]
