"""How we use JetStream; the only package that talks to the broker.

- `connection`: one connection per process, which contains the client's known faults.
- `api`: requests to the JetStream API, and their errors.
- `topology`: declares every stream and bucket.
- `journal`: compare-and-append, the one way to write to a log.
- `tail`: follows a stream without gaps or repeats. `reader`: the same by polling, for users who may not create
  consumers.
- `bootstrap`: the messages with which a fold begins. `read_barrier`: keeps reads from being answered from a stale fold.
- `rpc`: requests between services. `packs`: several of them in one message.
- `presence`: which instances of a service are present. `process_poller`: the reports of all processes.
- `pacing`: how often projections are written.
- `grants`: who may do what on the broker.
"""

import importlib
import sys

if "aiohttp" not in sys.modules:
    # nats-py imports aiohttp if it is installed, for websockets, which we do not use. That takes a quarter of a second
    # of every start. If the import fails, nats-py works without it; afterwards others can import it again.
    sys.modules["aiohttp"] = None  # type: ignore[assignment] # None makes an import fail
    importlib.import_module("nats.aio.transport")
    del sys.modules["aiohttp"]
