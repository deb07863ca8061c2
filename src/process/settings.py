"""Settings: `market.toml`, overridden by the environment, as one frozen struct per service.

A variable `QS_<TABLE>_<KEY>` sets `key` of `[table]`: `QS_EXCHANGE_PORT=9001`, `QS_MARKET_QUOTE_TTL=2`. `NATS_URL`
names a NATS server that is already running. `QS_MARKET_FILE` names another market file. Unknown tables, keys and
variables are refused.
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
from wire.definitions import Terms, check_quote_ttl, listing_of
from wire.fields import Symbol
from wire.instruments import Instrument, Listing
from wire.units import FieldError, check_max_loss

SERVICES = ("exchange", "ledger", "exposure", "maker", "loadgen", "ui")
KEYS = "keys"
"""The folder, within the data folder, of the NATS users' secret keys."""

_TABLES = ("market", "symbols", "stack", *SERVICES)
_FILE_VARIABLE = "QS_MARKET_FILE"

MAX_INSTANCES = 9
"""The most instances of one service."""

PORT_STEP = 10
"""The distance between the ports of consecutive instances of a service."""

Port = Annotated[int, Meta(ge=0, le=65535)]
Seconds = Annotated[float, Meta(gt=0, le=86_400)]
Count = Annotated[int, Meta(ge=1, le=MAX_INSTANCES)]


class SettingsError(Exception):
    """A setting is invalid; the message says which, and why."""


class Market(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What all services must agree on.

    Attributes:
        limit: the global limit, in lots, on each side over all active quotes.
        quote_ttl: the lifetime of a quote, in seconds.
        max_quote_ttl: the largest value that `quote_ttl` can be changed to while services run, in seconds.
        grace: how much longer than its quote a reservation lives, in seconds. It covers the differences between
            services' clocks, and a commit in flight.
        id_window: how long an order id is remembered, in seconds.
        shards: the number of streams of the market log; fixed when the streams are created.
        replicas: the number of replicas of every stream and bucket.
        max_bytes: the largest size of one shard of the market log, in bytes. A full shard refuses appends.
        max_gross: the largest sum of all positions, long and short alike, in lots. None: no limit.
        max_loss: the loss of all symbols together, in money, at which nothing is quoted until a person resumes. None:
            no limit.
        symbols: the instruments, by symbol.
    """

    limit: Annotated[int, Meta(ge=1, le=1_000_000)] = 100
    quote_ttl: Seconds = 30.0
    max_quote_ttl: Seconds = 60.0
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
        check_quote_ttl(self.quote_ttl, self.max_quote_ttl)

    @property
    def listings(self) -> dict[str, Listing]:
        """The listings, with revision 0, that apply while the bucket `instruments` is empty."""
        return {symbol: listing_of(instrument, self.terms, 0) for symbol, instrument in self.symbols.items()}

    @property
    def terms(self) -> Terms:
        """The terms to define in an empty bucket."""
        return Terms(
            limit=self.limit,
            shares=len(self.symbols),
            quote_ttl=self.quote_ttl,
            grace=self.grace,
            id_window=self.id_window,
            shards=self.shards,
            max_quote_ttl=self.max_quote_ttl,
            max_gross=self.max_gross,
            max_loss=self.max_loss,
        )

    @property
    def quote_lifetime(self) -> timedelta:
        """The lifetime of a quote, until the bucket `instruments` defines it."""
        return timedelta(seconds=self.quote_ttl)

    @property
    def reservation_life(self) -> float:
        """How long a reservation can count, in seconds: the longest lifetime of a quote plus the grace."""
        return self.max_quote_ttl + self.grace


class Stack(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The settings of the deployment: addresses, files, and how many instances run.

    Attributes:
        host: the address that every service binds to.
        data_dir: the folder for everything that must survive a restart.
        nats_servers: how many NATS servers the stack starts: 1, or a cluster of 3, each with a copy of everything.
        nats_port: the port of the first NATS server that the stack starts; the others use the following ports.
        nats_monitor_port: the monitoring port of the first server; the others use the following ports.
        nats_cluster_port: the cluster port of the first server; the others use the following ports.
        nats_url: a NATS server that is already running; the stack then starts none. The servers of a cluster are
            separated by commas.
        nats_keys: the folder of the NATS users' secret keys. Default: `keys` in the data folder, where `up` creates
            them, or no keys if `nats_url` is set.
        exchanges: the number of exchanges.
        exposures: the number of exposure services.
        makers: the number of makers, which divide the symbols among themselves.
        ledgers: the number of ledgers, each with its own database.
        log_level: debug, info, warning or error.
        traces: the URL of the OTLP/HTTP collector for traces; empty for none.
        tokens: the folder of the tokens with which HTTP clients authenticate. Empty: HTTP is unauthenticated, which is
            permitted only if `host` is on loopback.
        hosts: further host names of the services, separated by commas. `localhost` and IP addresses are always
            accepted.
        origins: further origins whose pages may send requests to the services, separated by commas.
        tls_certificate: the certificate chain of the services and the stack's NATS servers; empty for no TLS.
        tls_key: the certificate's key.
        tls_ca: the CA file to verify certificates with; empty for the CAs that this machine trusts.
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
        """The URLs of the NATS servers, separated by commas. The stack's own servers listen on loopback only."""
        ours = (f"{self.nats_scheme}://127.0.0.1:{self.nats_port + number}" for number in range(self.nats_servers))
        return self.nats_url or ",".join(ours)

    @property
    def nats_scheme(self) -> str:
        """The URL scheme of the stack's NATS servers."""
        return "tls" if self.tls_certificate else "nats"

    @property
    def http_scheme(self) -> str:
        """The URL scheme of the services."""
        return "https" if self.tls_certificate else "http"

    def nats_seed(self, user: str) -> Path | None:
        """Return the file of a NATS user's secret key; None to connect without one."""
        if self.nats_keys is None and self.nats_url:
            return None
        return (self.nats_keys or self.data_dir / KEYS) / f"{user}.seed"


class ServiceSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The settings of one service: its own table, the market and the stack.

    A service subclasses this to give `port` a default and to add its own keys.
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
                f"of tokens, which `{COMMAND} tokens` creates",
            )


S = TypeVar("S", bound=ServiceSettings)


def tables(environ: Mapping[str, str] = os.environ) -> dict[str, dict[str, Any]]:
    """Return the tables of the market file, overridden by the environment.

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
    """Return the settings of one service.

    Raises:
        SettingsError: a setting is missing, unknown or invalid.
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
    """Split a setting whose parts are separated by commas."""
    return [part.strip() for part in text.split(",") if part.strip()]


def is_loopback(host: str) -> bool:
    """True if only this machine can reach what is bound to `host`."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _decode(kind: type, value: Any) -> Any:
    if kind is Path:
        return Path(value)
    raise NotImplementedError(kind)
