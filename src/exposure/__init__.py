"""Exposure: decides whether a quote may become active, and at what size, so that all quotes stay within the limit.

In: requests to reserve, activate, deactivate and release (over HTTP and `rpc.exposure.*`); its own log, `EXPOSURE`; the
market log (`quotes.<shard>.>`, `fills.<shard>.>`), from the last message of each subject on.
Out: one array of `ReservationRecord`s in its log for each batch of decisions; replies; usage; the bucket
`reservations`, for watchers.

A batch is appended only if the last sequence of the log is still where this instance's fold ends, so any number of
instances may run. Reservations expire by the log's own time: the broker's timestamps of its messages.

`reservation_state` determines what one reservation holds, `usage` folds the logs, `limits` decides, `commit` appends
the decisions, `service` follows the logs and serves requests, `projection` writes the bucket, and `api` has the HTTP
routes.
"""
