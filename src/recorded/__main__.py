"""Print one quote's story as JSON, for the page. `./qs explain` prints it as text."""

import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec
import uvloop

from process import logs, tls
from process.settings import ServiceSettings, SettingsError, load
from recorded.command import CANNOT, PRINTED, UNKNOWN_QUOTE
from recorded.explain import UnknownQuote, explain
from recorded.story import Story
from recorded.streams import CannotRead, connect


class _Settings(ServiceSettings, frozen=True, kw_only=True, forbid_unknown_fields=False):
    """The settings that all services share; those of the page, which starts this, are ignored."""

    port: int = 0


async def _story(quote_id: str) -> Story:
    settings = load(_Settings, "auditor")
    stack = settings.stack
    async with connect(stack.url, stack.nats_seed("auditor"), tls.client_context(stack)) as connection:
        return await explain(connection, settings.market, Path(stack.data_dir, "logs"), quote_id)


def main(arguments: Sequence[str]) -> int:
    """Print the story, and return the exit code."""
    logs.configure("auditor", "critical")
    try:
        story = uvloop.run(_story(*arguments))
    except UnknownQuote as error:
        print(error, file=sys.stderr)
        return UNKNOWN_QUOTE
    except (SettingsError, CannotRead, OSError) as error:
        print(error, file=sys.stderr)
        return CANNOT
    print(msgspec.json.encode(story).decode())
    return PRINTED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
