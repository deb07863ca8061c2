"""The `[loadgen]` table of the market file: the defaults of the command line options."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from process.settings import PORT_STEP, ServiceSettings, SettingsError, Stack, load, tables
from web.roles import Role

DEFAULT_EXCHANGE_PORT = 8001
_ANY_ADDRESS = ("0.0.0.0", "::")  # noqa: S104 # compared with, not bound to


class LoadgenSettings(ServiceSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of the load generator.

    Attributes:
        port: always 0, because the load generator does not listen.
        url: the base URL of the exchange; those of several are separated by commas. Empty: the exchanges of this stack.
        rate: orders per second, on average.
        symbols: the symbols to trade, separated by commas; empty for all.
        max_quantity: the largest order, in lots.
        concurrency: the most requests in flight.
        aggressiveness: the share of orders, 0 to 1, priced to cross any sensible quote.
        history: the file to append the history to; empty for none.
        token_file: the file whose first line is the token to send. Empty: the trader's file in the folder of tokens, if
            there is one.
    """

    port: Literal[0] = 0
    url: str = ""
    rate: Annotated[float, Meta(gt=0, le=100_000)] = 20.0
    symbols: str = ""
    max_quantity: Annotated[int, Meta(ge=1, le=1_000_000)] = 5
    concurrency: Annotated[int, Meta(ge=1, le=10_000)] = 64
    aggressiveness: Annotated[float, Meta(ge=0, le=1)] = 0.7
    history: str = ""
    token_file: str = ""

    def __post_init__(self) -> None:
        """Set the default of `token_file`. `host` needs no check, since the load generator does not listen."""
        if not self.token_file and self.stack.tokens:
            msgspec.structs.force_setattr(self, "token_file", str(Path(self.stack.tokens) / Role.TRADER))


def load_settings(environ: Mapping[str, str] = os.environ) -> LoadgenSettings:
    """Return the settings. An empty `url` is replaced by the URLs of this stack's exchanges.

    Raises:
        SettingsError: a setting is missing, unknown or invalid.
    """
    settings = load(LoadgenSettings, "loadgen", environ)
    if settings.url:
        return settings
    port = tables(environ).get("exchange", {}).get("port", DEFAULT_EXCHANGE_PORT)
    try:
        first = int(port)
    except ValueError as error:
        raise SettingsError(f"QS_EXCHANGE_PORT: {port} is not a port") from error
    ports = (first + PORT_STEP * number for number in range(settings.stack.exchanges))
    host = _reachable(settings.stack)
    scheme = settings.stack.http_scheme
    return msgspec.structs.replace(settings, url=",".join(f"{scheme}://{host}:{port}" for port in ports))


def _reachable(stack: Stack) -> str:
    if stack.host in _ANY_ADDRESS:
        return "127.0.0.1"
    return f"[{stack.host}]" if ":" in stack.host else stack.host
