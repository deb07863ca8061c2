"""supervisord's configuration, made from the settings. Pure."""

import os
import shlex
from collections.abc import Sequence

from stack.programs import REFUSED, Program
from stack.settings import StackSettings

STOP_SECONDS = 6
"""Seconds that a process may take to stop before it is killed. Services allow themselves 4.5."""

FORBIDDEN_IN_PATHS = ("%", " ;", " #")
"""Texts that a path in the configuration must not contain: the start of an expansion (supervisord expands twice, so
that an escape does not survive) or of a comment."""


def stop_deadline(programs: Sequence[Program]) -> float:
    """Return how many seconds all processes may take to stop, one after the other, before the rest is killed."""
    return STOP_SECONDS * len(programs) + 2.0


def supervisord_conf(settings: StackSettings, programs: Sequence[Program]) -> str:
    """Return the text of `supervisord.conf`. Processes start in the order of `programs`, and stop in reverse."""
    sections = [
        _section(
            "supervisord",
            nodaemon="true",
            umask="077",
            silent="true",
            logfile=settings.logs / "supervisord.log",
            pidfile=settings.data / "supervisord.pid",
            childlogdir=settings.logs,
            identifier="quotestream",
            # Only root may name a user to run as, and supervisord prints a warning if root names none.
            **({"user": "root"} if os.geteuid() == 0 else {}),
        ),
        _section("unix_http_server", file=settings.socket, chmod="0700"),
        _section(
            "rpcinterface:supervisor",
            **{"supervisor.rpcinterface_factory": "supervisor.rpcinterface:make_main_rpcinterface"},
        ),
        *(_program(settings, program, priority) for priority, program in enumerate(programs, start=1)),
    ]
    return "\n".join(sections)


def _program(settings: StackSettings, program: Program, priority: int) -> str:
    return _section(
        f"program:{program.name}",
        command=shlex.join(program.command),
        directory=settings.folder,
        priority=priority,
        **(_ONCE if program.once else _FOREVER),
        stopsignal="TERM",
        stopwaitsecs=STOP_SECONDS,
        stopasgroup="false",
        killasgroup="true",
        stdout_logfile=settings.logs / f"{program.name}.log",
        redirect_stderr="true",
        stdout_logfile_maxbytes="20MB",
        stdout_logfile_backups=3,
    )


_FOREVER = {"autorestart": "true", "startsecs": 1, "startretries": 999}
# After a crash it is restarted; the exit codes for done and refused are final.
_ONCE = {"autorestart": "unexpected", "exitcodes": f"0,{REFUSED}", "startsecs": 0, "startretries": 999}


def _section(name: str, **values: object) -> str:
    """Format a section. supervisord expands `%(name)s` in values, so a plain `%` is doubled."""
    lines = [f"{key} = {str(value).replace('%', '%%')}" for key, value in values.items()]
    return "\n".join([f"[{name}]", *lines, ""])
