"""Fixtures every test may ask for."""

import ast
import gc
import signal
from collections.abc import AsyncIterator, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from hypothesis import HealthCheck, settings
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from process import tracing
from support.broker import Broker, NatsServer, clean_broker, fresh_broker, stop_and_clear
from support.builders import market
from support.clock import ManualClock
from support.console import pytest_sessionstart, pytest_unconfigure

__all__ = ["pytest_sessionstart", "pytest_unconfigure"]

# Its own limits are of wall time: an example may take 200 ms, and ten must be made in a second.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")


_parse = ast.parse


def _parse_at_once(*args: Any, **kwargs: Any) -> Any:
    """`ast.parse` with nothing in between. Garbage that is found meanwhile may parse something itself, as a task does
    whose error is logged with its traceback; in Python 3.11 the outer call then raises `SystemError: AST constructor
    recursion depth mismatch` (python/cpython#106905), in whichever test that happens to be, or in pytest itself."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        return _parse(*args, **kwargs)
    finally:
        if was_enabled:
            gc.enable()


ast.parse = _parse_at_once


def pytest_configure() -> None:
    """What a shell starts in the background ignores Ctrl-C, and so would all that is started here to be sent it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """What is collected is here for good: looking for garbage in it would take a third of the time, and more later."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that take long are spread over the first three quarters, among those that do not.

    So whole stacks do not all start at once, and no file that takes long is left for the end. The tests of a file stay
    together; those that are marked so come last in it, in the order in which they are written.
    """
    long = {item.path for item in items if any(item.get_closest_marker(name) for name in ("system", "browser", "long"))}
    files = list(dict.fromkeys(item.path for item in items))
    places: dict[Path, float] = {}
    for those, share in (
        ([file for file in files if file in long], 0.75),
        ([file for file in files if file not in long], 1),
    ):
        places |= {file: share * number / len(those) for number, file in enumerate(those)}

    def place(item: pytest.Item) -> tuple[float, Path, bool, int]:
        last = item.get_closest_marker("last") is not None
        return places[item.path], item.path, last, (item.location[1] or 0) if last else 0

    items.sort(key=place)


@pytest.fixture(autouse=True)
def _own_logging() -> Iterator[None]:
    """A command that is run inside a test sets up logging for the process: not for the tests after it.

    A logger that is kept from then on would write to what that test captured, which is closed by the next one.
    """
    configure = structlog.configure
    # Not the fixture `monkeypatch`: it would be made before all others, and so be undone after them.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(structlog, "configure", lambda **how: configure(**how | {"cache_logger_on_first_use": False}))
        yield
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


@pytest.fixture(scope="session")
def nats_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """One real nats-server for the session, on a free port. Do not stop or pause it: see `own_nats_server`."""
    server = NatsServer(tmp_path_factory.mktemp("nats"))
    server.start()
    yield server
    stop_and_clear(server)


@pytest.fixture
def own_nats_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """A real nats-server for this test alone, to be paused, killed and started again."""
    server = NatsServer(tmp_path_factory.mktemp("nats"))
    server.start()
    yield server
    stop_and_clear(server)


@pytest.fixture
async def broker(nats_server: NatsServer) -> AsyncIterator[Broker]:
    """The declared streams, all empty, on the session's server."""
    async with clean_broker(nats_server, market()) as clean:
        yield clean


@pytest.fixture
async def own_broker(own_nats_server: NatsServer) -> AsyncIterator[Broker]:
    """The declared streams, all empty, on a server for this test alone."""
    async with fresh_broker(own_nats_server, market()) as fresh:
        yield fresh


@pytest.fixture
def clock() -> ManualClock:
    """A clock turned by hand."""
    return ManualClock()


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    """Tracing is on, and the spans that have ended are here."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(tracing, "tracer", provider.get_tracer("test"))
    yield exporter
    provider.shutdown()
