"""Who may do what on the broker: one user a service, and every subject it may publish to and subscribe to.

The NATS servers enforce this table (`stack.keys` writes it into their configuration), and `docs/permissions.md` shows
it. What is not granted here is refused. The boundaries that matter:

- Readers are outside of the services' account: the page in an account of its own, people in another. These import what
  may be looked at: messages as they pass, and questions that change nothing. So whatever subject a reader names for an
  answer is one of the reader's account, where no stream is. Making a consumer is none of these questions. And who has
  the observer's key takes no connection from the page, and has nothing pass there.
- Only the exchange writes quotes, only exposure writes reservations, only the ledger writes positions, only makers the
  kill switch. Only the ledger pauses what has lost too much, and only the operator resumes it. Fills are written by the
  exchange, and by the ledger for `POST /fills`.
- Nobody may purge or delete a stream. Only the operator may make or change one, and it may write to none but
  the definitions of what is traded, and that a loss is taken note of.
- Requests are answered by the service that they are for, and by nobody else.
- Everyone hears only the answers to its own questions: inboxes begin with the user's name. One who answers may write to
  the inboxes of those who may ask it. The broker itself needs no grant to answer.

The load generator has no user: it talks HTTP only.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from wire import losses, subjects
from wire.subjects import Rpc

QUOTES = subjects.bucket_stream(subjects.QUOTES_BUCKET)
RESERVATIONS = subjects.bucket_stream(subjects.RESERVATIONS_BUCKET)
SWITCHES = subjects.bucket_stream(subjects.SWITCHES_BUCKET)
INSTRUMENTS = subjects.bucket_stream(subjects.INSTRUMENTS_BUCKET)


INBOXES = "_INBOX"
"""What the subjects of all inboxes begin with."""

ACROSS = "_R_"
"""What the subject begins with that the server gives an answer to another account, in place of the asker's inbox."""

SERVICES_ACCOUNT = "QUOTESTREAM"
"""The account of the services: the streams are in it."""

READERS_ACCOUNT = "READERS"
"""The account of people who only look."""

PAGE_ACCOUNT = "PAGE"
"""The account of the page, which only looks, too."""

OUTSIDE = (READERS_ACCOUNT, PAGE_ACCOUNT)
"""The accounts that have no streams, and import what may be looked at."""


@dataclass(frozen=True, slots=True)
class Grant:
    """What one user may publish to and subscribe to, in its account: subjects, with wildcards."""

    user: str
    publish: tuple[str, ...]
    subscribe: tuple[str, ...]
    account: str = SERVICES_ACCOUNT


@dataclass(frozen=True, slots=True)
class Export:
    """What the account of the services lets others have: messages that pass, or a question that is answered there.

    Attributes:
        subject: with wildcards.
        asks: it is a question.
        many: a question may have several answers.
    """

    subject: str
    asks: bool
    many: bool = False


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
                subjects.bucket_key(subjects.INSTRUMENTS_BUCKET, ">"),
                *_follow(*market, subjects.POSITIONS_STREAM, INSTRUMENTS),
                *_look_up(*market, QUOTES),
                *[Rpc.ACTIVATE, Rpc.DEACTIVATE],
                *_answer("maker", "ui", "observer"),
            ],
            subscribe=_serve("exchange"),
        ),
        _grant(
            "ledger",
            publish=[
                *fills,
                subjects.POSITIONS,
                *_losses(paused=True),
                *_follow(*market, subjects.POSITIONS_STREAM, SWITCHES, INSTRUMENTS),
                *_look_up(*streams),
                *_answer("ui", "observer"),
            ],
            subscribe=_found("ledger"),
        ),
        _grant(
            "exposure",
            publish=[
                subjects.DECISIONS,
                subjects.bucket_key(subjects.RESERVATIONS_BUCKET, "*"),
                *_follow(*market, subjects.EXPOSURE_STREAM, INSTRUMENTS),
                *_look_up(*market, subjects.EXPOSURE_STREAM, RESERVATIONS),
                *_answer("exchange", "maker", "ui", "observer"),
            ],
            subscribe=_serve("exposure"),
        ),
        _grant(
            "maker",
            publish=[
                subjects.bucket_key(subjects.SWITCHES_BUCKET, "*"),
                subjects.MAKER_PRESENCE,
                *_follow(*market, subjects.POSITIONS_STREAM, SWITCHES, INSTRUMENTS),
                *_look_up(*market, SWITCHES),
                *[Rpc.RESERVE, Rpc.RELEASE, Rpc.PUT_QUOTE, Rpc.WITHDRAW_QUOTE],
                *_answer("ui", "observer"),
            ],
            subscribe=[subjects.MAKER_PRESENCE, *_found("maker")],
        ),
        _grant(
            "operator",
            publish=[
                subjects.bucket_key(subjects.INSTRUMENTS_BUCKET, ">"),
                *_losses(paused=False),
                *_follow(INSTRUMENTS),
                *_declare(*streams),
                *_clear(RESERVATIONS, SWITCHES),
                *_end_consumers(*streams),
                f"$JS.API.STREAM.INFO.{subjects.market_stream(shards)}",
            ],
        ),
        _grant("auditor", publish=[*_follow(*streams), *_look_up(*streams), "$JS.API.STREAM.NAMES"]),
        _grant(
            "ui",
            publish=[*_read(*market, subjects.POSITIONS_STREAM, SWITCHES, INSTRUMENTS), *[Rpc.USAGE, "$SRV.STATS"]],
            subscribe=[
                *quotes,
                *fills,
                subjects.POSITIONS,
                subjects.bucket_key(subjects.SWITCHES_BUCKET, "quoting"),
                losses.KEYS,
                subjects.bucket_key(subjects.INSTRUMENTS_BUCKET, ">"),
            ],
            account=PAGE_ACCOUNT,
        ),
        _grant(
            "observer",
            publish=[*_read(*streams), *_browse(*streams), *[Rpc.USAGE, "$SRV.>"]],
            subscribe=_PASSING,
            account=READERS_ACCOUNT,
        ),
    ]


