"""The maker: keeps one quote active on every symbol, priced from the newest committed position.

Inputs: position updates (`positions.*`), the market log (quote events and fills), `/pause` and `/resume`.
Outputs: reservations requested from exposure, quotes published and withdrawn at the exchange, the kill switch.

Ids derive from facts: a quote's id names its symbol, position version, revision and attempt, and the same three numbers
give the byte-identical proposal on any machine. So any number of makers may run: they divide the symbols, and if two
quote the same symbol, they converge on one quote. Nothing else is stored: a restarted maker learns what it needs from
the logs that it follows.

Modules: `pricing` and `proposal` (what to quote), `plan` (what to do now), `rendezvous` (which maker quotes a symbol
first), `window` (how many attempts run at once), `killswitch` (what follows from the switch and from this maker's own
pause), `switch` (following and changing the switch), `prefetch` (reserving before the position is committed),
`cleanup` (releasing and withdrawing), `rpc_client` (requests to other services), `quoter` (one symbol's
loop), `status` (what the maker reports), `service` (the shell), `api` (HTTP).
"""
