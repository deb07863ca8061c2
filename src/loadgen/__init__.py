"""The load generator: sends orders to the exchange over HTTP, as outside clients would, and measures the answers.

In: the symbols and reference prices of `market.toml`, and the options of the command line (`python -m loadgen --help`).
Out: `POST /orders`, a report (table or JSON), and, if asked for, a history of every order sent and every answer.

The load is open loop: orders arrive on a seeded Poisson schedule whatever the answers do, and a latency counts from the
time the order was *meant* to be sent, so that a stalled exchange cannot hide behind orders that were never sent.

An order's way: `flow` draws it, `pacing` says when it is due, `service` hands it to a free sender, `client` posts it
until its outcome is known, `answers` says what that is, `tally` counts, in all and by second in `timeline`, `report`
sums up, and `page` draws it. `flow`, `pacing`, `answers`, `tally`, `timeline`, `page` and `svg` are pure.
"""
