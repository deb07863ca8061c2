"""Runs private NATS servers on the data folder of a stopped stack, for the duration of an audit.

They listen on free ports of the loopback interface. The stack's lock is held, so that no stack starts on the folder
meanwhile.

The store of a single server is served in place, and the server treats it as usual: keys expire. Nothing else is
written. The stores of a cluster are served from copies in a temporary folder, by one server each, and nothing expires
there.
"""

import asyncio
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from jet import api
from jet.grants import SERVICES_ACCOUNT
from recorded import streams
from recorded.streams import CannotRead
from stack import process_tree
from stack.damage import REPAIR_HINT
from stack.lock import AlreadyUp, hold_lock
from stack.programs import nats_command
from stack.settings import STORE, StackSettings, is_earlier, streams_in

START_TIMEOUT = 60.0
"""Seconds that a server may take to recover its store."""

STOP_TIMEOUT = 10.0
"""Seconds after which a server that does not stop is killed."""

_CONFIG = """
listen: "127.0.0.1:-1"
ports_file_dir: {scratch}
log_file: {log}
jetstream {{ store_dir: {store}, max_file_store: 1TB }}
{accounts}
"""

_ACCOUNTS = f"""
accounts {{ {SERVICES_ACCOUNT}: {{ jetstream: enabled, users: [{{ user: audit, password: audit }}] }} }}
no_auth_user: audit
"""
"""Every client belongs to the services' account, to which the stored streams belong."""


@dataclass(frozen=True, slots=True)
class Stored:
    """The servers that run on the data folder.

    Attributes:
        url: the server to audit.
        copies: for a cluster, the address of the copy of each server's store, by that server's name.
        written: when the stores were last written to, by this machine's clock.
    """

    url: str
    copies: Mapping[str, str]
    written: datetime


@asynccontextmanager
async def serving(settings: StackSettings) -> AsyncIterator[Stored]:
    """Run servers on the data folder of the settings, until the block ends.

    Raises:
        CannotRead: a stack is up on the folder, it contains no streams, or a server does not start.
    """
    folders = sorted(path.parent for path in settings.data.glob(f"*/{STORE}"))
    is_single = (settings.data / STORE).is_dir()
    if not is_single and not folders:
        raise CannotRead(f"{settings.data} holds no streams of a NATS server")
    try:
        async with AsyncExitStack() as exits:
            exits.enter_context(hold_lock(settings))
            written = _last_write([settings.data] if is_single else folders)
            scratch = Path(exits.enter_context(tempfile.TemporaryDirectory(prefix="quotestream-audit-")))
            if is_single:
                url = await exits.enter_async_context(_server(settings.data, scratch))
                yield Stored(url, {}, written)
                return
            copies = {
                folder.name: await exits.enter_async_context(_copy(folder, scratch / folder.name)) for folder in folders
            }
            yield Stored(await _fullest(copies), copies, written)
    except AlreadyUp as error:
        raise CannotRead(f"{error}; without --store the running stack is audited") from error


@asynccontextmanager
async def _copy(folder: Path, scratch: Path) -> AsyncIterator[str]:
    """Run a server on a copy of the store of a cluster's server.

    A single server refuses streams with several replicas. So it first creates the streams with one replica each, and is
    then restarted on the files with their messages.
    """
    metas = sorted(streams_in(folder).glob("*/meta.inf"))
    async with _server(scratch, scratch) as url, streams.connect(url) as connection:
        for meta in metas:
            try:
                await api.request(
                    connection, f"STREAM.CREATE.{meta.parent.name}", _single_replica(meta), dict, timeout=5.0
                )
            except (msgspec.DecodeError, api.ApiError) as error:
                raise CannotRead(f"the stream in {meta.parent} cannot be read: {error}") from error
    for meta in metas:
        target = streams_in(scratch) / meta.parent.name / "msgs"
        await asyncio.to_thread(shutil.rmtree, target)
        await asyncio.to_thread(shutil.copytree, meta.parent / "msgs", target)
    async with _server(scratch, scratch) as url:
        yield url


def _last_write(folders: Sequence[Path]) -> datetime:
    """Return when the last message was stored in one of the folders, or deleted."""
    files = (path for folder in folders for path in streams_in(folder).glob("*/msgs/*"))
    return datetime.fromtimestamp(max((path.stat().st_mtime for path in files), default=0.0), UTC)


def _single_replica(meta: Path) -> dict[str, Any]:
    """Return a stored stream's configuration, changed to one replica without expiry."""
    config = msgspec.json.decode(meta.read_bytes(), type=dict[str, Any])
    kept = {key: value for key, value in config.items() if key not in ("Created", "subject_delete_marker_ttl")}
    return {**kept, "num_replicas": 1, "max_age": 0, "allow_msg_ttl": False}


async def _fullest(copies: Mapping[str, str]) -> str:
    """Return the address of a copy that has everything that any other has.

    Raises:
        CannotRead: there is no such copy.
    """
    ends: dict[str, dict[str, int]] = {}
    for url in copies.values():
        async with streams.connect(url) as connection:
            ends[url] = await streams.last_sequences(connection)
    for url, own in ends.items():
        if all(own.get(stream, 0) >= end for other in ends.values() for stream, end in other.items()):
            return url
    raise CannotRead(
        f"none of {', '.join(copies)} holds everything that the others hold: start the stack, and audit it"
    )


@asynccontextmanager
async def _server(data: Path, scratch: Path) -> AsyncIterator[str]:
    process = await asyncio.create_subprocess_exec(
        *nats_command(_write_config(data, scratch)),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=_prepare,  # uvloop does not support `umask=`
    )
    try:
        yield await _address(process, scratch)
    finally:
        process.terminate()
        try:
            async with asyncio.timeout(STOP_TIMEOUT):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


def _prepare() -> None:
    """Make the server's files readable by their owner only, and end the server with this process."""
    os.umask(0o077)
    process_tree.die_with_parent()


def _write_config(data: Path, scratch: Path) -> Path:
    """Write the configuration of a server on `data`, with all its other files in `scratch`."""
    scratch.mkdir(exist_ok=True)
    config = scratch / "nats.conf"
    config.write_text(
        _CONFIG.format(
            scratch=json.dumps(str(scratch)),
            log=json.dumps(str(scratch / "nats.log")),
            store=json.dumps(str(data)),
            accounts="" if is_earlier(data) else _ACCOUNTS,
        )
    )
    return config


async def _address(process: asyncio.subprocess.Process, scratch: Path) -> str:
    """Wait until the server listens, and return its address."""
    deadline = time.monotonic() + START_TIMEOUT
    while time.monotonic() < deadline:
        if process.returncode is not None:
            raise CannotRead(
                f"the NATS server ended, and its store may be damaged: {_log_tail(scratch)}; {REPAIR_HINT}"
            )
        if address := _read_ports(scratch / f"nats-server_{process.pid}.ports"):
            return address
        await asyncio.sleep(0.02)
    raise CannotRead(f"the NATS server did not start within {START_TIMEOUT:g} s: {_log_tail(scratch)}; {REPAIR_HINT}")


def _read_ports(ports: Path) -> str:
    """Return the address in a server's ports file, which it writes after it has recovered its streams; else empty."""
    if ports.is_file() and (text := ports.read_bytes()).endswith(b"}"):
        return msgspec.json.decode(text, type=dict[str, list[str]])["nats"][0]
    return ""


def _log_tail(scratch: Path) -> str:
    """Return the end of a server's log."""
    log = scratch / "nats.log"
    return log.read_text(errors="replace")[-500:].strip() if log.is_file() else ""
