"""Everything that crosses a boundary between processes: messages, ids, subjects, units, refusals.

Pure: no I/O, no clock, no randomness, and no import of another package of the project. `docs/protocol.md` specifies the
same in prose.
"""
