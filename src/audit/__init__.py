"""The audit: proves or refutes the invariants from what was recorded, whether the system runs or not.

In: the market log, `POSITIONS` and exposure's log, read and never written; the ledger's database, read-only;
optionally the load generator's history files, and the services' logs.
Out: a verdict on each invariant, with the offending messages.

A check (`quotes`, `limit`, `reservations`, `executions`, `recording`, `positions`, `proposals`, `completeness`) is a
fold: it is fed every message of the market log in the order the broker stored them, over all shards, and gives its
verdict in the end. `recorded` reads the logs and is the motor of these folds, `check` is what they have in common,
`run` puts it all together. `store` serves what is down, `replica_diff` compares what the servers of a cluster hold.

None of this uses the folds that the services decide by: a fault in one of those is to be found, not repeated.
"""
