"""What a row finds: a figure is measured several times, each time beside its reference. Pure."""

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
        unit: of `measured` and `reference`.
        measured: one value a repeat.
        reference: the reference's value in the same repeat; empty if the figure stands for itself.
        target: what the figure must reach: of the ratio, or of the value itself where there is no reference. None if it
            is only told.
        aim: what it would reach at best.
        at_most: whether the target is an upper bound rather than a lower one.
        void: why the figure says nothing; empty if it does.
        raw: more of what was measured, by name.
        points: latencies behind it, in milliseconds, sorted, by name: for a plot.
        curves: what came of each load, by name, as (load, value): for a plot.
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
        """What is compared with the target, for each repeat: the ratio, or the value where there is no reference."""
        if not self.reference:
            return self.measured
        return [value / beside for value, beside in zip(self.measured, self.reference, strict=True)]

    @property
    def value(self) -> float:
        """The median of `values`."""
        return median(self.values)

    @property
    def verdict(self) -> Verdict:
        """Whether the target was reached."""
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
        reference: beside what.
        figures: what was found.
        skipped: why nothing was measured, though nothing is wrong.
        failed: why nothing could be measured.
        short: measured for a moment only: it shows that the benchmark works, and little else.
        seconds: how long it took.
        at: when, in UTC.
        machine: on what, as `bench.machine` describes it.
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
    """A percentile of sorted values: the smallest that so many percent do not exceed. 0 of none."""
    if not ordered:
        return 0.0
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def medians(samples: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The median of each name over several samples; of those that have it."""
    names = dict.fromkeys(name for sample in samples for name in sample)
    return {name: median(sample[name] for sample in samples if name in sample) for name in names}
