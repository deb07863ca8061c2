"""Mutation testing: small sabotages of the code, each of which some seed must find.

Each is applied to a copy of the source. Seeds run on that copy until one fails or the time is up.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

SOURCE = Path(__file__).parents[1]

PATIENCE = 600.0
"""Real seconds within which a mutation must be found."""


class Mutation(NamedTuple):
    """A change of the code: in `file`, the only occurrence of `old` becomes `new`; likewise for each of `more`."""

    name: str
    file: str
    old: str
    new: str
    more: tuple[tuple[str, str, str], ...] = ()


MUTATIONS = [
    # --- jet: appending and following
    Mutation(
        "no compare with a symbol's head",
        "jet/journal.py",
        'headers["Nats-Expected-Last-Subject-Sequence"] = str(compare.sequence)',
        "pass",
    ),
    Mutation(
        "no compare with a bucket's head",
        "jet/journal.py",
        'headers["Nats-Expected-Last-Sequence"] = str(compare.sequence)',
        "pass",
    ),
    Mutation(
        "the head is always reported as 0",
        "jet/journal.py",
        "    return found.seq if found else 0\n",
        "    return 0\n",
    ),
    Mutation(
        "a gap in the deliveries is not noticed",
        "jet/tail.py",
        "if order != consumer.delivered + 1:",
        "if False:",
    ),
    Mutation(
        "a restarted tail skips one message",
        "jet/tail.py",
        '"opt_start_seq": self.sequence + 1}',
        '"opt_start_seq": self.sequence + 2}',
    ),
    Mutation(
        "missing heartbeats are not noticed", "jet/tail.py", "            if consumer.silent:", "            if False:"
    ),
    Mutation(
        "a tail reports itself current too early",
        "jet/tail.py",
        "        if self._is_at_end and not self._missing.subjects:",
        "        if True:",
    ),
    # --- wire: the fold that all share
    Mutation(
        "the bid quantity that a fill leaves is not folded",
        "wire/market.py",
        "        self.remaining_bid = last.remaining_bid_quantity\n",
        "",
    ),
    Mutation(
        "a quote never expires",
        "wire/market.py",
        'return "active" if now < self.event.expires_at else "expired"',
        'return "active"',
    ),
    # --- exchange
    Mutation(
        "a fill is answered before it is appended",
        "exchange/lane.py",
        "                payload = msgspec.json.encode(decided.fills)\n",
        "                payload = msgspec.json.encode(decided.fills)\n"
        "                for early, answer in zip(batch, decided.answers, strict=True):\n"
        "                    if not isinstance(answer, Refused):\n"
        "                        self._queue.reply(early, answer)\n",
    ),
    Mutation(
        "a rejection is answered without confirming the head",
        "exchange/lane.py",
        "                    if not await self._is_final():\n                        continue\n                except",
        "                    pass\n                except",
    ),
    Mutation(
        "a rejection is answered although the head has moved",
        "exchange/symbol_log.py",
        "        return self.market.head != head\n",
        "        return False\n",
    ),
    Mutation(
        "a rejection for expiry is answered before the expiry is in the log",
        "exchange/lane.py",
        "        ended = book.expiry(self.market, self._clock())\n",
        "        ended = None\n",
    ),
    Mutation(
        "an exchange does not remember what it executed",
        "exchange/lane.py",
        "                self._dedup.commit(self._shard, decided.fills)\n",
        "                self._dedup.abort(decided.fills)\n",
    ),
    Mutation(
        "an exchange does not read the order ids from before its start",
        "exchange/books.py",
        "            await self._remember(shard, newest)\n",
        "            pass\n",
    ),
    Mutation(
        "an exchange does not remember what others executed",
        "exchange/books.py",
        "                if fault is None and remember:",
        "                if False:",
    ),
    Mutation(
        "an order id that executed is not looked up",
        "exchange/book.py",
        "known = executed.get(order.order_id) or dedup.get(order.order_id)",
        "known = executed.get(order.order_id)",
    ),
    Mutation(
        "an append that lost its compare keeps its order ids taken",
        "exchange/lane.py",
        "                if sequence is None:\n                    self._dedup.abort(decided.fills)\n",
        "                if sequence is None:\n",
    ),
    Mutation(
        "more is executed than remains",
        "exchange/book.py",
        "quantity = min(order.quantity, remaining[order.side])",
        "quantity = order.quantity",
    ),
    Mutation(
        "a limit price is not checked",
        "exchange/book.py",
        "        if not _crosses(order, price):",
        "        if False:",
    ),
    Mutation(
        "the attempt of a quote is not compared",
        "exchange/book.py",
        "    return version > latest and version.revision",
        "    return version.position_version >= latest.position_version and version.revision",
    ),
    Mutation(
        "a quote outlives its reservation",
        "exchange/book.py",
        "        expires_at=reservation.expires_at,\n",
        "        expires_at=reservation.expires_at + 2 * (reservation.expires_at - reservation.granted_at),\n",
    ),
    Mutation(
        "a command is decided after its client was answered that nothing was done",
        "exchange/command_queue.py",
        "return not self.answer.done() and time.monotonic() < self.deadline",
        "return True",
    ),
    Mutation(
        "an append in flight is answered as if nothing had been done",
        "exchange/command_queue.py",
        'Refused(Refusal.OUTCOME_UNKNOWN, "the market log has not answered yet")',
        'Refused(Refusal.UNAVAILABLE, "the market log has not answered yet")',
    ),
    Mutation(
        "an exchange that was paused executes old orders",
        "exchange/service.py",
        "            if self._stall_detector.stalled:",
        "            if False:",
    ),
    Mutation(
        "a quote is projected without a compare",
        "exchange/projection.py",
        "compare=Compare(revision, key)",
        'compare=Compare(0, "$KV.quotes.none")',
    ),
    # --- exposure
    Mutation(
        "a grant is not compared with the limit",
        "exposure/limits.py",
        "        bid = min(request.bid_quantity, max(0, self._limit - others.bid))\n",
        "        bid = request.bid_quantity\n",
    ),
    Mutation(
        "the smallest of a symbol's reservations counts",
        "exposure/usage.py",
        "        bid, ask = max(bid, lots.bid), max(ask, lots.ask)\n",
        "        bid, ask = min(bid or lots.bid, lots.bid), min(ask or lots.ask, lots.ask)\n",
    ),
    Mutation(
        "a grant is appended without a compare",
        "exposure/commit.py",
        "compare=journal.Compare(self._limits.usage.head)",
        'compare=journal.Compare(0, "$KV.reservations.none")',
    ),
    Mutation(
        "a grant is answered but not written",
        "exposure/commit.py",
        "            for write in decision.writes:\n",
        '            for write in (each for each in decision.writes if each.event != "granted"):\n',
    ),
    Mutation(
        "a reservation counts only once it is activated",
        "exposure/reservation_state.py",
        'if record.state != "active" or end_reason(record, market):',
        'if record.state != "active" or record.activated_at is None or end_reason(record, market):',
    ),
    Mutation(
        "a reservation ends with its own quote",
        "exposure/reservation_state.py",
        "    if version < market.version:",
        "    if version <= market.version:",
    ),
    Mutation(
        "the filled part of a quote stays reserved",
        "exposure/reservation_state.py",
        "return Lots(min(reserved.bid, market.remaining_bid), min(reserved.ask, market.remaining_ask))",
        "return reserved",
    ),
    Mutation(
        "a reservation lives three times as long as a quote may",
        "exposure/limits.py",
        "expires_at=now + self._lifetime if record",
        "expires_at=now + 3 * self._lifetime if record",
    ),
    Mutation(
        "a new lifetime of quotes is ignored",
        "exposure/limits.py",
        "        self._limit = limit\n        self._lifetime = lifetime\n        self._symbols",
        "        self._limit = limit\n        self._symbols",
    ),
    Mutation(
        "a reservation that no quote uses lives as long as a quote",
        "exposure/limits.py",
        "expires_at=now + min(self._grant_ttl, self._lifetime),",
        "expires_at=now + self._lifetime,",
    ),
    Mutation(
        "a reservation that no quote uses is granted again before it expires",
        "exposure/limits.py",
        "and now >= known.expires_at)",
        "and now >= known.granted_at)",
    ),
    Mutation(
        "a resent reservation is granted again",
        "exposure/limits.py",
        "            return Decision(self._first_answer(known, request))\n",
        "            pass\n",
    ),
    Mutation(
        "an activation is not written",
        "exposure/limits.py",
        '        write = Write(activated, "activated") if activated != record else None\n',
        "        write = None\n",
    ),
    Mutation(
        "an exchange may deactivate an activation that another has made",
        "exposure/limits.py",
        'if record is None or view.state != "active" or record.activation != request.activation:',
        'if record is None or view.state != "active":',
    ),
    Mutation(
        "a second activation may be deactivated",
        "exposure/limits.py",
        "request.activation if before is None or record.activation == request.activation else None",
        "request.activation",
    ),
    Mutation(
        "a reservation that backs a quote may be released",
        "exposure/limits.py",
        "        if record.activated_at is not None:\n            raise Refused(Refusal.RESERVATION_ACTIVATED",
        "        if False:\n            raise Refused(Refusal.RESERVATION_ACTIVATED",
    ),
    Mutation(
        "an unused reservation never expires",
        "exposure/usage.py",
        "        while self._deadlines and self._deadlines[0][0] < self.time:",
        "        while False:",
    ),
    # --- ledger
    Mutation(
        "a position is published before it is committed",
        "ledger/applier.py",
        "            try:\n                await self._store.commit(changes, self._clock())\n",
        "            try:\n"
        "                self._on_commit([account.update for account in changes.accounts.values()])\n"
        "                await self._store.commit(changes, self._clock())\n",
    ),
    Mutation(
        "a buy raises the position",
        "ledger/money.py",
        'signed = -quantity if fill.side == "buy" else quantity',
        "signed = quantity",
    ),
    Mutation(
        "a closed position keeps its cost",
        "ledger/money.py",
        "ROUNDING.quantize(ROUNDING.divide(cost * quantity, abs(net)), MONEY_STEP)",
        "ZERO",
    ),
    Mutation(
        "a fee ignores the multiplier",
        "wire/instruments.py",
        "EXACT.multiply(EXACT.multiply(price, quantity), self.multiplier)",
        "EXACT.multiply(price, quantity)",
    ),
    Mutation(
        "an old position is published over a newer one",
        "ledger/publisher.py",
        "        if head.version >= version:",
        "        if False:",
    ),
    Mutation(
        "a position that was committed but not published is not published at the next start",
        "ledger/service.py",
        "            self._on_commit([account.update for account in books.accounts.values()])\n",
        "            for account in books.accounts.values():\n"
        "                self.updates.publish(account.symbol, account.update)\n",
    ),
    Mutation(
        "an update that arrives during a publish is lost",
        "ledger/publisher.py",
        "if done and self._newest[symbol] is offer:",
        "if done:",
    ),
    Mutation(
        "a restarted ledger skips one message",
        "ledger/service.py",
        "self._applier.books.applied.get(shard, 0) + 1",
        "self._applier.books.applied.get(shard, -1) + 2",
    ),
    Mutation("a commit is undone", "ledger/store.py", 'database.execute("COMMIT")', 'database.execute("ROLLBACK")'),
    Mutation(
        "a reported fill is not looked up",
        "ledger/recorder.py",
        "        found = (await self._store.recorded([fill.fill_id])).values()\n",
        "        found = (await self._store.recorded([])).values()\n",
    ),
    # --- maker
    Mutation(
        "a paused maker quotes",
        "maker/plan.py",
        "    if view.paused:\n        if memory.swept",
        "    if False:\n        if memory.swept",
    ),
    Mutation(
        "every quote of a position is its first attempt",
        "maker/plan.py",
        "    attempt = tried + 1 if tried < quoted + ATTEMPTS_AHEAD else quoted + 1\n",
        "    attempt = 1\n",
    ),
    Mutation(
        "a maker names a revision but prices by the one before",
        "maker/quoter.py",
        "        self.listing = listing\n        self.view.relist(listing)",
        "        self.listing = type(listing)(self.listing.instrument, 9, listing.revision)\n"
        "        self.view.relist(listing)",
    ),
    Mutation(
        "a feed's price moves but the revision does not",
        "wire/definitions.py",
        "revision = before.revision if before is not None and given.price == before.price else 0",
        "revision = before.revision if before is not None else 0",
    ),
    Mutation(
        "a maker does not replace a quote of an older revision",
        "maker/plan.py",
        "    same = basis(version) == made_from\n",
        "    same = version.position_version == position.position_version\n",
    ),
    Mutation(
        "a maker quotes what is paused for its loss",
        "maker/plan.py",
        "    if view.loss_pause is not None:\n        return Withdraw",
        "    if view.loss_pause is not None and not view.current:\n        return Withdraw",
    ),
    Mutation(
        "a ledger ignores losses that new reference prices cause",
        "ledger/losses.py",
        "        self._changed.update(listings)\n",
        "",
    ),
    # --- faults that were real once, and are fixed
    Mutation(
        "a resume is lost on a maker whose own pause is not in the log yet",
        "maker/killswitch.py",
        "(Log.OFF_SINCE, Held.TIMED_OUT): (SwitchState.QUOTING, Held.NO)",
        "(Log.OFF_SINCE, Held.TIMED_OUT): (SwitchState.HOLDING, Held.TIMED_OUT)",
    ),
    Mutation(
        "each copy of a put makes another activation",
        "exchange/pending_quotes.py",
        "        pending = self._pending.get(request)\n",
        "        pending = None\n",
        (
            (
                "exchange/pending_quotes.py",
                "        del self._pending[pending.request]\n",
                "        self._pending.pop(pending.request, None)\n",
            ),
        ),
    ),
    Mutation(
        "a withdrawal without a quote id withdraws whatever is active when it is decided",
        "exchange/lane.py",
        "            withdrawal.quote_id = event.quote_id",
        "            pass",
    ),
    Mutation(
        "order ids age by the machine's clock",
        "exchange/order_dedup.py",
        "                and memory.log_time - past[0].log_time > self._seconds\n",
        "",
        (
            (
                "exchange/service.py",
                "self._dedup.tick(time.monotonic())",
                "self._dedup.tick(self.clock._clock().timestamp())",
            ),
            (
                "exchange/books.py",
                "self._dedup.replayed(shard, time.monotonic())",
                "self._dedup.replayed(shard, self._bucket._clock._clock().timestamp())",
            ),
        ),
    ),
    # --- what must be refused
    Mutation(
        "a resent order is compared by its id alone",
        "exchange/book.py",
        "if sent != (known.symbol, known.side, known.order_quantity, known.limit_price):",
        "if False:",
    ),
    Mutation(
        "a quote may be of a position that no fill has led to",
        "exchange/book.py",
        "if request.position_version > market.fill_number:",
        "if False:",
    ),
    Mutation(
        "a quote may exceed its reservation",
        "exposure/limits.py",
        "if requested > reserved:",
        "if False:",
    ),
    Mutation(
        "a reservation may be requested again with other quantities",
        "exposure/limits.py",
        "if first != (request.symbol, request.bid_quantity, request.ask_quantity):",
        "if False:",
    ),
    Mutation(
        "a reservation may be released under an active quote",
        "exposure/limits.py",
        "        if record.activated_at is not None:\n            raise Refused(Refusal.RESERVATION_ACTIVATED",
        "        if False:\n            raise Refused(Refusal.RESERVATION_ACTIVATED",
    ),
]
"""The sabotages."""


class Result(NamedTuple):
    """The result for one mutation: `seed` and `violation` are empty if no seed failed."""

    mutation: Mutation
    seed: str
    violation: str
    seconds: float


def apply(mutation: Mutation, source: Path) -> None:
    """Apply a mutation to a copy of the source.

    Raises:
        ValueError: the text to replace does not occur exactly once.
    """
    for file, old, new in ((mutation.file, mutation.old, mutation.new), *mutation.more):
        path = source / file
        text = path.read_text()
        if text.count(old) != 1:
            raise ValueError(f"{mutation.name}: {file} contains this {text.count(old)} times: {old!r}")
        path.write_text(text.replace(old, new))


def find(mutation: Mutation, first: int, seconds: float, faults: Collection[str] | None = None) -> Result:
    """Run seeds on the changed code until one fails, or for so many real seconds."""
    began = time.monotonic()
    shm = Path("/dev/shm")  # noqa: S108 # memory, where there is some
    with tempfile.TemporaryDirectory(prefix="quotestream-mutation-", dir=shm if shm.is_dir() else None) as folder:
        source = Path(folder) / "src"
        shutil.copytree(SOURCE, source, ignore=shutil.ignore_patterns("__pycache__", "static"))
        apply(mutation, source)
        command = [sys.executable, "-m", "simulation", "--seed", str(first), "--seconds", str(seconds), "--no-smaller"]
        if faults is not None:
            command += ["--faults", ",".join(faults)]
        environment = {**os.environ, "PYTHONPATH": str(source), "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(
            [*command, "--minutes", "0.6"], capture_output=True, text=True, env=environment, cwd=folder, check=False
        )
    took = time.monotonic() - began
    wrong = [line for line in done.stdout.splitlines() if line.startswith("WRONG: ")]
    if done.returncode and not wrong:
        raise RuntimeError(f"{mutation.name}: {done.stderr[-2000:]}")
    seed = next((line.split()[1].rstrip(":") for line in done.stdout.splitlines() if line.startswith("seed ")), "")
    return Result(mutation, seed if wrong else "", wrong[0].removeprefix("WRONG: ") if wrong else "", took)
