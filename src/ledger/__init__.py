"""The ledger: the authority on positions.

Inputs: the market log's fills (`fills.>`), and fills executed elsewhere (`POST /fills`).
Outputs: a SQLite database of every fill and position; `positions.<symbol>`, with the newest update of each symbol that
a commit has changed; `GET /positions`; the websocket `/positions/stream`.

A batch of fills, the resulting positions and each shard's applied sequence are committed in one transaction. Only then
is anything published or shown. SQLite alone records what was applied, so redelivery and restarts do no harm. Any number
of ledgers, each with its own database, compute the same positions.
"""
