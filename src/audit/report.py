"""The report of an audit, for people and for programs."""

from datetime import datetime

import msgspec
from rich.console import Console
from rich.text import Text

from audit.conservation import Totals
from audit.findings import Finding, Status, Verdict

_STYLES = {Status.PROVED: "green", Status.REFUTED: "bold red", Status.NOT_CHECKABLE: "yellow"}
_WIDTH = len(Status.NOT_CHECKABLE)
_INDENT = " " * (5 + _WIDTH + 2)


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """The result of an audit.

    Attributes:
        audited: the broker.
        as_of: the instant, by the broker's clock, up to which the market log was read.
        streams: the last sequence of each stream of the market log.
        ledgers: by database, the sequence of each stream that it had applied.
        histories: the history files of the load generator.
        remarks: notes on the whole report.
        verdicts: one for each invariant.
        totals: sums over the log.
    """

    audited: str
    as_of: datetime
    streams: dict[str, int]
    ledgers: dict[str, dict[str, int]]
    histories: list[str]
    remarks: list[str]
    verdicts: list[Verdict]
    totals: Totals

    @property
    def refuted(self) -> list[Verdict]:
        """The verdicts on refuted invariants."""
        return [verdict for verdict in self.verdicts if verdict.status is Status.REFUTED]


def show(report: Report, console: Console) -> None:
    """Print the report for people."""
    against = [*report.ledgers, *report.histories] or ["no ledger's database"]
    console.print(Text(f"{report.audited} as of {report.as_of:%Y-%m-%d %H:%M:%S.%f} UTC, with {', '.join(against)}"))
    for remark in report.remarks:
        console.print(Text(remark, style="yellow"))
    console.print()
    for verdict in report.verdicts:
        _show_verdict(verdict, console)
    console.print()
    for line in _totals(report.totals):
        console.print(Text(line))
    console.print()
    console.print(_conclusion(report))


def _show_verdict(verdict: Verdict, console: Console) -> None:
    status = Text(f"{verdict.status:<{_WIDTH}}", style=_STYLES[verdict.status])
    console.print(Text.assemble(f"{verdict.code:<5}", status, f"  {verdict.statement}"))
    console.print(Text(f"{_INDENT}{verdict.checked}", style="dim"))
    for remark in verdict.remarks:
        console.print(Text(f"{_INDENT}{remark}", style="dim"))
    for finding in verdict.findings:
        console.print(Text(f"{_INDENT}{_place(finding)}{finding.detail}", style="red"))
    more = verdict.contradictions - len(verdict.findings)
    if more:
        console.print(Text(f"{_INDENT}and {more:,} more", style="red"))


def _place(finding: Finding) -> str:
    sequence = f" #{finding.sequence}" if finding.sequence else ""
    subject = f" {finding.subject}" if finding.subject else ""
    named = ", ".join(f"{name} {value}" for name, value in finding.ids.items() if value not in finding.detail)
    return f"{finding.source}{sequence}{subject}{f' ({named})' if named else ''}: "


def _totals(totals: Totals) -> list[str]:
    reported = f" ({totals.reported:,} reported)" if totals.reported else ""
    quotes = ", ".join(f"{count:,} {outcome}" for outcome, count in totals.quotes.items()) or "none"
    traded = f"clients bought {totals.bought_lots:,} lots and sold {totals.sold_lots:,}"
    return [
        f"fills   {totals.fills:,}{reported} of {totals.symbols:,} symbols: {traded}; net {totals.net_quantity:,}",
        f"quotes  {sum(totals.quotes.values()):,}: {quotes}",
    ]


def _conclusion(report: Report) -> Text:
    if report.refuted:
        codes = ", ".join(verdict.code for verdict in report.refuted)
        return Text(f"refuted: {codes}", style="bold red")
    unchecked = [verdict.code for verdict in report.verdicts if verdict.status is Status.NOT_CHECKABLE]
    remark = f"; not checkable: {', '.join(unchecked)}" if unchecked else ""
    return Text(f"nothing is refuted{remark}", style="green")
