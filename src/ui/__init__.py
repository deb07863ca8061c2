"""The page: every symbol's committed position, its active quote and the exposure in use, live.

Inputs: stream `POSITIONS` (`positions.*`), the market log (`quotes.<shard>.>`, `fills.<shard>.>`), both from the last
message per subject; the exposure service's usage, asked for twice a second; the kill switch, in its bucket; how every
process is, asked of all together every two seconds.
Outputs: `GET /` and its files; websocket `/stream` of JSON frames with whole rows and recent fills; a quote's story at
`GET /explain/{quote_id}`; `GET /health`, `GET /metrics`.

It only reads, decides nothing and keeps nothing: a restart folds the streams again, and any number may run.
`board` is the fold and the frames, `service` feeds it, `api` serves it, `static/` is the page. `processes` and
`unquoted` are what processes say, `watch` asks them. `explain` runs the
audit's command, which is above this layer, as an operator would: nothing of it is imported.
"""
