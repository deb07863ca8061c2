"""Run a service: its HTTP app and its own loops, until a signal or a failure. It then ends within five seconds."""

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
"""How long a service may take to stop, in seconds. After that the process ends anyway."""

CANCEL_INTERVAL = 0.3
"""The interval at which loops that have not ended are cancelled again, in seconds."""

DRAIN_TIMEOUT = 1.0
"""How long a stopping service still answers the requests that it has begun, in seconds."""

PEER_TIMEOUT = 10.0
"""How long sent data may stay unacknowledged before the kernel drops the connection, in seconds."""

log = structlog.get_logger()


def run(main: Callable[[], Awaitable[None]]) -> None:
    """Run `main` on uvloop. A failure is logged and ends the process with code 1, so that it is restarted.

    Invalid settings end it with code 2 and one line with the reason.
    """
    _tune_garbage_collector()
    try:
        uvloop.run(_as_coroutine(main))
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(2)
    except BaseException as error:
        if isinstance(error, SystemExit | KeyboardInterrupt):
            raise
        log.critical("service failed", exc_info=error)
        sys.stdout.flush()
        os._exit(1)


def _tune_garbage_collector() -> None:
    """Make the garbage collector run rarely, and ignore all objects that exist now.

    It only searches for cycles, and the objects of a request are freed without it. At its default threshold of 700
    objects, it would take a tenth of a busy service's time, and its longest runs would show in the latency.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


async def _as_coroutine(main: Callable[[], Awaitable[None]]) -> None:
    await main()


async def serve(
    app: Litestar,
    settings: ServiceSettings,
    service: Callable[[], Awaitable[None]],
    stop: Callable[[], Awaitable[None]],
    fast_route: FastRoute[Any] | None = None,
    access: Access = OPEN,
) -> None:
    """Serve `app` and run `service` until SIGTERM or SIGINT. Then call `stop`, and end.

    Args:
        app: the HTTP app; it responds from the first moment.
        settings: where to bind.
        service: the service's loops. They run until they are cancelled; a failure ends the process.
        stop: the service's orderly shutdown, called before `service` is cancelled.
        fast_route: a route of the app that bypasses it.
        access: the access rules of that route, the same as those of the app.

    Raises:
        ExceptionGroup: the service or the server failed.
    """
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)

    context = tls.server_context(settings.stack)
    if context is None and not is_loopback(settings.stack.host):
        log.warning("orders, responses and tokens are sent unencrypted: QS_STACK_TLS_CERTIFICATE turns TLS on")
    server = Server(tracing.trace_requests(app), fast_route, access)
    async with asyncio.TaskGroup() as group:
        http = group.create_task(_serve_http(app, server, settings, context), name="http")
        loops = group.create_task(_run_forever(service), name="service")
        await stopping.wait()
        log.info("stopping")
        loop.call_later(STOP_DEADLINE, _force_exit)
        await stop()
        http.cancel()
        while not loops.done():  # in Python 3.11, `wait_for` loses a cancellation that coincides with its result
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
    """Bind a listening socket, and limit how long its connections may wait for a peer that stops reading.

    Closing a connection waits until its peer has received everything. Without the limit, a peer that stopped reading
    would keep the connection and its buffers forever.
    """
    try:
        listener = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise RuntimeError(f"cannot listen on {host}:{port}: {error}") from error
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux; accepted sockets inherit it
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(PEER_TIMEOUT * 1000))
    return listener


async def _run_forever(service: Callable[[], Awaitable[None]]) -> None:
    await service()
    raise RuntimeError("the service's loops ended by themselves")


def _force_exit() -> None:
    log.error("did not stop in time", deadline_s=STOP_DEADLINE)
    sys.stdout.flush()
    os._exit(2)
