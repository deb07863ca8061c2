"""Private NATS servers on the data folder of a stack that is down, for as long as the audit takes.

On loopback, on free ports, and with the stack's lock held, so that no stack starts on the folder meanwhile.

What a server alone stored is served as it is, and the server does what any server does with its data: keys whose time
is over expire. Nothing else is written. What the servers of a cluster stored is served from copies in a temporary
folder, one server each, and nothing expires there.
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
"""Seconds a server may take to recover what it stored."""

STOP_TIMEOUT = 10.0

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
"""Whoever asks is of the account of the services, where what is stored belongs."""


@dataclass(frozen=True, slots=True)
class Stored:
    """What is served.

    Attributes:
        url: the server to audit.
        copies: of a cluster, the address of what each of its servers stored, by the server's name.
        written: when anything was written last, by this machine's clock.
    """

    url: str
    copies: Mapping[str, str]
    written: datetime


@asynccontextmanager
async def serving(settings: StackSettings) -> AsyncIterator[Stored]:
    """Servers on the settings' data folder; they are stopped with the block.

    Raises:
        CannotRead: a stack is up on it, it holds no streams, or a server does not start.
    """
    folders = sorted(path.parent for path in settings.data.glob(f"*/{STORE}"))
    is_alone = (settings.data / STORE).is_dir()
    if not is_alone and not folders:
        raise CannotRead(f"{settings.data} holds no streams of a NATS server")
    try:
        async with AsyncExitStack() as exits:
            exits.enter_context(hold_lock(settings))
            written = _written_to([settings.data] if is_alone else folders)
            scratch = Path(exits.enter_context(tempfile.TemporaryDirectory(prefix="quotestream-audit-")))
            if is_alone:
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
    """A server on a copy of what a server of a cluster stored.

    A server alone refuses streams that are held several times. So it is made to declare them itself, held once, and
    then it is given the files with their messages.
    """
    metas = sorted(streams_in(folder).glob("*/meta.inf"))
    async with _server(scratch, scratch) as url, streams.connect(url) as connection:
        for meta in metas:
            try:
                await api.request(connection, f"STREAM.CREATE.{meta.parent.name}", _held_once(meta), dict, timeout=5.0)
            except (msgspec.DecodeError, api.ApiError) as error:
                raise CannotRead(f"the stream in {meta.parent} cannot be read: {error}") from error
    for meta in metas:
        ours = streams_in(scratch) / meta.parent.name / "msgs"
        await asyncio.to_thread(shutil.rmtree, ours)
        await asyncio.to_thread(shutil.copytree, meta.parent / "msgs", ours)
    async with _server(scratch, scratch) as url:
        yield url


def _written_to(folders: Sequence[Path]) -> datetime:
    """When the last message was stored in one of the folders, or forgotten."""
    files = (path for folder in folders for path in streams_in(folder).glob("*/msgs/*"))
    return datetime.fromtimestamp(max((path.stat().st_mtime for path in files), default=0.0), UTC)


def _held_once(meta: Path) -> dict[str, Any]:
    """A stored stream's configuration, made one of a single copy in which nothing expires."""
    config = msgspec.json.decode(meta.read_bytes(), type=dict[str, Any])
    ours = {key: value for key, value in config.items() if key not in ("Created", "subject_delete_marker_ttl")}
    return {**ours, "num_replicas": 1, "max_age": 0, "allow_msg_ttl": False}


async def _fullest(copies: Mapping[str, str]) -> str:
    """The address of one that holds all that any of them holds.

    Raises:
        CannotRead: none does.
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
        *nats_command(_configured(data, scratch)),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=_privately,  # `umask=` is what uvloop does not take
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


def _privately() -> None:
    """What the server writes is for its owner, and it ends with us, however we end."""
    os.umask(0o077)
    process_tree.die_with_parent()


def _configured(data: Path, scratch: Path) -> Path:
    """The configuration of a server on `data`, which has a folder `scratch` for the rest."""
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
    """Where it listens, once it does."""
    deadline = time.monotonic() + START_TIMEOUT
    while time.monotonic() < deadline:
        if process.returncode is not None:
            raise CannotRead(
                f"the NATS server ended, and its store may be damaged: {_log_tail(scratch)}; {REPAIR_HINT}"
            )
        if address := _written(scratch / f"nats-server_{process.pid}.ports"):
            return address
        await asyncio.sleep(0.02)
    raise CannotRead(f"the NATS server did not start within {START_TIMEOUT:g} s: {_log_tail(scratch)}; {REPAIR_HINT}")


def _written(ports: Path) -> str:
    """What a server wrote down of where it listens: it does after it has recovered its streams."""
    if ports.is_file() and (text := ports.read_bytes()).endswith(b"}"):
        return msgspec.json.decode(text, type=dict[str, list[str]])["nats"][0]
    return ""


def _log_tail(scratch: Path) -> str:
    """What a server logged last."""
    log = scratch / "nats.log"
    return log.read_text(errors="replace")[-500:].strip() if log.is_file() else ""
