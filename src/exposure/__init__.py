"""Exposure: may this quote become active, and at what size.

Inputs: requests to reserve, activate, deactivate and release (HTTP and `rpc.exposure.*`); its own log, `EXPOSURE`; the
market log (`quotes.<shard>.>`, `fills.<shard>.>`), from the last message per subject.
Outputs: arrays of `ReservationRecord`s in its log, one for each batch of decisions; answers; usage; the bucket
`reservations`, for watchers.

A batch is appended only if the log's last sequence is still where this instance's fold ends, so any number of instances
may run. Reservations expire by the time at which the broker stores the log's messages.
`holding` says what one reservation holds, `usage` folds, `limits` decides, `commit` appends, `service` follows the
logs, `projection` writes the bucket, `api` is the HTTP face.
"""
