"""`stack prepare`: make the streams and buckets what they are declared to be, once, before the services need them."""

from jet.api import ApiError
from jet.connection import Connection
from jet.topology import Shape, TopologyRefused, prepare
from runtime import tls
from runtime.health import Health
from stack import keys
from stack.applied import lost
from stack.programs import REFUSED
from stack.settings import StackSettings


async def run(settings: StackSettings) -> int:
    """Wait for the server, then declare everything. Returns 0, or REFUSED or 1 with a message."""
    market = settings.market
    shape = Shape(
        shards=market.shards,
        replicas=market.replicas,
        max_bytes=market.max_bytes,
        duplicate_window=market.id_window,
        reservation_life=market.reservation_life,
    )
    seed, asking = keys.seed_of(settings, "operator"), tls.asking(settings.stack)
    async with Connection(settings.stack.url, "prepare", Health("prepare"), seed, asking) as connection:
        try:
            gone = await lost(connection, settings)
            if gone:
                print(f"no stream is made: {gone}")
                return REFUSED
            changes = await prepare(connection, shape)
        except TopologyRefused as refused:
            print(f"the streams cannot be made as declared: {refused}")
            return REFUSED
        except TimeoutError:
            print("JetStream did not answer in time")
            return 1
        except ApiError as error:
            print(f"JetStream cannot tell yet: {error}")
            return 1
    print("\n".join(changes) or "every stream is as declared")
    return 0
