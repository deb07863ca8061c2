"""What the operator's commands need to know: every service's instances and ports, and where everything is."""

import hashlib
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from jet.grants import SERVICES_ACCOUNT
from process.settings import KEYS, Market, ServiceSettings, SettingsError, Stack, load, tables
from stack.instances import Instance, instances

NATS_CONFIG = Path("nats/server.conf")
CLUSTER_CONFIG = Path("nats/cluster.conf")
STORE = "jetstream"
"""The folder that a NATS server makes in its own."""
ACCOUNT = Path(STORE, SERVICES_ACCOUNT)
"""Where it keeps what the services store."""
EARLIER = Path(STORE, "$G")
"""Where it kept that while there were no accounts."""

_LONGEST_SOCKET = 100
"""A unix socket's path may have 107 bytes; supervisord adds a pid to it while it binds."""

_HIGHEST_PORT = 65_535

_ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 # compared with, not bound to


@dataclass(frozen=True, slots=True)
class NatsServer:
    """One NATS server: what it is called, where it keeps its data, and where it listens, on loopback.

    `cluster_port` is where the others of its cluster reach it; None if it is alone.
    """

    name: str
    folder: Path
    port: int
    monitor_port: int
    cluster_port: int | None = None


@dataclass(frozen=True, slots=True)
class StackSettings:
    """The settings of one stack.

    Attributes:
        market: what all services agree on.
        stack: where things are.
        instances: every process that listens, but NATS.
        folder: the folder the commands run in: the services' working directory.
    """

    market: Market
    stack: Stack
    instances: Sequence[Instance]
    folder: Path

    @property
    def data(self) -> Path:
        """The data folder, absolute."""
        return self.folder / self.stack.data_dir

    @property
    def keys(self) -> Path:
        """The folder with the keys of the NATS users, absolute."""
        return self.folder / (self.stack.nats_keys or self.stack.data_dir / KEYS)

    @property
    def logs(self) -> Path:
        """Where each process's output goes."""
        return self.data / "logs"

    @property
    def socket(self) -> Path:
        """Where supervisord listens. Under the data folder, unless that path is too long for a socket: then in a folder
        for this user's sockets, which `up` makes and keeps private."""
        inside = self.data / "supervisord.sock"
        if len(os.fsencode(inside)) <= _LONGEST_SOCKET:
            return inside
        name = hashlib.sha256(os.fsencode(self.data)).hexdigest()[:16]
        shortest = min((tempfile.gettempdir(), "/tmp"), key=len)  # noqa: S108 # the name is the data folder's own
        return Path(shortest) / f"quotestream-{os.getuid()}" / f"{name}.sock"

    @property
    def nats_servers(self) -> list[NatsServer]:
        """The NATS servers that are ours to start: none, one, or a cluster."""
        if self.stack.nats_url:
            return []
        if self.stack.nats_servers == 1:
            return [NatsServer("nats", self.data, self.stack.nats_port, self.stack.nats_monitor_port)]
        return [
            NatsServer(
                name := f"nats-{number + 1}",
                self.data / name,
                self.stack.nats_port + number,
                self.stack.nats_monitor_port + number,
                self.stack.nats_cluster_port + number,
            )
            for number in range(self.stack.nats_servers)
        ]

    @property
    def ports(self) -> dict[str, int]:
        """Where each instance listens, by its name."""
        return {instance.name: instance.port for instance in self.instances}

    def address(self, name: str) -> str:
        """Where an instance is reached from this machine."""
        host = _ANY_ADDRESS.get(self.stack.host, self.stack.host)
        return f"{self.stack.http_scheme}://{f'[{host}]' if ':' in host else host}:{self.ports[name]}"


class _Listener(ServiceSettings, frozen=True, kw_only=True, forbid_unknown_fields=False):
    """A service's settings as far as it listens: the service itself reads and checks the rest."""


