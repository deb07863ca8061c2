"""The audit: proves or refutes the invariants from the recorded logs, whether the system is running or not.

Inputs: the market log, `POSITIONS` and exposure's log, read and never written; the ledgers' databases, read-only;
optionally the load generator's history files, the seals, and the services' log files.
Output: a verdict on each invariant, with the messages that refute it.

A check (`quotes`, `limit`, `reservations`, `executions`, `recording`, `positions`, `money`, `proposals`,
`completeness`) is a fold: it receives every message of the market log, in the order in which the broker stored them
over all shards, and returns its verdict at the end. `recorded` reads the logs and replays them, `check` is what all
checks share, `run` puts everything together. `store` serves the data of a stopped stack, `replica_diff` compares the
servers of a cluster, `hash_chain` verifies the hashes of the log, and `seal_file` keeps the signed ones.

The audit uses none of the folds that the services decide with, because it would then repeat their faults.
"""
