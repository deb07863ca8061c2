"""Exposure: may this quote become active, and at what size.

Inputs: requests to reserve, activate, give back and release (HTTP and `rpc.exposure.*`); the bucket `reservations`; the
market log (`quotes.<shard>.>`, `fills.<shard>.>`), from the last message per subject.
Outputs: `ReservationRecord`s in the bucket, one key a reservation, each with a TTL of its own; answers; usage.

The bucket's stream is the log: each write is appended only if the whole stream's last sequence is still where this
instance's fold ends. So any number of instances may run, and if all of them die the broker frees the capacity.
`holding` says what one reservation holds, `limits` folds and decides, `commit` appends, `service` follows the logs,
`api` is its HTTP face.
"""
