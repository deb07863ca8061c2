"""Serving: what every service's listening socket does."""

import socket

import pytest

from runtime.serve import PEER_TIMEOUT, _listen
from support.broker import free_port


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="only Linux drops a peer that takes nothing")
def test_a_peer_that_takes_nothing_any_more_is_dropped_by_the_kernel() -> None:
    port = free_port()
    with _listen("127.0.0.1", port) as listener, socket.create_connection(("127.0.0.1", port)):
        accepted, _ = listener.accept()
        with accepted:
            timeout = accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
    assert timeout == PEER_TIMEOUT * 1000


def test_a_port_that_is_taken_is_told_with_its_address() -> None:
    port = free_port()
    with _listen("127.0.0.1", port), pytest.raises(RuntimeError, match=f"cannot listen on 127.0.0.1:{port}"):
        _listen("127.0.0.1", port)
