"""The cost of a web server by itself: an ASGI app without a framework that reads an order and gives a fixed answer.

It is served by uvicorn, like the no-op Litestar app. `python -m bench.asgi PORT`
"""

import sys
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import msgspec

from bench.noop import example

_Message = MutableMapping[str, Any]

_BODY = msgspec.json.encode(example("bare-1"))
_START = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(_BODY))],
}
_REST = {"type": "http.response.body", "body": _BODY}


async def app(
    scope: _Message, receive: Callable[[], Awaitable[_Message]], send: Callable[[_Message], Awaitable[None]]
) -> None:
    """Answer as if the order had been filled."""
    if scope["type"] != "http":
        return
    while (await receive()).get("more_body"):
        pass
    await send(_START)
    await send(_REST)


def main() -> None:
    """Run until stopped."""
    import uvicorn  # a dependency of tests and benchmarks only

    uvicorn.run(
        app,
        host="127.0.0.1",
        port=int(sys.argv[1]),
        loop="uvloop",
        http="httptools",
        lifespan="off",
        log_config=None,
        access_log=False,
    )


if __name__ == "__main__":
    main()
