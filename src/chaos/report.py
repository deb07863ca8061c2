"""The report of a run, as text and as JSON."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from audit import findings as audit
from audit.findings import Verdict as Invariant
from chaos.checker import Findings
from chaos.recovery import Figures, Recovery, figures
from stack.table import columns
from wire import subjects

SHOWN = 10
"""How many findings of one kind are printed."""

RUNNING = "running"
STOPPED = "stopped"
"""When the replicas are compared: while the system runs, and after it was stopped."""

Verdict = Literal["clean", "refuted"]


class FaultCount(msgspec.Struct, frozen=True, kw_only=True):
    """Faults of one kind on one target."""

    kind: str
    target: str
    count: int


class TargetRecovery(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds from a fault's end: until the process was ready, and until an order was filled."""

    target: str
    ready: Figures
    trading: Figures


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """The report of a run.

    Attributes:
        verdict: `clean` if there is no finding and the audit refutes nothing, else `refuted`.
        command: the command that repeats the run.
        seed: the seed of the faults and orders.
        minutes: how long faults were injected.
        faults: the faults that were injected.
        missed: the faults that were not, because the process was down at that moment.
        skipped: the kinds of faults that are not possible on this machine, and why.
        orders: the number of orders by outcome.
        fills: the number of fills in the market log.
        recovery: the recoveries, by target.
        healed_s: seconds after the last fault until all was ready and every symbol quoted; None if that did not happen.
        rebuilt_s: for each lost store, the seconds until the server held everything again.
        damage: how often damage was harmless (`well`), and how often it was reported and repaired (`repaired`).
        attacks: the number of attacks with readers' keys, by kind.
        attacks_refused: how often the broker reported that it refused one.
        copies: for a cluster, the audit's verdict on its replicas: while running, and when stopped.
        definitions: the number of acknowledged changes of instruments.
        samples: how often the limit was checked.
        most_sampled: the most lots in use on one side, as reported by services.
        most_shown: the most lots that were active on one side at any instant, by the market log.
        lost: acknowledged fills that are not in the log.
        doubled: orders and fills that are in the log more than once.
        unknown: orders whose outcome never became known.
        refuted: all other contradictions, and whatever did not recover.
        audit: the audit's output.
        invariants: the verdicts of the last audit.
        log_errors: the number of errors that services logged, by service and event.
    """

    verdict: Verdict
    command: str
    seed: int
    minutes: float
    faults: list[FaultCount]
    missed: list[FaultCount]
    skipped: dict[str, str]
    orders: dict[str, int]
    fills: int
    recovery: list[TargetRecovery]
    healed_s: float | None
    rebuilt_s: list[float]
    damage: dict[str, int]
    attacks: dict[str, int]
    attacks_refused: int
    copies: dict[str, str]
    definitions: int
    samples: int
    most_sampled: int
    most_shown: int
    lost: list[str]
    doubled: list[str]
    unknown: list[str]
    refuted: list[str]
    audit: str
    invariants: list[Invariant]
    log_errors: dict[str, int]


def counts(counter: Mapping[tuple[str, str], int]) -> list[FaultCount]:
    """Return a counter by (kind, target) as a list."""
    return [FaultCount(kind=kind, target=target, count=count) for (kind, target), count in sorted(counter.items())]


def by_target(recoveries: Sequence[Recovery]) -> list[TargetRecovery]:
    """Return the figures of each target that had a fault."""
    found: dict[str, list[Recovery]] = defaultdict(list)
    for recovery in recoveries:
        found[recovery.fault.target].append(recovery)
    return [
        TargetRecovery(
            target=target,
            ready=figures([(r.ready_after, r.ready_clear) for r in own if r.ready_after is not None]),
            trading=figures([(r.trading_after, r.trading_clear) for r in own if r.trading_after is not None]),
        )
        for target, own in sorted(found.items())
    ]


def copy_findings(when: str, copies: audit.Verdict) -> list[str]:
    """Return why the audit could not prove that all servers of a cluster hold the same, as they must after recovery.

    Differences of buckets do not count when the stack is stopped: keys expire while servers stop one after the other.
    """
    if copies.status is audit.Status.PROVED:
        return []
    buckets = tuple(subjects.bucket_stream(bucket) for bucket in (subjects.RESERVATIONS_BUCKET, subjects.QUOTES_BUCKET))
    remarks = copies.remarks + [finding.detail for finding in copies.findings]
    return [f"copies, {when}: {why}" for why in remarks if when != STOPPED or not why.startswith(buckets)]


def verdict(findings: Findings, audit_refuted: bool) -> Verdict:
    """Return the verdict on a run."""
    return "clean" if findings.clean and not audit_refuted else "refuted"


