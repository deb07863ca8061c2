"""The page: every symbol's committed position, its active quote and the exposure in use, live.

Inputs: stream `POSITIONS` (`positions.*`) and the market log (`quotes.<shard>.>`, `fills.<shard>.>`), both from the
last message of each subject; the exposure service's usage, requested twice a second; the reports of all processes,
requested every two seconds; the buckets `switches` and `instruments`; a file of notices, if a run breaks the system on
purpose.
Outputs: `GET /` and its files; websocket `/stream` with JSON frames of complete rows and recent fills; the story of a
quote at `GET /explain/{quote_id}`; the last minutes of a symbol at `GET /history/{symbol}`; `GET /health`,
`GET /metrics`.

The page only reads, and decides nothing. A restart folds the streams again, but the charts over time begin anew. Any
number of instances may run.

`service` follows the inputs and makes the frames, `api` serves them, `static/` is the page in the browser. `frames` are
the messages, `board` and `symbol_state` the fold behind the rows, `trend` the data of the charts. `watch` requests and
follows what the market's logs do not contain, and `processes`, `unquoted` and `order_rates` are folds of that.
`history_reader` reads a symbol's recent log, and `history` is its fold. `notices_file` reads `notices` from a file.
`explain` runs `recorded` in a process of its own for a quote's story. `login` is for a stack with tokens.
"""
