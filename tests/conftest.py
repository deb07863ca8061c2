"""Fixtures for all tests, and the order in which tests run."""

import ast
import gc
import os
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
from support.memory import keep_files_in_memory

__all__ = ["pytest_sessionstart", "pytest_unconfigure"]

# Hypothesis limits wall time by default: 200 ms per example, and a minimum speed of generating them. Half of its 100
# examples are enough per run, because each run draws new ones.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=50)
settings.load_profile("any machine")


_parse = ast.parse


def _parse_at_once(*args: Any, **kwargs: Any) -> Any:
    """Call `ast.parse` without garbage collection.

    A finalizer may call it, too, such as that of a task whose exception is logged with its traceback. In Python 3.11
    the outer call then raises `SystemError: AST constructor recursion depth mismatch` (python/cpython#106905), in any
    test or in pytest itself.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        return _parse(*args, **kwargs)
    finally:
        if was_enabled:
            gc.enable()


ast.parse = _parse_at_once


def pytest_configure() -> None:
    """Choose where temporary files are. Restore SIGINT, which shells ignore for background jobs: the processes that
    tests start would inherit that.
    """
    keep_files_in_memory(os.environ)
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Collect tests without garbage collection: these objects live until the end, and scanning them would take a third
    of the time, and more later.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Spread slow files over the first three quarters of the run, among the fast ones.

    So whole stacks do not all start at once, and no slow file is left for the end. The tests of a file stay together;
    those marked `last` come last in it, in the order in which they are written.
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
    """Undo the logging configuration of a command that runs inside a test.

    A cached logger would write to the captured output of that test, which is closed when the next one runs.
    """
    configure = structlog.configure
    # Not the fixture `monkeypatch`: it would be created before all others, and so be undone after them.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(structlog, "configure", lambda **how: configure(**how | {"cache_logger_on_first_use": False}))
        yield
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


@pytest.fixture(scope="session")
def nats_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """A real nats-server for the session, on a free port. Do not stop or pause it: use `own_nats_server` for that."""
    server = NatsServer(tmp_path_factory.mktemp("nats"))
    server.start()
    yield server
    stop_and_clear(server)


@pytest.fixture
def own_nats_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """A real nats-server for this test alone, which it may pause, kill and restart."""
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
    """A manual clock."""
    return ManualClock()


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    """Enable tracing. The exporter holds the spans that have ended."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(tracing, "tracer", provider.get_tracer("test"))
    yield exporter
    provider.shutdown()
