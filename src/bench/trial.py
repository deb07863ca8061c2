"""A trial: the parameters and the load generator with which a row measures."""

import asyncio
import secrets
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from bench.generator import Job, Load
from bench.stage import CouldNotMeasure, Stage
from stack import process_tree


class Skipped(Exception):  # noqa: N818 # a state, not an error
    """A row cannot be measured on this machine, although nothing failed; the message says what is missing."""


class Trial:
    """The measurement of one row.

    Attributes:
        short: True to measure only briefly.
        folder: the folder for all its files.
        report: prints a line.
    """

    def __init__(self, folder: Path, *, short: bool, report: Callable[[str], None]) -> None:
        self.folder = folder
        self.short = short
        self.report = report

    def repeats(self, full: int) -> int:
        """Return how often to measure."""
        return 1 if self.short else full

    def seconds(self, full: float) -> float:
        """Return how many seconds to measure each time."""
        return min(full, 0.5) if self.short else full

    @property
    def warm_up(self) -> float:
        """Seconds for which a generator sends orders before it measures."""
        return 0.2 if self.short else 0.5

    async def load(
        self,
        stage: Stage,
        url: str,
        symbols: list[str],
        connections: int,
        seconds: float,
        *,
        rate: float | None = None,
        rejections: bool = False,
        overload: bool = False,
    ) -> "Measured":
        """Send orders with a load generator, in an open loop at `rate` or else in a closed loop.

        With `rejections`, orders may find nothing to execute against. With `overload`, they may be refused, or dropped
        because no connection is free.

        Raises:
            CouldNotMeasure: the generator failed, or an order had another outcome.
        """
        job = Job(
            url=url,
            prefix=f"b{secrets.token_hex(4)}",
            symbols=symbols,
            connections=connections,
            seconds=seconds,
            rate=rate,
            give_up=overload,
            warm_up=self.warm_up,
        )
        stage.check()
        before = stage.processor_seconds()
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "bench.generator",
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            preexec_fn=process_tree.die_with_parent,
        )
        output, errors = await process.communicate(msgspec.json.encode(job))
        if process.returncode:
            raise CouldNotMeasure(f"the generator failed: {errors.decode(errors='replace')[-2000:]}")
        stage.check()
        after = stage.processor_seconds()
        load = msgspec.json.decode(output, type=Load)
        unfilled = (0 if overload else load.refused) + (0 if rejections else load.rejected)
        if unfilled:
            raise CouldNotMeasure(f"{unfilled} of {load.sent} orders were not filled, such as {load.example}")
        spent = {name: (after[name] - before[name]) * 1e6 / load.sent for name in before}
        return Measured(load, {"generator": load.processor, **spent})


@dataclass(frozen=True, slots=True)
class Measured:
    """The result of a generator, and the processor time of each process meanwhile, in microseconds per order."""

    load: Load
    processor: dict[str, float]