def has_one_account(settings: StackSettings) -> bool:
    """Whether the servers' data were made while there were no accounts, by a cluster, which cannot change that."""
    return len(settings.nats_servers) > 1 and any(is_earlier(server.folder) for server in settings.nats_servers)


def is_earlier(folder: Path) -> bool:
    """Whether what a server stored in its folder for data was stored while there were no accounts."""
    return (folder / EARLIER).is_dir() and not (folder / ACCOUNT).is_dir()


def streams_in(folder: Path) -> Path:
    """Where a server keeps its streams, each in a folder of its own, in its folder for data."""
    return folder / (EARLIER if is_earlier(folder) else ACCOUNT) / "streams"


DEFAULT_PORTS = {"ui": 8000, "exchange": 8001, "ledger": 8002, "exposure": 8003, "maker": 8004}
"""Where the first instance of each service listens. The load generator listens nowhere."""


def read(environ: Mapping[str, str] = os.environ) -> StackSettings:
    """The settings of the stack, from the market file here and the environment.

    Raises:
        SettingsError: something is missing, unknown, or makes no sense for a stack.
    """
    given = tables(environ)
    defaults = {
        f"QS_{service.upper()}_PORT": str(port)
        for service, port in DEFAULT_PORTS.items()
        if "port" not in given.get(service, {})
    }
    listeners = {service: load(_Listener, service, {**environ, **defaults}) for service in DEFAULT_PORTS}
    market, stack = listeners["ui"].market, listeners["ui"].stack
    counts = {
        "exchange": stack.exchanges,
        "exposure": stack.exposures,
        "maker": stack.makers,
        "ledger": stack.ledgers,
    }
    found = [
        instance
        for service, listener in listeners.items()
        for instance in instances(service, listener.port, counts.get(service, 1), given.get(service, {}))
    ]
    if not stack.nats_url and "replicas" not in given.get("market", {}):
        market = msgspec.structs.replace(market, replicas=stack.nats_servers)
    settings = StackSettings(market=market, stack=stack, instances=found, folder=Path.cwd())
    if settings.nats_servers and market.replicas > stack.nats_servers:
        raise SettingsError(
            f"QS_MARKET_REPLICAS: {market.replicas} copies need as many NATS servers; QS_STACK_NATS_SERVERS is "
            f"{stack.nats_servers}"
        )
    _check_ports(settings)
    return settings


@dataclass(frozen=True, slots=True)
class Listening:
    """A port the stack listens on, the variable that moves it, and who listens there."""

    variable: str
    host: str
    port: int
    name: str


def listening(settings: StackSettings) -> list[Listening]:
    """Every port the stack listens on."""
    found = [
        Listening(f"QS_{instance.service.upper()}_PORT", settings.stack.host, instance.port, instance.name)
        for instance in settings.instances
    ]
    for server in settings.nats_servers:
        found.append(Listening("QS_STACK_NATS_PORT", "127.0.0.1", server.port, server.name))
        found.append(Listening("QS_STACK_NATS_MONITOR_PORT", "127.0.0.1", server.monitor_port, server.name))
        if server.cluster_port is not None:
            found.append(Listening("QS_STACK_NATS_CLUSTER_PORT", "127.0.0.1", server.cluster_port, server.name))
    return found


def _check_ports(settings: StackSettings) -> None:
    seen: dict[int, Listening] = {}
    for wanted in listening(settings):
        if not wanted.port:
            raise SettingsError(f"{wanted.variable}: a stack needs a port that is known beforehand, not 0")
        if wanted.port > _HIGHEST_PORT:
            raise SettingsError(f"{wanted.variable}: {wanted.name} would listen on {wanted.port}, which is not a port")
        if other := seen.get(wanted.port):
            raise SettingsError(
                f"{wanted.name} ({wanted.variable}) and {other.name} ({other.variable}) would both listen on "
                f"{wanted.port}: change one of the variables"
            )
        seen[wanted.port] = wanted
