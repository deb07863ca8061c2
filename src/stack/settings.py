"""What the operator's commands need to know: every service's port, and where everything is."""

import hashlib
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from runtime.settings import Market, ServiceSettings, SettingsError, Stack, load, tables

NATS_CONFIG = Path("nats/server.conf")

_LONGEST_SOCKET = 100
"""A unix socket's path may have 107 bytes; supervisord adds a pid to it while it binds."""

_ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 # compared with, not bound to


@dataclass(frozen=True, slots=True)
class StackSettings:
    """The settings of one stack.

    Attributes:
        market: what all services agree on.
        stack: where things are.
        ports: the port of each service that listens, by its name.
        folder: the folder the commands run in: the services' working directory.
    """

    market: Market
    stack: Stack
    ports: Mapping[str, int]
    folder: Path

    @property
    def data(self) -> Path:
        """The data folder, absolute."""
        return self.folder / self.stack.data_dir

    @property
    def logs(self) -> Path:
        """Where each process's output goes."""
        return self.data / "logs"

    @property
    def socket(self) -> Path:
        """Where supervisord listens. Under the data folder, unless that path is too long for a socket."""
        inside = self.data / "supervisord.sock"
        if len(os.fsencode(inside)) <= _LONGEST_SOCKET:
            return inside
        name = hashlib.sha256(os.fsencode(self.data)).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"quotestream-{name}.sock"

    @property
    def starts_nats(self) -> bool:
        """Whether the NATS server is ours to start."""
        return not self.stack.nats_url

    @property
    def nats_health(self) -> str:
        """Where our NATS server says how it is."""
        return f"http://127.0.0.1:{self.stack.nats_monitor_port}/healthz"

    def address(self, service: str) -> str:
        """Where a service is reached from this machine."""
        host = _ANY_ADDRESS.get(self.stack.host, self.stack.host)
        return f"http://{f'[{host}]' if ':' in host else host}:{self.ports[service]}"


class _Listener(ServiceSettings, frozen=True, kw_only=True, forbid_unknown_fields=False):
    """A service's settings as far as it listens: the service itself reads and checks the rest."""


_PORTS = {"ui": 8000, "exchange": 8001, "ledger": 8002, "exposure": 8003, "maker": 8004}


def read(environ: Mapping[str, str] = os.environ) -> StackSettings:
    """The settings of the stack, from the market file here and the environment.

    Raises:
        SettingsError: something is missing, unknown, or makes no sense for a stack.
    """
    given = tables(environ)
    defaults = {
        f"QS_{service.upper()}_PORT": str(port)
        for service, port in _PORTS.items()
        if "port" not in given.get(service, {})
    }
    listeners = {service: load(_Listener, service, {**environ, **defaults}) for service in _PORTS}
    any_of_them = listeners["ui"]
    settings = StackSettings(
        market=any_of_them.market,
        stack=any_of_them.stack,
        ports={service: listener.port for service, listener in listeners.items()},
        folder=Path.cwd(),
    )
    _check_ports(settings)
    return settings


@dataclass(frozen=True, slots=True)
class Listening:
    """A port the stack listens on, and the variable that moves it."""

    variable: str
    host: str
    port: int


def listening(settings: StackSettings) -> list[Listening]:
    """Every port the stack listens on."""
    found = [Listening(f"QS_{name.upper()}_PORT", settings.stack.host, port) for name, port in settings.ports.items()]
    if settings.starts_nats:
        found.append(Listening("QS_STACK_NATS_PORT", "127.0.0.1", settings.stack.nats_port))
        found.append(Listening("QS_STACK_NATS_MONITOR_PORT", "127.0.0.1", settings.stack.nats_monitor_port))
    return found


def _check_ports(settings: StackSettings) -> None:
    seen: dict[int, str] = {}
    for wanted in listening(settings):
        if not wanted.port:
            raise SettingsError(f"{wanted.variable}: a stack needs a port that is known beforehand, not 0")
        if wanted.port in seen:
            raise SettingsError(
                f"{wanted.variable} and {seen[wanted.port]} are both {wanted.port}: give one of them another port"
            )
        seen[wanted.port] = wanted.variable
