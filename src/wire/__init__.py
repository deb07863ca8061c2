"""What crosses a boundary: messages, ids, subjects, units, refusals.

Pure: no I/O, no clock, no randomness, and nothing of ours is imported from here. `docs/protocol.md` is the same
specification in prose.
"""
