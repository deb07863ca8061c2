"""The exchange: the authority on which quote is active and which orders execute.

In: orders (HTTP), quotes and withdrawals (HTTP and requests over the broker), the market log.
Out: fills and quote events appended to the market log, the `quotes` bucket as a projection of it.

An order goes `api` → `lane` (queued on its symbol) → `book` (decides) → `jet.journal` (appends) → its reply. One lane a
symbol commits one append at a time; orders that arrive meanwhile share the next one. Several exchanges may run at once:
each decides on what it has folded, and an append on a moved head is refused and decided again.

It also takes definitions of what is traded, and reference prices from feeds (`feed`), for the bucket `instruments`.
"""
