"""The instances of a service: their names, ports and settings. Pure.

The first instance is named after its service and has the service's own settings. Instance 2 of the exchange is called
`exchange-2`, and listens ten ports higher: its environment sets that.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from process.settings import PORT_STEP

LEDGER_DATABASE = "ledger.sqlite"


@dataclass(frozen=True, slots=True)
class Instance:
    """One process of a service that listens.

    Attributes:
        name: its name in logs, tables and messages.
        service: the service it runs.
        port: the port it listens on.
        environment: variables by which it differs from the first instance.
    """

    name: str
    service: str
    port: int
    environment: Mapping[str, str] = field(default_factory=dict)


def instances(service: str, port: int, count: int, table: Mapping[str, Any]) -> list[Instance]:
    """Return the instances of a service.

    Args:
        service: its name.
        port: the port of the first instance.
        count: the number of instances.
        table: the settings that are given for the service.
    """
    return [
        Instance(service, service, port),
        *(_further(service, number, port + PORT_STEP * (number - 1), table) for number in range(2, count + 1)),
    ]


def _further(service: str, number: int, port: int, table: Mapping[str, Any]) -> Instance:
    environment = {f"QS_{service.upper()}_PORT": str(port)}
    if service == "ledger":
        database = Path(table.get("database", LEDGER_DATABASE))
        environment["QS_LEDGER_DATABASE"] = str(database.with_stem(f"{database.stem}-{number}"))
    return Instance(f"{service}-{number}", service, port, environment)