def conclusion(report: Report) -> str:
    """Return the result of a run as a sentence."""
    if report.verdict == "clean":
        return (
            f"{report.fills:,} fills, each in the log once and in the positions once; at most {report.most_shown} lots "
            "shown on a side; nothing lost, doubled or over the limit."
        )
    findings = [*report.lost, *report.doubled, *report.unknown, *report.refuted]
    unproved = [invariant for invariant in report.invariants if invariant.status is audit.Status.REFUTED]
    return f"{len(findings)} findings, {len(unproved)} invariants"


def text(report: Report) -> str:
    """Return the report as text."""
    blocks = [_faults(report), _recovery(report), _orders(report)]
    if report.attacks:
        blocks.append(_attacks(report))
    if report.log_errors:
        rows = [("errors logged", "")] + [(event, str(count)) for event, count in sorted(report.log_errors.items())]
        blocks.append(columns(rows))
    if report.copies:
        blocks.append("\n".join(f"copies, {when}: {remarks}" for when, remarks in report.copies.items()))
    if report.audit:
        blocks.append(report.audit)
    blocks += [_listed(name, found) for name, found in _findings(report).items() if found]
    summary = "  ".join(f"{name}={len(found)}" for name, found in _findings(report).items())
    blocks.append(f"{report.verdict.upper()}: {summary}\nseed {report.seed}; again: {report.command}")
    return "\n\n".join(blocks)


def _faults(report: Report) -> str:
    kinds = sorted({fault.kind for fault in report.faults})
    targets = sorted({fault.target for fault in report.faults})
    found = {(fault.kind, fault.target): fault.count for fault in report.faults}
    rows: list[tuple[str, ...]] = [("faults", *kinds, "all")]
    for target in targets:
        row = [found.get((kind, target), 0) for kind in kinds]
        rows.append((target, *(str(count or "-") for count in row), str(sum(row))))
    sums = [sum(count for (of, _), count in found.items() if of == kind) for kind in kinds]
    rows.append(("all", *map(str, sums), str(sum(sums))))
    lines = [columns(rows)]
    lines += [
        f"missed: {miss.count} {miss.kind} of {miss.target}, which was down at that moment" for miss in report.missed
    ]
    lines += [f"skipped: {kind}: {why}" for kind, why in report.skipped.items()]
    return "\n".join(lines)


def _recovery(report: Report) -> str:
    rows: list[tuple[str, ...]] = [
        ("seconds after a fault's end", "ready: median", "worst", "trading: median", "worst", "worst with others")
    ]
    for found in report.recovery:
        disturbed = [f.worst_disturbed for f in (found.ready, found.trading) if f.worst_disturbed is not None]
        figures_ = (found.ready.median, found.ready.worst, found.trading.median, found.trading.worst)
        rows.append((found.target, *(_seconds(value) for value in figures_), _seconds(max(disturbed, default=None))))
    healed = "never" if report.healed_s is None else f"{report.healed_s:.1f} s"
    lines = [columns(rows), f"healed after the last fault: {healed}"]
    if report.rebuilt_s:
        lines.append(f"lost stores rebuilt after: {', '.join(f'{seconds:.1f} s' for seconds in report.rebuilt_s)}")
    if report.damage:
        lines.append(f"damage: {', '.join(f'{count} {how}' for how, count in sorted(report.damage.items()))}")
    return "\n".join(lines)


def _attacks(report: Report) -> str:
    rows = [("attacks with a reader's key", f"{sum(report.attacks.values()):,}")]
    rows += [(f"  {kind}", f"{count:,}") for kind, count in report.attacks.items()]
    rows.append(("refused by the broker", f"{report.attacks_refused:,}"))
    return columns(rows)


def _orders(report: Report) -> str:
    rows = [("orders", f"{sum(report.orders.values()):,}")]
    rows += [(f"  {outcome}", f"{count:,}") for outcome, count in report.orders.items()]
    rows += [
        ("fills in the log", f"{report.fills:,}"),
        ("changes of an instrument", f"{report.definitions:,}"),
        ("checks of the limit", f"{report.samples:,}"),
        ("most in use, as sampled", f"{report.most_sampled} lots"),
        ("most shown, by the log", f"{report.most_shown} lots"),
    ]
    return columns(rows)


def _findings(report: Report) -> dict[str, list[str]]:
    return {
        "unknown": report.unknown,
        "lost": report.lost,
        "doubled": report.doubled,
        "refuted": report.refuted,
    }


def _listed(name: str, found: Sequence[str]) -> str:
    shown = [f"  {finding}" for finding in found[:SHOWN]]
    if len(found) > SHOWN:
        shown.append(f"  and {len(found) - SHOWN} more")
    return "\n".join([f"{name}:", *shown])


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
