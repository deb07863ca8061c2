"""How we use JetStream, and the only package that talks to it.

- `connection`: one connection a process, with the client's known faults contained.
- `api`: requests to the JetStream API and their errors.
- `topology`: every stream and bucket, declared.
- `journal`: compare-and-append, the one way to write to a log.
- `tail`: following a stream with no gap and no repeat; `reader`: the same by asking, for who may make no consumer.
- `bootstrap`: the messages with which a fold begins; `presence`: which instances of a service are there.
- `rpc`: requests between services; `packs`: several of them in one message.
- `pacing`: how often what is only for watchers is written.
- `grants`: who may do what on the broker.
"""

import importlib
import sys

if "aiohttp" not in sys.modules:
    # nats-py imports it, where it is installed, for websockets, which nobody here uses: a quarter of a second of every
    # start. Kept from it for as long as it looks, it goes on without.
    sys.modules["aiohttp"] = None  # type: ignore[assignment] # as the import system has it
    importlib.import_module("nats.aio.transport")
    del sys.modules["aiohttp"]
