"""Generates the matrix of docs/permissions.md from the grants:

    PYTHONPATH=tests uv run python -m support.matrix

A table keeps the rows of the page that are granted to some user, and has a column for each user with a grant in it. Add
a row for each new grant: a test fails while one is missing. `REFUSED` lists further subjects that the test tries.
"""

import re
from pathlib import Path

from jet.grants import grants, matches
from wire import subjects

PAGE = Path(__file__).parents[2] / "docs" / "permissions.md"
HEADING = "## The matrix"
SAMPLES = {"shard": "0", "symbol": "AAA", "id": "x", "name": "x", "instance": "x"}

GRANTS = {grant.user: grant for grant in grants(1)}

REFUSED = {
    "publish": [
        *(f"_INBOX.{user}.<name>" for user in ("ledger", "exposure", "operator", "auditor")),
        *(
            f"$JS.API.{request}"
            for stream in ("MARKET-<shard>", *subjects.streams(1)[1:])
            for request in (
                f"CONSUMER.CREATE.{stream}",
                f"CONSUMER.CREATE.{stream}.<name>.<name>",
                f"CONSUMER.DURABLE.CREATE.{stream}.<name>",
                f"CONSUMER.PAUSE.{stream}.<name>",
                f"STREAM.DELETE.{stream}",
                f"STREAM.MSG.DELETE.{stream}",
                f"STREAM.LEADER.STEPDOWN.{stream}",
                f"STREAM.PEER.REMOVE.{stream}",
            )
        ),
        *(f"$JS.API.STREAM.PURGE.{stream}" for stream in ("MARKET-<shard>", "POSITIONS", "EXPOSURE", "KV_quotes")),
        *(f"$JS.API.STREAM.{request}.ANOTHER" for request in ("CREATE", "UPDATE", "DELETE")),
        "$JS.API.META.LEADER.STEPDOWN",
        "$JS.API.ACCOUNT.PURGE.G",
        "$JS.ACK.MARKET-<shard>.<name>",
        "$JS.FC.<name>",
        "$SYS.REQ.SERVER.PING",
        "anything.else",
    ],
    "subscribe": ["$JS.API.>", "$SYS.>", ">"],
}
"""Subjects that no user is granted; the test tries them as each user."""


def sample(label: str) -> str:
    """Return a subject that matches a row's label."""
    return re.sub(r"<(\w+)>", lambda found: SAMPLES[found[1]], label)


def allowed(operation: str, label: str) -> dict[str, bool]:
    """Return for each user whether the operation is granted."""
    subject = sample(label)
    return {
        user: any(matches(pattern, subject) for pattern in getattr(grant, operation)) for user, grant in GRANTS.items()
    }


def made(text: str) -> str:
    """Return the page with the tables that follow from the grants."""
    before, heading, tables = text.partition(HEADING)
    return before + heading + re.sub(r"(?:^\|.*\n)+", lambda found: _table(found[0]), tables, flags=re.MULTILINE)


def _table(text: str) -> str:
    operation = text.split()[1]
    rows = {label: allowed(operation, label) for label in re.findall(r"^\| `(.+?)`", text, re.MULTILINE)}
    users = [user for user in GRANTS if any(may[user] for may in rows.values())]
    lines = [[operation, *users], ["---", *[":---:"] * len(users)]]
    lines += [
        [f"`{label}`", *("yes" if may[user] else "" for user in users)]
        for label, may in rows.items()
        if any(may.values())
    ]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


if __name__ == "__main__":
    PAGE.write_text(made(PAGE.read_text()))
