"""The instances of a service: what the second and later ones are called, and what sets them apart. Pure.

The first instance is named after its service and has the service's own settings. Instance 2 of the exchange is called
`exchange-2`; it listens ten ports higher, and is told so through its environment.
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
        name: what it is called everywhere: in logs, tables and messages.
        service: which service it runs.
        port: where it listens.
        environment: variables that set it apart from the first instance.
    """

    name: str
    service: str
    port: int
    environment: Mapping[str, str] = field(default_factory=dict)


def instances(service: str, port: int, count: int, table: Mapping[str, Any]) -> list[Instance]:
    """The instances of a service.

    Args:
        service: its name.
        port: where the first one listens.
        count: how many there are.
        table: the service's settings, as far as they are given.
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
