"""Replaces the standard library's time and randomness with those of the simulated process that has its turn.

The services need not know: they call `time.monotonic`, `random` and `secrets` as usual.
"""

import random
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from jet import consumer
from simulation.world import World

_CHANCE = ("random", "uniform", "randrange", "randint", "choice", "shuffle", "sample", "expovariate", "gauss")


@contextmanager
def replaced(world: World, heartbeat: float) -> Iterator[None]:
    """Within the block, replace time and randomness, and set the heartbeat of tails to `heartbeat` seconds."""

    def rng() -> random.Random:
        return world.current.random if world.current is not None else world.order

    def now() -> float:
        return world.now

    def clock_gettime(_: int) -> float:
        return world.current.clock.monotonic if world.current is not None else world.now

    def token_bytes(count: int | None = None) -> bytes:
        return rng().randbytes(32 if count is None else count)

    def token_hex(count: int | None = None) -> str:
        return token_bytes(count).hex()

    def drawn(name: str) -> Any:
        def draw(*what: Any, **more: Any) -> Any:
            return getattr(rng(), name)(*what, **more)

        return draw

    with (
        patch.multiple(time, monotonic=now, perf_counter=now, clock_gettime=clock_gettime),
        patch.multiple(secrets, token_bytes=token_bytes, token_hex=token_hex),
        patch.object(consumer, "HEARTBEAT", heartbeat),
        patch.multiple(random, **{name: drawn(name) for name in _CHANCE}),
    ):
        yield
