"""The fastest possible server: a fixed answer to any input. The rate that a generator reaches here is its own limit.

`python -m bench.bare PORT`
"""

import asyncio
import sys
from typing import Any

import msgspec
import uvloop

from bench.noop import example

_BODY = msgspec.json.encode(example("bare-1"))
_ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(_BODY) + _BODY


class _Responder(asyncio.Protocol):
    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, _: bytes) -> None:
        self._transport.write(_ANSWER)


async def main() -> None:
    """Answer until killed."""
    server = await asyncio.get_running_loop().create_server(_Responder, "127.0.0.1", int(sys.argv[1]))
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
