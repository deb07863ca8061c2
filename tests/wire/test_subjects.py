"""Subjects: the shard and the stream of a message."""

import pytest

from wire import subjects

SHARD = subjects.shard_of("AAA", 4)


@pytest.mark.parametrize(
    ("subject", "home"),
    [
        (subjects.quotes(SHARD, "AAA"), True),
        (subjects.fills(SHARD, "AAA"), True),
        (subjects.fills((SHARD + 1) % 4, "AAA"), False),
        (f"fills.{SHARD}.more.AAA", False),
        (f"positions.{SHARD}.AAA", False),
        ("AAA", False),
    ],
)
def test_a_symbols_messages_belong_to_its_shard_only(subject: str, home: bool) -> None:
    assert subjects.in_home_shard(subject, 4) is home


def test_a_subject_of_the_market_log_names_its_stream() -> None:
    assert subjects.stream_of(subjects.quotes(3, "AAA")) == subjects.market_stream(3)
