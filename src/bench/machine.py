"""A description of the machine on which the figures were measured."""

import os
import platform
import subprocess
import time
from pathlib import Path

from bench.figures import percentile
from stack.programs import nats_server

_SYNCS = 200


def describe(folder: Path) -> dict[str, str]:
    """Describe the machine, the programs, and the disk that holds `folder`, whose sync latency is measured."""
    return {
        "processors": f"{os.cpu_count()} × {_processor()}",
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.1f} GiB",
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "nats-server": _version(),
        "file system": filesystem(folder),
        "fsync of 4 KiB": _sync_latency(folder),
    }


def filesystem(folder: Path) -> str:
    """Return the type of the file system that holds a folder."""
    here = folder.stat().st_dev
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields, _, rest = line.partition(" - ")
        if fields.split()[2] == f"{os.major(here)}:{os.minor(here)}":
            return rest.split()[0]
    return "unknown"


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()


def _version() -> str:
    output = subprocess.run([nats_server(), "--version"], capture_output=True, text=True, check=False).stdout
    return output.strip().removeprefix("nats-server: ")


def _sync_latency(folder: Path) -> str:
    path = folder / "sync"
    block = b"\0" * 4096
    times = []
    with path.open("wb", buffering=0) as file:
        for _ in range(_SYNCS):
            started = time.perf_counter()
            file.write(block)
            os.fdatasync(file.fileno())
            times.append((time.perf_counter() - started) * 1000)
    path.unlink()
    times.sort()
    return f"p50 {percentile(times, 50):.2f} ms, p99 {percentile(times, 99):.2f} ms"
