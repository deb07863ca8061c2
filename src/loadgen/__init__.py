"""The load generator: sends orders to the exchange over HTTP, as outside clients would, and measures the responses.

In: the symbols and reference prices of `market.toml`, and the options of the command line (`python -m loadgen --help`).
Out: `POST /orders`, a report (table, JSON or HTML) and, optionally, a history of all orders and responses.

The load is open-loop: orders arrive on a seeded Poisson schedule that does not wait for responses. A latency counts
from the *intended* send time of the order, so that a stalled exchange cannot hide by delaying orders.

The path of an order: `flow` draws it, `pacing` decides when it is due, `service` passes it to a free sender, `client`
posts it until `outcomes` knows its outcome, and `tally` counts it, in total and per second in `timeline`. At the end,
`report` summarizes the run, and `page` draws it. `flow`, `pacing`, `outcomes`, `tally`, `timeline`, `page` and `svg`
are pure.
"""
