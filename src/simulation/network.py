"""One direction of a connection: messages arrive late and in order, or never if the connection ends.

As with TCP, a message is lost only together with its connection. While a direction is held, as by a partition or a peer
that does not read, messages wait and arrive afterwards.
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
    """How long messages take, in seconds.

    Attributes:
        least: the minimum.
        spread: the average of what is added to it.
        slow: the most that is added to some messages besides.
        slow_share: the share of those messages.
    """

    least: float = 0.0001
    spread: float = 0.0002
    slow: float = 0.0
    slow_share: float = 0.0

    def draw(self, rng: Random) -> float:
        """Return the latency of one message."""
        seconds = self.least - self.spread * log(1.0 - rng.random())
        if self.slow_share and rng.random() < self.slow_share:
            seconds += self.slow * rng.random()
        return seconds


class Channel:
    """One direction of a connection.

    Attributes:
        held: messages wait, and none arrives.
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
        """Send a message: `deliver` is called with it when it arrives."""
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
        """Let no message arrive until `release`."""
        self.held = True

    def release(self) -> None:
        """Let messages arrive again, beginning with those that have waited."""
        self.held = False
        while self._waiting and not self.held:
            self._deliver(*self._waiting.popleft())

    def cut(self) -> None:
        """Lose all messages in flight."""
        self._epoch += 1
        self._waiting.clear()
