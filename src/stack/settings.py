"""The settings of the operator's commands: the instances and ports of every service, and the paths of all files."""

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
"""The folder in which a NATS server stores its streams, within its data folder."""
ACCOUNT = Path(STORE, SERVICES_ACCOUNT)
"""The folder of the services' account."""
EARLIER = Path(STORE, "$G")
"""The folder that earlier versions used, which had no accounts."""

_LONGEST_SOCKET = 100
"""A unix socket's path may have 107 bytes; supervisord adds a pid to it while it binds."""

_HIGHEST_PORT = 65_535

_ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 # compared with, not bound to


@dataclass(frozen=True, slots=True)
class NatsServer:
    """One NATS server: its name, its data folder, and its ports on loopback.

    The other servers of its cluster connect to `cluster_port`; it is None for a single server.
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
        market: the settings that all services must agree on.
        stack: the settings of the processes, such as ports and folders.
        instances: every process that listens, except NATS.
        folder: the working directory of the commands and the services.
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
        """The folder with the output of each process, absolute."""
        return self.data / "logs"

    @property
    def socket(self) -> Path:
        """The path of supervisord's socket: in the data folder, unless that path is too long for a socket. Then it is
        in a folder for this user's sockets, which `up` creates and keeps private."""
        inside = self.data / "supervisord.sock"
        if len(os.fsencode(inside)) <= _LONGEST_SOCKET:
            return inside
        name = hashlib.sha256(os.fsencode(self.data)).hexdigest()[:16]
        shortest = min((tempfile.gettempdir(), "/tmp"), key=len)  # noqa: S108 # the name is the data folder's own
        return Path(shortest) / f"quotestream-{os.getuid()}" / f"{name}.sock"

    @property
    def nats_servers(self) -> list[NatsServer]:
        """The NATS servers that `up` starts: none, one, or a cluster."""
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
        """The port of each instance, by its name."""
        return {instance.name: instance.port for instance in self.instances}

    def address(self, name: str) -> str:
        """Return the URL of an instance, as seen from this machine."""
        host = _ANY_ADDRESS.get(self.stack.host, self.stack.host)
        return f"{self.stack.http_scheme}://{f'[{host}]' if ':' in host else host}:{self.ports[name]}"


class _Listener(ServiceSettings, frozen=True, kw_only=True, forbid_unknown_fields=False):
    """The settings of a service's listener; the service itself reads and checks the others."""


def has_one_account(settings: StackSettings) -> bool:
    """True if the data are those of a cluster of an earlier version without accounts: a cluster cannot convert them."""
    return len(settings.nats_servers) > 1 and any(is_earlier(server.folder) for server in settings.nats_servers)


def is_earlier(folder: Path) -> bool:
    """True if the data folder of a server was written by an earlier version without accounts."""
    return (folder / EARLIER).is_dir() and not (folder / ACCOUNT).is_dir()


def streams_in(folder: Path) -> Path:
    """Return the folder that contains a folder for each stream, given a server's data folder."""
    return folder / (EARLIER if is_earlier(folder) else ACCOUNT) / "streams"


DEFAULT_PORTS = {"ui": 8000, "exchange": 8001, "ledger": 8002, "exposure": 8003, "maker": 8004}
"""The port of the first instance of each service. The load generator does not listen."""


def read(environ: Mapping[str, str] = os.environ) -> StackSettings:
    """Read the settings of the stack from the market file and the environment.

    Raises:
        SettingsError: something is missing, unknown, or invalid for a stack.
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
            f"QS_MARKET_REPLICAS: {market.replicas} replicas need as many NATS servers; QS_STACK_NATS_SERVERS is "
            f"{stack.nats_servers}"
        )
    _check_ports(settings)
    return settings


@dataclass(frozen=True, slots=True)
class Listening:
    """A port that the stack listens on, the variable that changes it, and the name of the process."""

    variable: str
    host: str
    port: int
    name: str


def listening(settings: StackSettings) -> list[Listening]:
    """Return every port that the stack listens on."""
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
            raise SettingsError(f"{wanted.variable}: a stack needs a fixed port, not 0")
        if wanted.port > _HIGHEST_PORT:
            raise SettingsError(f"{wanted.variable}: {wanted.name} would listen on {wanted.port}, which is not a port")
        if other := seen.get(wanted.port):
            raise SettingsError(
                f"{wanted.name} ({wanted.variable}) and {other.name} ({other.variable}) would both listen on "
                f"{wanted.port}: change one of the variables"
            )
        seen[wanted.port] = wanted
