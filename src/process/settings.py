"""Settings: `market.toml`, overlaid by the environment, as one frozen struct a service.

A variable `QS_<TABLE>_<KEY>` sets `key` of `[table]`: `QS_EXCHANGE_PORT=9001`, `QS_MARKET_QUOTE_TTL=2`. `NATS_URL`
names a server that runs already. `QS_MARKET_FILE` names another market file. Unknown tables, keys and variables are
refused.
"""

import ipaddress
import os
import tomllib
from collections.abc import Mapping
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta

from process.installation import COMMAND, bundled_file
from wire.definitions import Terms, listing_of
from wire.fields import Symbol
from wire.instruments import Instrument, Listing
from wire.units import FieldError, check_max_loss

SERVICES = ("exchange", "ledger", "exposure", "maker", "loadgen", "ui")
KEYS = "keys"
"""The folder in the data folder that has the secret keys of the NATS users."""

_TABLES = ("market", "symbols", "stack", *SERVICES)
_FILE_VARIABLE = "QS_MARKET_FILE"

MAX_INSTANCES = 9
"""Instances of one service, at most."""

PORT_STEP = 10
"""How much higher the port of each further instance is."""

Port = Annotated[int, Meta(ge=0, le=65535)]
Seconds = Annotated[float, Meta(gt=0, le=86_400)]
Count = Annotated[int, Meta(ge=1, le=MAX_INSTANCES)]


class SettingsError(Exception):
    """The settings make no sense; the message says which and why."""


