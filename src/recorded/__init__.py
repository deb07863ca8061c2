"""What is recorded, read back: the logs of the broker, replayed, and the story of one quote.

Inputs: the streams of the broker, with the auditor's key, and the services' log files. Output: `python -m recorded ID`
prints a quote's story as JSON. Nothing is written.

`reading` reads streams up to one instant and merges the shards; `replay` is the motor of all folds over it.
`explain` finds all about one quote, `story` is the fold of it, `story_text` puts it into words. `proposer` makes a
proposal once more, by the instrument as `revisions` knows it; `evidence` is what the services logged, `reservations`
what exposure granted. `command` is how another program asks for a story.
"""
