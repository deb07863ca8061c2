"""What a crash loses: in an unsynced stream, and on a disk."""

import sqlite3
from pathlib import Path

from simulation.disk import LedgerDisk
from simulation.stream import Ack, Stream

CONFIG = {"name": "KV_b", "subjects": ["$KV.b.>"], "duplicate_window": 0, "max_msgs_per_subject": 1}


def test_an_unsynced_stream_returns_to_an_older_state_and_reuses_sequences() -> None:
    stream = Stream({**CONFIG, "persist_mode": "async"}, 0)
    for time, (key, data) in enumerate([("x", b"1"), ("y", b"2"), ("x", b"3"), ("z", b"4")], 1):
        stream.publish(f"$KV.b.{key}", data, None, time)
    stream.rewind(2)
    assert [(kept.seq, kept.subject, kept.data) for kept in stream.all()] == [
        (1, "$KV.b.x", b"1"),
        (2, "$KV.b.y", b"2"),
    ]
    assert (stream.last_seq, stream.last_on("$KV.b.x"), stream.last_on("$KV.b.>")) == (2, 1, 2)
    assert stream.publish("$KV.b.z", b"5", None, 5)[0] == Ack(3)


def test_a_power_cut_loses_what_sqlite_was_not_set_to_sync(tmp_path: Path) -> None:
    for level, left in (("FULL", [(1,)]), ("OFF", [])):
        path = tmp_path / f"{level}.sqlite"
        disk = LedgerDisk()
        database = sqlite3.connect(path, isolation_level=None)
        database.execute("CREATE TABLE numbers (number)")
        database.execute(f"PRAGMA synchronous = {level}")
        disk.before_statement(database, path)
        database.execute("INSERT INTO numbers VALUES (1)")
        database.close()
        disk.cut_power()
        with sqlite3.connect(path) as again:
            assert again.execute("SELECT number FROM numbers").fetchall() == left
