"""`python -m chaos.start_stack FILE`: `stack up`, with additional environment variables for some processes.

The file is a JSON object: process → variable → value. The variables point a service to its own proxy instead of NATS,
and to its own clock.
"""

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import msgspec

from stack.programs import Program
from stack.settings import read
from stack.supervise import up

Environments = dict[str, dict[str, str]]


def with_environment(program: Program, environments: Mapping[str, Mapping[str, str]]) -> Program:
    """Return a program with its additional environment variables."""
    more = environments.get(program.name)
    if not more:
        return program
    command = ("env", *(f"{name}={value}" for name, value in more.items()), *program.command)
    return replace(program, command=command)


if __name__ == "__main__":
    found = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=Environments)
    sys.exit(up(read(), lambda program: with_environment(program, found)))
