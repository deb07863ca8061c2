"""`python -m chaos.up FILE`: `stack up` as ever, with more in the environment of some processes.

The file is JSON: process → variable → value. So a service finds its own proxy where it expects NATS, and its own clock.
"""

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import msgspec

from stack.programs import Program
from stack.settings import read
from stack.supervise import up

Surroundings = dict[str, dict[str, str]]


def altered(program: Program, surroundings: Mapping[str, Mapping[str, str]]) -> Program:
    """The program, with what is to be in its environment."""
    more = surroundings.get(program.name)
    if not more:
        return program
    command = ("env", *(f"{name}={value}" for name, value in more.items()), *program.command)
    return replace(program, command=command)


if __name__ == "__main__":
    found = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=Surroundings)
    sys.exit(up(read(), lambda program: altered(program, found)))
