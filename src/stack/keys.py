"""The keys of the broker's users, and the configuration that its servers start with: made at each `up`.

Each user of `jet.grants` has an Ed25519 key: its secret half is the file `<user>.seed`, readable by its owner only, and
the servers know the public half. A seed that is there is kept; one that is missing is made anew.

A server's configuration includes `nats/server.conf` and adds who may do what. The servers of a cluster also ask each
other for a password, so this file, too, is for its owner only.
"""

import json
import os
import secrets
from collections.abc import Sequence
from pathlib import Path

import nkeys

from jet.grants import Grant, grants
from runtime.settings import SettingsError
from stack.settings import CLUSTER_CONFIG, NATS_CONFIG, NatsServer, StackSettings

SERVICES = ("exchange", "exposure", "ledger", "maker", "ui")
"""The users that services connect as."""

_ROUTES = "routes"
"""What the servers of a cluster call themselves to each other."""


def make(settings: StackSettings, more: Sequence[Grant] = ()) -> None:
    """Make what is missing in the folder of keys, and write the servers' configurations; `more` users, if need be.

    Raises:
        SettingsError: the folder cannot be written.
    """
    try:
        settings.keys.mkdir(mode=0o700, parents=True, exist_ok=True)
        settings.keys.chmod(0o700)
        users = [
            _user(grant, _public_key(settings.keys / f"{grant.user}.seed"))
            for grant in [*grants(settings.market.shards), *more]
        ]
        for server in settings.nats_servers:
            _write(config_of(settings, server), "\n".join([_header(settings, server), *_authorization(users)]))
    except OSError as error:
        raise SettingsError(f"{settings.keys}: {error.strerror}; QS_STACK_NATS_KEYS names another folder") from error


def check(settings: StackSettings) -> None:
    """Check that every service has its key for a server that is not ours, if keys are used there.

    Raises:
        SettingsError: one has not.
    """
    for user in (*SERVICES, "operator", "observer"):
        seed = settings.stack.nats_seed(user)
        if seed is not None and not (settings.folder / seed).is_file():
            raise SettingsError(f"QS_STACK_NATS_KEYS: {seed} is not there; `./qs keys` makes keys")


def config_of(settings: StackSettings, server: NatsServer) -> Path:
    """What a server is started with."""
    return settings.keys / f"{server.name}.conf"


def _public_key(seed: Path) -> str:
    if not seed.is_file():
        _write(seed, bytes(nkeys.encode_seed(secrets.token_bytes(32), nkeys.PREFIX_BYTE_USER)).decode())
    return bytes(nkeys.from_seed(bytearray(seed.read_bytes().strip())).public_key).decode()


def _password(file: Path) -> str:
    if not file.is_file():
        _write(file, secrets.token_hex(24))
    return file.read_text().strip()


def _write(file: Path, text: str) -> None:
    """Write a file whole, for its owner only."""
    part = file.with_name(f"{file.name}.part")
    part.unlink(missing_ok=True)
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as opened:
        opened.write(f"{text}\n")
    part.replace(file)


def _header(settings: StackSettings, server: NatsServer) -> str:
    tls = _tls(settings)
    common = f"# Written at each `up`: see src/jet/grants.py.\n\ninclude {_relative(settings, NATS_CONFIG)}\n{tls}\n"
    if server.cluster_port is None:
        return common
    password = _password(settings.keys / f"{_ROUTES}.password")
    routes = [f"nats://{_ROUTES}:{password}@127.0.0.1:{other.cluster_port}" for other in settings.nats_servers]
    return f"""{common}
server_name: {json.dumps(server.name)}

cluster {{
  include {_relative(settings, CLUSTER_CONFIG)}
  authorization {{ user: {_ROUTES}, password: {json.dumps(password)}, timeout: 2 }}
  routes: {json.dumps(routes)}
  {tls}
}}
"""


def _tls(settings: StackSettings) -> str:
    """What a server shows, to clients and to others of its cluster, and checks of them; nothing without TLS."""
    stack = settings.stack
    if not stack.tls_certificate:
        return ""
    files = {"cert_file": stack.tls_certificate, "key_file": stack.tls_key}
    if stack.tls_ca:
        files["ca_file"] = stack.tls_ca
    told = [f"{key}: {json.dumps(str(settings.folder / file), ensure_ascii=False)}" for key, file in files.items()]
    return f"tls {{ {', '.join([*told, f'verify: {json.dumps(bool(stack.tls_ca))}'])} }}"


def _relative(settings: StackSettings, config: Path) -> str:
    """Where a file of the project is, as an `include` names it: from the folder of keys, in quotes without escapes."""
    path = os.path.relpath(settings.folder / config, settings.keys)
    return f'"{path}"' if "'" in path else f"'{path}'"


def _authorization(users: Sequence[str]) -> list[str]:
    return ["authorization {", "  users: [", *users, "  ]", "}"]


def _user(grant: Grant, public_key: str) -> str:
    return "\n".join(
        [
            f"    # {grant.user}",
            f"    {{ nkey: {public_key}, permissions: {{",
            f"      publish: {_subjects(grant.publish)}",
            f"      subscribe: {_subjects(grant.subscribe)}",
            "    } }",
        ]
    )


def _subjects(subjects: Sequence[str]) -> str:
    return "\n".join(["[", *(f"        {json.dumps(subject)}" for subject in subjects), "      ]"])
