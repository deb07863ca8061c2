"""The NATS servers, as the leader of a stream reports them."""

import pytest

from jet.api import Group, Peer, StreamInfo, StreamState
from support.builders import NOW
from ui.watch import servers


def info(group: Group | None) -> StreamInfo:
    return StreamInfo(config={}, created=NOW, state=StreamState(0, 0, 0, 0), cluster=group)


def test_a_server_alone_is_the_leader() -> None:
    assert [(server.process, server.ready) for server in servers(info(Group(leader="quotestream")))] == [
        ("quotestream", True)
    ]
    assert servers(info(None)) == []


@pytest.mark.parametrize(
    ("peer", "waits", "behind"),
    [
        (Peer("nats-2", current=True, active=1), {}, 0),
        (Peer("nats-2", offline=True, lag=7), {"leader": "offline"}, 7),
        (Peer("nats-2", active=12_000_000_000, lag=3), {"leader": "no contact for 12 s, or lagging"}, 3),
    ],
)
def test_other_servers_are_shown_as_the_leader_sees_them(peer: Peer, waits: dict[str, str], behind: int) -> None:
    _, other = servers(info(Group(leader="nats-1", replicas=[peer])))
    assert (other.process, other.ready, other.waiting_for, other.behind) == ("nats-2", not waits, waits, behind)
