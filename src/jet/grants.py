"""Who may do what on the broker: one user per service, and every subject that it may publish and subscribe to.

The NATS servers enforce this table (`stack.keys` writes it into their configuration), and `docs/permissions.md` shows
it. Everything that is not granted here is refused. The boundaries that matter:

- Readers are outside the services' account: the page has its own account, and people have another. These accounts
  import what readers may see: messages as they pass, and requests that change nothing. So any reply subject that a
  reader names is in the reader's account, where there are no streams. Creating a consumer is not among these requests.
  The page has its own account so that somebody with the observer's key can neither use up its connections nor publish
  in it.
- Only the exchange writes quotes, only exposure writes reservations, only the ledger writes positions, and only makers
  write the kill switch. Only the ledger pauses a symbol for its loss, and only the operator resumes it. The exchange
  writes fills, and so does the ledger for `POST /fills`.
- Nobody may delete a stream. Only the operator may create or change one, and purge `reservations` and `switches`, to
  remove keys that cannot be read. The messages it may write are definitions of what is traded, and resumptions after a
  loss.
- Requests to a service reach that service only.
- Each user receives only the replies to its own requests: its inboxes begin with its name. A service may write to the
  inboxes of the users who may send it requests. The broker needs no grant to reply.

The load generator has no user: it uses HTTP only.
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
"""The prefix of all inboxes."""

CROSS_ACCOUNT_REPLIES = "_R_"
"""The prefix of the reply subjects with which the server replaces the inboxes of requests from another account."""

SERVICES_ACCOUNT = "QUOTESTREAM"
"""The account of the services, which has the streams."""

READERS_ACCOUNT = "READERS"
"""The account of people who only read."""

PAGE_ACCOUNT = "PAGE"
"""The account of the page, which also only reads."""

READER_ACCOUNTS = (READERS_ACCOUNT, PAGE_ACCOUNT)
"""The accounts of readers, which have no streams, and import what readers may see."""


@dataclass(frozen=True, slots=True)
class Grant:
    """The subjects, with wildcards, that one user may publish and subscribe to in its account."""

    user: str
    publish: tuple[str, ...]
    subscribe: tuple[str, ...]
    account: str = SERVICES_ACCOUNT


@dataclass(frozen=True, slots=True)
class Export:
    """What the services' account exports to others: passing messages, or a request that is answered there.

    Attributes:
        subject: the subject, with wildcards.
        is_request: it is a request.
        many_replies: the request may have several replies.
    """

    subject: str
    is_request: bool
    many_replies: bool = False


def grants(shards: int) -> list[Grant]:
    """Return the grants of all users, for a market log of so many shards."""
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
            subscribe=_discovery("ledger"),
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
            subscribe=[subjects.MAKER_PRESENCE, *_discovery("maker")],
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
            subscribe=_OBSERVABLE,
            account=READERS_ACCOUNT,
        ),
    ]


def exports(shards: int) -> list[Export]:
    """Return what the services' account exports to the readers' accounts."""
    return _exports_for([grant for grant in grants(shards) if grant.account in READER_ACCOUNTS])


def imports(shards: int, account: str) -> list[Export]:
    """Return which of these exports an account of readers imports: what its users are granted."""
    return _exports_for([grant for grant in grants(shards) if grant.account == account])


_ACCOUNT_INFO = "$JS.API.INFO"
"""Every account of readers imports this request. Otherwise a reader would ask the JetStream API of its own account,
where it is not enabled, and get no reply from the services' account."""


def _exports_for(readers: Sequence[Grant]) -> list[Export]:
    """Return the exports for these readers, each once: a request that matches two imports would be answered twice."""
    subscribed = [subject for grant in readers for subject in grant.subscribe]
    requested = dict.fromkeys([*(subject for grant in readers for subject in grant.publish), _ACCOUNT_INFO])
    prefixes = tuple(subject.removesuffix(">") for subject in requested if subject.endswith(".>"))
    requests = [subject for subject in requested if subject.endswith(".>") or not subject.startswith(prefixes)]
    return [
        *(
            Export(each, is_request=False)
            for each in _OBSERVABLE
            if any(matches(each, subject) for subject in subscribed)
        ),
        *(
            Export(each, is_request=True, many_replies=".DIRECT.GET." in each or each.startswith("$SRV."))
            for each in requests
        ),
    ]


def matches(pattern: str, subject: str) -> bool:
    """True if a pattern matches a subject, or everything that another pattern matches."""
    mine, theirs = pattern.split("."), subject.split(".")
    for index, part in enumerate(mine):
        if part == ">":
            return len(theirs) > index
        if index == len(theirs) or (part not in ("*", theirs[index])) or theirs[index] == ">":
            return False
    return len(mine) == len(theirs)


def inbox(user: str) -> str:
    """Return the prefix of a user's inboxes."""
    return f"{INBOXES}.{user}"


def _grant(user: str, publish: Iterable[str], subscribe: Iterable[str] = (), account: str = SERVICES_ACCOUNT) -> Grant:
    return Grant(user, tuple(dict.fromkeys(publish)), (f"{inbox(user)}.>", *subscribe), account)


_OBSERVABLE = (
    "quotes.>",
    "fills.>",
    subjects.POSITIONS,
    subjects.DECISIONS,
    subjects.MAKER_PRESENCE,
    "$KV.>",
    "$JS.EVENT.>",
)
"""The messages in the services' account that readers may see as they pass."""


def _follow(*streams: str) -> list[str]:
    """The requests of a tail about these streams."""
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
    """The requests of an append, and of a look-up of one message."""
    return [f"$JS.API.STREAM.{request}.{stream}" for stream in streams for request in ("INFO", "MSG.GET")]


def _declare(*streams: str) -> list[str]:
    """The requests that create a stream as declared, back it up and restore it."""
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
    """The keys that pause a symbol, or everything, for a loss, or resume it."""
    return [subjects.loss_key(symbol, paused=paused) for symbol in (None, "*")]


def _clear(*buckets: str) -> list[str]:
    """The requests that remove a key that cannot be read."""
    return [f"$JS.API.STREAM.{request}.{bucket}" for bucket in buckets for request in ("MSG.GET", "PURGE")]


def _end_consumers(*streams: str) -> list[str]:
    """The requests that list and delete the consumers of others."""
    return [
        f"$JS.API.CONSUMER.{request}" for stream in streams for request in (f"NAMES.{stream}", f"DELETE.{stream}.*")
    ]


def _read(*streams: str) -> list[str]:
    """The requests of a reader about these streams (`jet.reader`)."""
    return [*_look_up(*streams), *(f"$JS.API.DIRECT.GET.{stream}" for stream in streams)]


def _browse(*streams: str) -> list[str]:
    """The further requests of the `nats` command line when it only reads."""
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
    """The subjects on which a service receives requests and discovery."""
    return [f"rpc.{service}.*", *_discovery(service)]


def _discovery(service: str) -> list[str]:
    """The subjects on which a service receives micro discovery."""
    return [f"$SRV.{verb}{end}" for verb in ("PING", "INFO", "STATS") for end in ("", f".{service}", f".{service}.*")]


def _answer(*users: str) -> list[str]:
    """The subjects to which a service sends its replies to these users, in any account."""
    return [*(f"{inbox(user)}.>" for user in users), f"{CROSS_ACCOUNT_REPLIES}.>"]
