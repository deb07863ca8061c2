"""The page: every symbol's committed position, its active quote and the exposure in use, live.

Inputs: stream `POSITIONS` (`positions.*`), the market log (`quotes.<shard>.>`, `fills.<shard>.>`), both from the last
message per subject; the exposure service's usage, asked for twice a second; the kill switch, in its bucket; how every
process is, asked of all together every two seconds; a file of notices, where a run breaks things on purpose.
Outputs: `GET /` and its files; websocket `/stream` of JSON frames with whole rows and recent fills; a quote's story at
`GET /explain/{quote_id}`; a symbol's last minutes at `GET /history/{symbol}`; `GET /health`, `GET /metrics`.

It only reads and decides nothing. A restart folds the streams again, but begins the charts over time anew; any number
may run. `board` is the fold and the frames, `trend` what the charts are drawn from, `service` feeds both, `api` serves
them, `static/` is the page. `processes`, `unquoted` and `order_rates` are what processes report, `watch` asks them.
`history_reader` reads a symbol's log anew, and `history` is its fold. `noticeboard` reads the file of `notices`.
`explain` has `recorded` tell a quote's story, in a process of its own.
"""
