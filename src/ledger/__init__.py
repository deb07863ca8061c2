"""The ledger: the authority on positions.

In: the market log's fills (`fills.>`), and fills executed elsewhere (`POST /fills`).
Out: a SQLite database of every fill and position; `positions.<symbol>`, one update per committed change, conflated;
`GET /positions`; the websocket `/positions/stream`.

A batch of fills, the positions they lead to and how far each shard was applied are committed in one transaction; only
then is anything published or shown. SQLite alone says what was applied, so redelivery and restarts do no harm, and any
number of ledgers, each with a database of its own, come to the same positions.
"""
