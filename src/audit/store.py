"""A private NATS server on the data folder of a stack that is down, for as long as the audit takes.

On loopback, on a free port, and with the stack's lock held, so that no stack starts on the folder meanwhile. The server
does what any server does with its data: keys whose time is over expire. Nothing else is written.
"""

import json
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from audit.reading import CannotAudit
from stack.lock import AlreadyUp, held
from stack.programs import nats_server
from stack.settings import StackSettings

START_TIMEOUT = 60.0
"""Seconds the server may take to recover what it stored."""

STOP_TIMEOUT = 10.0

_CONFIG = """
listen: "127.0.0.1:-1"
ports_file_dir: {ports}
jetstream {{ store_dir: {store}, max_file_store: 1TB }}
"""


@contextmanager
def serving(settings: StackSettings) -> Iterator[str]:
    """The address of a server on the settings' data folder; it is stopped with the block.

    Raises:
        CannotAudit: a stack is up on it, it holds no streams, or the server does not start.
    """
    if not (settings.data / "jetstream").is_dir():
        if any(settings.data.glob("*/jetstream")):
            raise CannotAudit(
                f"{settings.data} is of a cluster of NATS servers: bring it up, and audit it while it runs"
            )
        raise CannotAudit(f"{settings.data} holds no streams of a NATS server")
    try:
        with (
            held(settings),
            tempfile.TemporaryDirectory(prefix="quotestream-audit-") as scratch,
            _server(settings.data, Path(scratch)) as url,
        ):
            yield url
    except AlreadyUp as error:
        raise CannotAudit(f"{error}; without --store the running one is audited") from error


@contextmanager
def _server(data: Path, scratch: Path) -> Iterator[str]:
    config = scratch / "nats.conf"
    config.write_text(_CONFIG.format(ports=json.dumps(str(scratch)), store=json.dumps(str(data))))
    log = scratch / "nats.log"
    with log.open("wb") as output:
        process = subprocess.Popen([nats_server(), "-c", str(config)], stdout=output, stderr=output)
    try:
        yield _address(process, scratch, log)
    finally:
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _address(process: "subprocess.Popen[bytes]", scratch: Path, log: Path) -> str:
    """Where it listens, once it does: it writes that down after it has recovered its streams."""
    ports = scratch / f"nats-server_{process.pid}.ports"
    deadline = time.monotonic() + START_TIMEOUT
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise CannotAudit(f"the NATS server ended: {log.read_text(errors='replace')[-500:]}")
        if ports.is_file() and (text := ports.read_bytes()).endswith(b"}"):
            return msgspec.json.decode(text, type=dict[str, list[str]])["nats"][0]
        time.sleep(0.02)
    raise CannotAudit(f"the NATS server did not start within {START_TIMEOUT:g} s")
