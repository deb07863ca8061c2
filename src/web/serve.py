"""Run a service: its HTTP app and its own loops, until a signal or a failure, and out within five seconds."""

import asyncio
import gc
import os
import signal
import socket
import ssl
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import structlog
import uvloop
from litestar import Litestar

from process import tls, tracing
from process.settings import ServiceSettings, SettingsError, is_loopback
from web import connection_limits
from web.access import OPEN, Access
from web.fast_route import FastRoute
from web.server import Server

STOP_DEADLINE = 4.5
"""Seconds a service may take to stop; then the process ends anyway."""

CANCEL_INTERVAL = 0.3
"""Seconds after which loops that have not ended are cancelled again."""

DRAIN_TIMEOUT = 1.0
"""Seconds in which requests that were begun are still answered while the service stops."""

PEER_TIMEOUT = 10.0
"""Seconds a peer may leave what was sent to it untaken; then the kernel drops the connection."""

log = structlog.get_logger()


def run(main: Callable[[], Awaitable[None]]) -> None:
    """Run `main` on uvloop. A failure is logged and ends the process with code 1, so that it is restarted.

    Settings that make no sense end it with code 2 and one line that says why.
    """
    _spare_the_collector()
    try:
        uvloop.run(_ended(main))
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(2)
    except BaseException as error:
        if isinstance(error, SystemExit | KeyboardInterrupt):
            raise
        log.critical("service failed", exc_info=error)
        sys.stdout.flush()
        os._exit(1)


def _spare_the_collector() -> None:
    """Have the garbage collector, which looks for cycles, look seldom, and never at what is here for good.

    What a request leaves behind goes with its last reference. At its default of every 700 objects the collector would
    take a tenth of a busy service's time, and its longest looks would show in the latency.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


async def _ended(main: Callable[[], Awaitable[None]]) -> None:
    await main()


async def serve(
    app: Litestar,
    settings: ServiceSettings,
    service: Callable[[], Awaitable[None]],
    stop: Callable[[], Awaitable[None]],
    direct: FastRoute[Any] | None = None,
    access: Access = OPEN,
) -> None:
    """Serve `app` and run `service` beside it until SIGTERM or SIGINT; then `stop`, and end.

    Args:
        app: the HTTP app; it answers from the first moment.
        settings: say where to bind.
        service: runs until cancelled; its failure ends the process.
        stop: the orderly end, called before `service` is cancelled.
        direct: a route of the app's that is answered ahead of it.
        access: who may ask for that route, as the app knows it for all.

    Raises:
        ExceptionGroup: what made the service or the server fail.
    """
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)

    context = tls.server_context(settings.stack)
    if context is None and not is_loopback(settings.stack.host):
        log.warning("orders, answers and tokens are sent unencrypted: QS_STACK_TLS_CERTIFICATE turns TLS on")
    server = Server(tracing.trace_requests(app), direct, access)
    async with asyncio.TaskGroup() as group:
        http = group.create_task(_serve_http(app, server, settings, context), name="http")
        loops = group.create_task(_never_ends(service), name="service")
        await stopping.wait()
        log.info("stopping")
        loop.call_later(STOP_DEADLINE, _give_up)
        await stop()
        http.cancel()
        while not loops.done():  # Python 3.11's `wait_for` loses a cancellation that comes together with its result
            loops.cancel()
            await asyncio.wait([loops], timeout=CANCEL_INTERVAL)
        await asyncio.wait([http])
    log.info("stopped")


async def _serve_http(app: Litestar, server: Server, settings: ServiceSettings, context: ssl.SSLContext | None) -> None:
    connection_limits.raise_file_limit()
    with listen(settings.stack.host, settings.port) as listener:
        async with app.lifespan():
            try:
                await server.serve(listener, context)
            finally:
                await server.stop(DRAIN_TIMEOUT)


def listen(host: str, port: int) -> socket.socket:
    """Bind, and bound how long a connection outlives a peer that takes nothing any more.

    Closing a connection waits until its peer has taken what was sent before: one that stopped reading would keep the
    connection and its buffers for good.
    """
    try:
        listener = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise RuntimeError(f"cannot listen on {host}:{port}: {error}") from error
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux; accepted sockets inherit it
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(PEER_TIMEOUT * 1000))
    return listener


async def _never_ends(service: Callable[[], Awaitable[None]]) -> None:
    await service()
    raise RuntimeError("the service's loops ended by themselves")


def _give_up() -> None:
    log.error("did not stop in time", deadline_s=STOP_DEADLINE)
    sys.stdout.flush()
    os._exit(2)
