"""The six roles of HTTP tokens, and how a route declares which it permits. Reading routes permit `READ` by default."""

from enum import StrEnum
from typing import Any


class Role(StrEnum):
    """What the bearer of a token may do. A token may have several roles."""

    READER = "reader"  # look at everything
    TRADER = "trader"  # send orders, and look at quotes
    MAKER = "maker"  # reserve, quote and withdraw, and look at everything
    EXCHANGE = "exchange"  # report fills that were executed elsewhere
    FEED = "feed"  # send reference prices
    OPERATOR = "operator"  # pause, resume and withdraw, and look at everything


Roles = frozenset[Role]

READ: Roles = frozenset({Role.READER, Role.MAKER, Role.OPERATOR})
"""The roles that may read. A trader may not: positions and exposure are confidential."""

ANYONE: Roles = frozenset(Role)
"""All roles: the route needs no token."""

NOBODY: Roles = frozenset()


def only(*roles: Role) -> dict[str, Any]:
    """Return the `opt` of a route that only these roles may use."""
    return {"roles": frozenset(roles)}


def anyone() -> dict[str, Any]:
    """Return the `opt` of a route that needs no token."""
    return {"roles": ANYONE}
