"""Run a stack beside others: give it its own symbols, and an environment that moves its ports and its data."""

import os
from collections.abc import Iterable
from pathlib import Path

from stack.ports import free_ports
from stack.settings import DEFAULT_PORTS

SYMBOL = """
[symbols.{name}]
tick = "0.01"
reference_price = "100.00"
quote_size = {size}
gamma = "0.1"
k = "20"
a = "1"
sigma = "0.3"
"""
"""One symbol of a market file."""

_NATS_PORTS = ("NATS", "NATS_MONITOR", "NATS_CLUSTER")


def environment(folder: Path, symbols: Iterable[str], *, size: int, **settings: object) -> dict[str, str]:
    """Write the market file of such a stack, and return the environment of its processes.

    Args:
        folder: for the market file and the data.
        symbols: the symbols that are traded, all with the same settings, around 100.00.
        size: lots that a maker quotes on each side of a symbol.
        settings: more settings, as `QS_` variables without the prefix.
    """
    market = folder / "market.toml"
    market.write_text("".join(SYMBOL.format(name=name, size=size) for name in symbols))
    names = [*(service.upper() for service in DEFAULT_PORTS), *(f"STACK_{name}" for name in _NATS_PORTS)]
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("QS_", "NATS_"))}
    return {
        **kept,
        **{f"QS_{name}_PORT": str(port) for name, port in zip(names, free_ports(len(names)), strict=True)},
        "QS_MARKET_FILE": str(market),
        "QS_STACK_DATA_DIR": str(folder / "data"),
        **{f"QS_{name}": str(value) for name, value in settings.items()},
    }
