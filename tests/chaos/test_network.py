"""Cutting a server off from the others: which connections are kept, and, if the test may do it, that it works."""

import json
import subprocess
import sys

import pytest

from chaos.network import Socket, between_others
from support.needs import ROOT, needs

A, B, C = PORTS = [7001, 7002, 7003]


def ends(dialer: int, listener: int, inode: int) -> list[Socket]:
    """Return both ends of a connection, whose dialer has the socket `inode`."""
    return [Socket(dialer, listener, inode), Socket(listener, dialer, inode + 1)]


def test_connections_between_other_servers_are_kept_whichever_of_them_dialed() -> None:
    sockets = [*ends(41000, C, 10), *ends(41001, B, 20)]
    assert between_others(sockets, PORTS, A, {98, 99}) == [(41000, C), (41001, B)]


def test_connections_of_the_cut_off_server_are_not_kept_whichever_of_them_dialed() -> None:
    dialed_by_a, dialed_to_a, client = ends(41000, B, 10), ends(41001, A, 20), ends(41002, 4222, 30)
    assert between_others([*dialed_by_a, *dialed_to_a, *client], PORTS, A, {10, 21}) == []


HERE = """
import json, select, socket, subprocess, sys
from chaos.network import Network, NoNetwork

CHILD = '''
import socket, sys
a = socket.create_server(("127.0.0.1", 0))
b = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
print(a.getsockname()[1], flush=True)
for line in sys.stdin:
    b.sendall(line.encode())
'''

try:
    Network.enter()
except NoNetwork as why:
    print(json.dumps({"why": str(why)}))
    sys.exit()

def received(connection, seconds):
    return bool(select.select([connection], [], [], seconds)[0] and connection.recv(100))

b, c = (socket.create_server(("127.0.0.1", 0)) for _ in "bc")
child = subprocess.Popen([sys.executable, "-c", CHILD, str(b.getsockname()[1])], stdin=-1, stdout=-1, text=True)
ports = {"a": int(child.stdout.readline()), "b": b.getsockname()[1], "c": c.getsockname()[1]}
a_to_b = b.accept()[0]
b_to_c = socket.create_connection(c.getsockname())
at_c = c.accept()[0]
client = socket.create_server(("127.0.0.1", 0))

network = Network(ports)
network.cut_off("a", child.pid)
print("x", file=child.stdin, flush=True)
found = {"a to b while cut off": received(a_to_b, 1.0)}
b_to_c.sendall(b"x")
found["b to c while a is cut off"] = received(at_c, 20)
try:
    socket.create_connection(("127.0.0.1", ports["a"]), timeout=0.5)
    found["b to a while cut off"] = True
except OSError:
    found["b to a while cut off"] = False
socket.create_connection(client.getsockname(), timeout=20)
found["clients meanwhile"] = True
network.reconnect()
found["a to b afterwards"] = received(a_to_b, 60)
socket.create_connection(("127.0.0.1", ports["a"]), timeout=20)
found["b to a afterwards"] = True
child.kill()
child.wait()
print(json.dumps(found))
"""


@needs(ROOT)
def test_only_clients_reach_a_server_that_is_cut_off_until_it_is_reconnected() -> None:
    done = subprocess.run([sys.executable, "-c", HERE], capture_output=True, text=True, timeout=150)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    if why := found.get("why"):
        pytest.skip(why)
    assert found == {
        "a to b while cut off": False,
        "b to c while a is cut off": True,
        "b to a while cut off": False,
        "clients meanwhile": True,
        "a to b afterwards": True,
        "b to a afterwards": True,
    }
