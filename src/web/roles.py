"""Who may do what over HTTP: six roles, and what a route says of them. A route that reads is for `READ` by itself."""

from enum import StrEnum
from typing import Any


class Role(StrEnum):
    """What the bearer of a token may do. A token may have several."""

    READER = "reader"  # look at everything
    TRADER = "trader"  # send orders, and look at quotes
    MAKER = "maker"  # reserve, quote and withdraw, and look at everything
    EXCHANGE = "exchange"  # report fills that were executed elsewhere
    FEED = "feed"  # tell reference prices
    OPERATOR = "operator"  # pause, resume and withdraw, and look at everything


Roles = frozenset[Role]

READ: Roles = frozenset({Role.READER, Role.MAKER, Role.OPERATOR})
"""Who may read. Not a trader: positions and exposure are the makers' own."""

ANYONE: Roles = frozenset(Role)
"""Who holds any token, or none."""

NOBODY: Roles = frozenset()


def only(*roles: Role) -> dict[str, Any]:
    """The `opt` of a route that is for the bearers of these roles."""
    return {"roles": frozenset(roles)}


def anyone() -> dict[str, Any]:
    """The `opt` of a route that asks for no token."""
    return {"roles": ANYONE}
