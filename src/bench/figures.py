"""The results of a row: each figure is measured several times, each time beside its reference. Pure."""

import math
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Literal

import msgspec

Verdict = Literal["reached", "missed", "no target", "void"]


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """One figure.

    Attributes:
        name: what was measured, within its row.
        unit: the unit of `measured` and `reference`.
        measured: one value per repeat.
        reference: the reference's value in each repeat; empty if there is no reference.
        target: the ratio to reach, or the value itself if there is no reference; None if there is no target.
        aim: a more ambitious target.
        at_most: True if the target is an upper bound rather than a lower one.
        void: why the figure is meaningless; empty if it is meaningful.
        raw: further measurements, by name.
        points: the latencies behind the figure, in milliseconds, sorted, by name: for a plot.
        curves: results by load, by name, as (load, value): for a plot.
    """

    name: str
    unit: str
    measured: list[float]
    reference: list[float] = []
    target: float | None = None
    aim: float | None = None
    at_most: bool = False
    void: str = ""
    raw: dict[str, float | str] = {}
    points: dict[str, list[float]] = {}
    curves: dict[str, list[tuple[float, float]]] = {}

    @property
    def values(self) -> list[float]:
        """The values that are compared with the target, one per repeat: ratios, or plain values without a reference."""
        if not self.reference:
            return self.measured
        return [value / beside for value, beside in zip(self.measured, self.reference, strict=True)]

    @property
    def value(self) -> float:
        """The median of `values`."""
        return median(self.values)

    @property
    def verdict(self) -> Verdict:
        """The result of the comparison with the target."""
        if self.void:
            return "void"
        if self.target is None:
            return "no target"
        reached = self.value <= self.target if self.at_most else self.value >= self.target
        return "reached" if reached else "missed"


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """A row of the table, measured.

    Attributes:
        name: P1, P2, …
        title: what was measured.
        reference: what it is compared with.
        figures: the results.
        skipped: why nothing was measured, although nothing failed.
        failed: why nothing could be measured.
        short: True if it was measured only briefly, which shows little more than that the benchmark works.
        seconds: how long the measurement took.
        at: the time of the measurement, in UTC.
        machine: the machine, as `bench.machine` describes it.
    """

    name: str
    title: str
    reference: str
    figures: list[Figure] = []
    skipped: str = ""
    failed: str = ""
    short: bool = False
    seconds: float = 0.0
    at: str = ""
    machine: dict[str, str] = {}


def percentile(ordered: Sequence[float], percent: float) -> float:
    """Return a percentile of sorted values: the smallest value that `percent` of them do not exceed. 0 if empty."""
    if not ordered:
        return 0.0
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def medians(samples: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the median of each name over the samples that contain it."""
    names = dict.fromkeys(name for sample in samples for name in sample)
    return {name: median(sample[name] for sample in samples if name in sample) for name in names}
