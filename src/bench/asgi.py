"""What a web server costs by itself: an ASGI app without a framework, which reads an order and always answers the same.

It is served by uvicorn, as the no-op Litestar app is. `python -m bench.asgi PORT`
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
    """Answer as if it had been filled."""
    if scope["type"] != "http":
        return
    while (await receive()).get("more_body"):
        pass
    await send(_START)
    await send(_REST)


def main() -> None:
    """Run until told to stop."""
    import uvicorn  # it is there for tests and benchmarks only

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
