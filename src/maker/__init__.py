"""The maker: keeps one quote active on every symbol, priced from the newest committed position.

Inputs: position updates (`positions.*`), the market log (quote events and fills), `/pause` and `/resume`.
Outputs: reservations asked of the exposure service, quotes published to and withdrawn from the exchange, the kill
switch.

Ids are facts: a quote is named by symbol, position version and attempt, and the same version and attempt give the
byte-identical proposal on any node. So any number of makers may run: they divide the symbols, and where two quote the
same one they converge on one quote. Nothing else is stored: what a restarted maker must know is in the logs it follows.

Rooms: `pricing` and `proposal` (what to quote), `plan` (what to do now), `sharing` (who quotes a symbol first),
`window` (how many attempts at once), `killswitch` (what follows from the switch and from what this maker holds),
`switch` (following and turning it), `prefetch` (reserving before the position is committed), `cleanup` (releasing and
withdrawing), `calls` (asking other services), `quoter` (one symbol's loop), `service` (the shell), `api` (HTTP).
"""
