"""Reads the recorded logs back: the streams of the broker, replayed, and the whole story of one quote.

Inputs: the streams of the broker, read with the auditor's key, and the services' log files. Output: `python -m recorded
ID` prints a quote's story as JSON. Nothing is written.

`streams` reads streams, `market_log` merges the shards of the market log up to one instant, and `replay` feeds the
result to all folds. `explain` finds everything about one quote, `story` is the fold of it, `story_text` its text.
`proposer` makes a maker's proposal again, from the instrument as `revisions` knows it. `service_logs` searches the
services' log files, `reservations` is what exposure granted. `command` is how another program gets a story.
"""
