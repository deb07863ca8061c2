"""The exchange: the authority on which quote is active and which orders execute.

In: orders (HTTP), quotes and withdrawals (HTTP and requests over the broker), the market log.
Out: fills and quote events, appended to the market log; the `quotes` bucket, a projection of that log.

An order goes through `api` → `service` (finds its symbol's lane) → `lane` (queues it in a `command_queue`) → `book`
(decides) → `jet.journal` (appends), and its answer returns the same way. Each symbol has one lane, which commits one
append at a time; orders that arrive meanwhile share the next one. Several exchanges may run at once: each decides on
what it has folded. An append is refused if the head has moved, and its commands are then decided again.

The exchange also accepts instrument definitions and, from feeds, reference prices (`feed`), and stores both in the
bucket `instruments`.
"""