def exports(shards: int) -> list[Export]:
    """What the accounts outside may have of the account of the services."""
    return _shared([grant for grant in grants(shards) if grant.account in OUTSIDE])


def imports(shards: int, account: str) -> list[Export]:
    """What one of the accounts outside has of them: what its users are granted."""
    return _shared([grant for grant in grants(shards) if grant.account == account])


_ACCOUNT_INFO = "$JS.API.INFO"
"""What an account outside imports in any case: one without it asks the JetStream API for itself, which is not enabled
there, and has no answer from the services' account."""


def _shared(readers: Sequence[Grant]) -> list[Export]:
    """What these readers are granted, each once: a question that two imports take would be answered twice."""
    heard = [subject for grant in readers for subject in grant.subscribe]
    subjects_asked = dict.fromkeys([*(subject for grant in readers for subject in grant.publish), _ACCOUNT_INFO])
    whole = tuple(subject.removesuffix(">") for subject in subjects_asked if subject.endswith(".>"))
    asked = [subject for subject in subjects_asked if subject.endswith(".>") or not subject.startswith(whole)]
    return [
        *(Export(each, asks=False) for each in _PASSING if any(takes(each, subject) for subject in heard)),
        *(Export(each, asks=True, many=".DIRECT.GET." in each or each.startswith("$SRV.")) for each in asked),
    ]


def takes(pattern: str, subject: str) -> bool:
    """Whether a pattern takes a subject, or all that another pattern takes."""
    mine, theirs = pattern.split("."), subject.split(".")
    for index, part in enumerate(mine):
        if part == ">":
            return len(theirs) > index
        if index == len(theirs) or (part not in ("*", theirs[index])) or theirs[index] == ">":
            return False
    return len(mine) == len(theirs)


def inbox(user: str) -> str:
    """What the inboxes of a user begin with."""
    return f"{INBOXES}.{user}"


def _grant(user: str, publish: Iterable[str], subscribe: Iterable[str] = (), account: str = SERVICES_ACCOUNT) -> Grant:
    return Grant(user, tuple(dict.fromkeys(publish)), (f"{inbox(user)}.>", *subscribe), account)


_PASSING = (
    "quotes.>",
    "fills.>",
    subjects.POSITIONS,
    subjects.DECISIONS,
    subjects.MAKER_PRESENCE,
    "$KV.>",
    "$JS.EVENT.>",
)
"""What passes in the account of the services and may be looked at."""


def _follow(*streams: str) -> list[str]:
    """What a tail asks of a stream."""
    return [
        f"$JS.API.{request}"
        for stream in streams
        for request in (
            f"STREAM.INFO.{stream}",
            f"STREAM.MSG.GET.{stream}",
            f"CONSUMER.CREATE.{stream}.*",
            f"CONSUMER.INFO.{stream}.*",
            f"CONSUMER.MSG.NEXT.{stream}.*",
        )
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


def _losses(*, paused: bool) -> list[str]:
    """The keys by which everything is paused for its loss, or resumed."""
    return [subjects.loss_key(symbol, paused=paused) for symbol in (None, "*")]


def _clear(*buckets: str) -> list[str]:
    """What takes a key away that cannot be read."""
    return [f"$JS.API.STREAM.{request}.{bucket}" for bucket in buckets for request in ("MSG.GET", "PURGE")]


def _end_consumers(*streams: str) -> list[str]:
    """What finds and ends the consumers of others."""
    return [
        f"$JS.API.CONSUMER.{request}" for stream in streams for request in (f"NAMES.{stream}", f"DELETE.{stream}.*")
    ]


def _read(*streams: str) -> list[str]:
    """What a reader asks of a stream (`jet.reader`)."""
    return [*_look_up(*streams), *(f"$JS.API.DIRECT.GET.{stream}" for stream in streams)]


def _browse(*streams: str) -> list[str]:
    """What the nats command line asks besides, when it only reads."""
    return [
        *(f"$JS.API.{request}" for request in ("STREAM.NAMES", "STREAM.LIST")),
        _ACCOUNT_INFO,
        *(
            f"$JS.API.{request}"
            for stream in streams
            for request in (
                f"CONSUMER.NAMES.{stream}",
                f"CONSUMER.LIST.{stream}",
                f"CONSUMER.INFO.{stream}.*",
                f"DIRECT.GET.{stream}.>",
            )
        ),
    ]


def _serve(service: str) -> list[str]:
    """Where a service hears requests, and is found."""
    return [f"rpc.{service}.*", *_found(service)]


def _found(service: str) -> list[str]:
    """Where a service is found by micro discovery."""
    return [f"$SRV.{verb}{end}" for verb in ("PING", "INFO", "STATS") for end in ("", f".{service}", f".{service}.*")]


def _answer(*users: str) -> list[str]:
    """Where a service answers these users, wherever they are."""
    return [*(f"{inbox(user)}.>" for user in users), f"{ACROSS}.>"]
