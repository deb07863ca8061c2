"""Ports in use, and free ports."""

import os
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

from stack.ports import free_port, free_ports, holder, unavailable
from stack.settings import Listening


def test_a_port_in_use_is_reported_with_its_process_and_variable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        (line,) = unavailable([Listening("QS_UI_PORT", "127.0.0.1", port, "ui")])
        assert f"port {port} is used by process {os.getpid()}" in line
        assert "QS_UI_PORT" in line


def test_a_free_port_is_not_reported() -> None:
    (port,) = free_ports(1)
    assert unavailable([Listening("QS_UI_PORT", "127.0.0.1", port, "ui")]) == []
    assert holder(port) is None


def test_an_address_of_another_machine_is_reported() -> None:
    (line,) = unavailable([Listening("QS_UI_PORT", "192.0.2.1", 9, "ui")])
    assert "192.0.2.1" in line


def test_free_ports_are_distinct_and_not_ephemeral() -> None:
    ports = free_ports(8)
    assert len(set(ports)) == 8
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert all(port < first for port in ports)


def test_no_two_processes_are_given_the_same_port() -> None:
    """Even while nothing listens on it yet."""
    script = "from stack.ports import free_port; print(*(free_port() for _ in range(300)), flush=True); input()"
    pipe = subprocess.PIPE
    with ExitStack() as running:
        others = [
            running.enter_context(subprocess.Popen([sys.executable, "-c", script], stdin=pipe, stdout=pipe, text=True))
            for _ in range(3)
        ]
        given = [port for other in others if other.stdout for port in other.stdout.readline().split()]
        given += [str(free_port()) for _ in range(300)]
        for other in others:
            other.communicate("\n")
    assert len(given) == len(set(given)) == 1200


def test_ports_do_not_run_out() -> None:
    """The least recently used ones are handed out again."""
    for _ in range(300):
        assert len(set(free_ports(8))) == 8
