"""supervisord's configuration, as a pure function of the settings."""

import os
import shlex
from collections.abc import Sequence

from stack.programs import REFUSED, Program
from stack.settings import StackSettings

STOP_SECONDS = 6
"""How long a process may take to stop before it is killed. Services give themselves 4.5."""

UNREADABLE = ("%", " ;", " #")
"""What a path in the configuration must not hold: an expansion (made twice, so that no escape survives), a comment."""


def stop_deadline(programs: Sequence[Program]) -> float:
    """Seconds everything may take to stop, one after the other, before what is left is killed."""
    return STOP_SECONDS * len(programs) + 2.0


def supervisord_conf(settings: StackSettings, programs: Sequence[Program]) -> str:
    """The text of `supervisord.conf`. Priorities are positions: processes start in that order, and stop in reverse."""
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
            # Only root may name a user to run as, and supervisord complains if root does not.
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
# A crash is tried again; done and refused are final.
_ONCE = {"autorestart": "unexpected", "exitcodes": f"0,{REFUSED}", "startsecs": 0, "startretries": 999}


def _section(name: str, **values: object) -> str:
    """A section. supervisord expands `%(name)s` in values, so a plain `%` is written twice."""
    lines = [f"{key} = {str(value).replace('%', '%%')}" for key, value in values.items()]
    return "\n".join([f"[{name}]", *lines, ""])
