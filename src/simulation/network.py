"""One direction of a connection: what is sent arrives in the order it was sent, late, or never if the connection ends.

As with TCP nothing is lost or changes its order within a connection; what is lost is lost with the connection. While a
direction is held up, as by a partition or a peer that reads nothing, what is sent waits and arrives afterwards.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from heapq import heappush
from math import log
from random import Random
from typing import Any

from simulation.world import World


@dataclass(slots=True)
class Latency:
    """How long messages take: `least` seconds, `spread` more on average, and now and then `slow` more."""

    least: float = 0.0001
    spread: float = 0.0002
    slow: float = 0.0
    slow_share: float = 0.0

    def draw(self, rng: Random) -> float:
        """Of one message."""
        seconds = self.least - self.spread * log(1.0 - rng.random())
        if self.slow_share and rng.random() < self.slow_share:
            seconds += self.slow * rng.random()
        return seconds


class Channel:
    """One direction.

    Attributes:
        held: nothing arrives for now.
    """

    def __init__(self, world: World, latency: Latency, deliver: Callable[..., None]) -> None:
        self.held = False
        self._world = world
        self._latency = latency
        self._deliver = deliver
        self._last = 0.0
        self._epoch = 0
        self._waiting: deque[tuple[Any, ...]] = deque()
        self._arriving = self._arrive  # bound once: there are many
        self._chance = world.network

    def send(self, *what: Any) -> None:
        """Have something arrive."""
        world, latency = self._world, self._latency
        when = world.now + latency.draw(self._chance)
        if when <= self._last:
            when = self._last + 1e-9
        self._last = when
        heappush(world.events, (when, next(world.numbers), self._arriving, (self._epoch, what)))

    def _arrive(self, epoch: int, what: tuple[Any, ...]) -> None:
        if epoch != self._epoch:
            return
        if self.held:
            self._waiting.append(what)
        else:
            self._deliver(*what)

    def hold(self) -> None:
        """Let nothing arrive for now."""
        self.held = True

    def release(self) -> None:
        """Let everything arrive again, first what waited."""
        self.held = False
        while self._waiting and not self.held:
            self._deliver(*self._waiting.popleft())

    def cut(self) -> None:
        """Lose what is under way."""
        self._epoch += 1
        self._waiting.clear()