class Market(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What all services must agree on.

    Attributes:
        limit: the global limit, in lots, on each side over all active quotes.
        quote_ttl: how long a quote lives, in seconds.
        grace: how much longer than its quote a reservation lives, in seconds: it covers what services' times differ by
            and a commit in flight.
        id_window: how long an order id is remembered, in seconds.
        shards: into how many streams the market log is split; fixed when the streams are created.
        replicas: copies of every stream and bucket.
        max_bytes: the largest size of one shard of the market log, in bytes; it refuses appends when it is full.
        max_gross: the most lots that the positions of all symbols hold together; none: no such limit.
        max_loss: the money that all symbols together may lose before nothing is quoted any more until a person resumes;
            none: no such limit.
        symbols: what is traded.
    """

    limit: Annotated[int, Meta(ge=1, le=1_000_000)] = 100
    quote_ttl: Seconds = 30.0
    grace: Seconds = 2.0
    id_window: Seconds = 120.0
    shards: Annotated[int, Meta(ge=1, le=64)] = 4
    replicas: Annotated[int, Meta(ge=1, le=5)] = 1
    max_bytes: Annotated[int, Meta(ge=1_048_576)] = 2_147_483_648
    max_gross: Annotated[int, Meta(ge=1, le=1_000_000)] | None = None
    max_loss: Decimal | None = None
    symbols: dict[Symbol, Instrument]

    def __post_init__(self) -> None:
        if not self.symbols:
            raise FieldError("symbols", "must name at least one symbol")
        if self.max_gross is not None and self.max_gross < len(self.symbols):
            raise FieldError("max_gross", f"must be at least {len(self.symbols)}, one lot for each symbol")
        check_max_loss("max_loss", self.max_loss)

    @property
    def listings(self) -> dict[str, Listing]:
        """What is traded as long as nothing is defined in the bucket `instruments`: by revision 0."""
        return {symbol: listing_of(instrument, self.terms, 0) for symbol, instrument in self.symbols.items()}

    @property
    def terms(self) -> Terms:
        """What all instruments share, as it is defined where nothing is yet."""
        return Terms(
            limit=self.limit,
            shares=len(self.symbols),
            quote_ttl=self.quote_ttl,
            grace=self.grace,
            id_window=self.id_window,
            shards=self.shards,
            max_gross=self.max_gross,
            max_loss=self.max_loss,
        )

    @property
    def quote_lifetime(self) -> timedelta:
        """How long a quote lives."""
        return timedelta(seconds=self.quote_ttl)

    @property
    def reservation_life(self) -> float:
        """Seconds for which a reservation counts: the quote's lifetime and the grace."""
        return self.quote_ttl + self.grace


class Stack(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where things are.

    Attributes:
        host: the address every service binds to.
        data_dir: the folder for everything that must survive a restart.
        nats_servers: how many NATS servers the stack starts: 1, or a cluster of 3 that hold everything three times.
        nats_port: the port of the NATS server the stack starts; the others of a cluster have the next ones.
        nats_monitor_port: its monitoring port; as above.
        nats_cluster_port: where the servers of a cluster reach the first of them; as above.
        nats_url: a NATS server that runs already; none is started then. Several of a cluster are separated by commas.
        nats_keys: the folder with the secret keys of the NATS users; `keys` in the data folder, where `up` makes them.
            A server that runs already is asked without any, unless this is given.
        exchanges: how many exchanges the stack runs.
        exposures: how many exposure services.
        makers: how many makers, which divide the symbols.
        ledgers: how many ledgers, each with a database of its own.
        log_level: debug, info, warning or error.
        traces: the OTLP/HTTP collector that is told of every step of an order or quote; empty for none.
        tokens: the folder of the tokens that HTTP clients must show; empty if nobody is asked for one, which only a
            `host` on loopback may do.
        hosts: names that the services go by, separated by commas, beside `localhost` and every address.
        origins: other origins whose pages may ask the services, separated by commas.
        tls_certificate: the certificates that services, and the NATS servers of the stack, show; empty for no TLS.
        tls_key: the certificate's key.
        tls_ca: what certificates of others are checked with; empty for what this machine trusts.
    """

    host: str = "127.0.0.1"
    data_dir: Path = Path("data")
    nats_servers: Literal[1, 3] = 1
    nats_port: Port = 4222
    nats_monitor_port: Port = 8222
    nats_cluster_port: Port = 6222
    nats_url: str = ""
    nats_keys: Path | None = None
    exchanges: Count = 1
    exposures: Count = 1
    makers: Count = 1
    ledgers: Count = 1
    log_level: str = "info"
    traces: Annotated[str, Meta(pattern="^(https?://.+)?$")] = ""
    tokens: str = ""
    hosts: str = ""
    origins: str = ""
    tls_certificate: str = ""
    tls_key: str = ""
    tls_ca: str = ""

    def __post_init__(self) -> None:
        if bool(self.tls_certificate) != bool(self.tls_key):
            raise FieldError("tls_key", "goes with tls_certificate: set both, or neither")

    @property
    def url(self) -> str:
        """The NATS servers to connect to, separated by commas. Those of the stack listen on loopback only."""
        ours = (f"{self.nats_scheme}://127.0.0.1:{self.nats_port + number}" for number in range(self.nats_servers))
        return self.nats_url or ",".join(ours)

    @property
    def nats_scheme(self) -> str:
        """How the NATS servers of the stack are spoken to."""
        return "tls" if self.tls_certificate else "nats"

    @property
    def http_scheme(self) -> str:
        """How the services are spoken to."""
        return "https" if self.tls_certificate else "http"

    def nats_seed(self, user: str) -> Path | None:
        """The file with the secret key of a NATS user; None to connect without one."""
        if self.nats_keys is None and self.nats_url:
            return None
        return (self.nats_keys or self.data_dir / KEYS) / f"{user}.seed"


class ServiceSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One service's settings: its own table, with the market and the stack beside it.

    A service subclasses this to give `port` its default and to add keys of its own.
    """

    market: Market
    stack: Stack
    port: Port

    def __post_init__(self) -> None:
        host = self.stack.host
        if not self.stack.tokens and not is_loopback(host):
            raise FieldError(
                "host",
                f"{host} can be reached by others, and HTTP would be unauthenticated: set QS_STACK_TOKENS to a folder "
                f"of tokens, as `{COMMAND} tokens` makes one",
            )


S = TypeVar("S", bound=ServiceSettings)


def tables(environ: Mapping[str, str] = os.environ) -> dict[str, dict[str, Any]]:
    """The tables of the market file with the environment laid over them.

    Raises:
        SettingsError: the file cannot be read, or a table or variable is unknown.
    """
    path = Path(environ.get(_FILE_VARIABLE) or bundled_file(Path(), Path("market.toml")))
    try:
        found: dict[str, Any] = tomllib.loads(path.read_text())
    except OSError as error:
        raise SettingsError(
            f"{path}: {error.strerror}; run from the project's folder, or set {_FILE_VARIABLE}"
        ) from error
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{path}: {error}") from error
    for table in found:
        if table not in _TABLES:
            raise SettingsError(f"{path}: unknown table [{table}]")
    for variable, value in environ.items():
        if not variable.startswith("QS_") or variable == _FILE_VARIABLE:
            continue
        table, _, key = variable.removeprefix("QS_").lower().partition("_")
        if table not in _TABLES or table == "symbols" or not key:
            raise SettingsError(f"{variable}: no such setting")
        found.setdefault(table, {})[key] = value
    if url := environ.get("NATS_URL"):
        found.setdefault("stack", {})["nats_url"] = url
    return found


def load(kind: type[S], service: str, environ: Mapping[str, str] = os.environ) -> S:
    """The settings of one service.

    Raises:
        SettingsError: something is missing, unknown or makes no sense.
    """
    found = tables(environ)
    merged = {
        **found.get(service, {}),
        "market": {**found.get("market", {}), "symbols": found.get("symbols", {})},
        "stack": found.get("stack", {}),
    }
    try:
        return msgspec.convert(merged, kind, strict=False, dec_hook=_decode)
    except msgspec.ValidationError as error:
        raise SettingsError(f"settings of {service}: {error}") from error


def split_list(text: str) -> list[str]:
    """The parts of a setting that are separated by commas."""
    return [part.strip() for part in text.split(",") if part.strip()]


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what is bound to `host`."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _decode(kind: type, value: Any) -> Any:
    if kind is Path:
        return Path(value)
    raise NotImplementedError(kind)
