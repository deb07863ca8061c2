"""The keys of the broker's users, and the configuration of its servers, which are written at each `up`.

Each user of `jet.grants` has an Ed25519 key: its secret half is the file `<user>.seed`, readable by its owner only, and
the servers know the public half. An existing seed is kept; one that is missing, empty or damaged is replaced. The same
holds for the passwords.

A server's configuration includes `nats/server.conf`, and adds the accounts with their permissions, and a secret path
for its monitoring pages, which are served under no other path. The servers of a cluster also authenticate to each other
with a password. So this file, too, is readable by its owner only.
"""

import json
import os
import re
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path

import nkeys

from jet.grants import READER_ACCOUNTS, SERVICES_ACCOUNT, Export, Grant, exports, grants, imports
from process import durable
from process.installation import COMMAND, bundled_file
from process.settings import SettingsError
from stack.settings import CLUSTER_CONFIG, NATS_CONFIG, NatsServer, StackSettings, has_one_account

SERVICES = ("exchange", "exposure", "ledger", "maker", "ui")
"""The users that services connect as."""

_ROUTES = "routes"
"""The user name with which the servers of a cluster connect to each other."""

_MONITOR = "monitor"

_REPLY_WINDOW = "5s"
"""How long a server remembers where to send the replies to a reader's request."""

_OUTSIDE_LIMITS = {"max_connections": 64, "max_subscriptions": 500, "max_payload": 65536}
"""Limits of each account of readers: connections of all its users together, subscriptions per connection, bytes per
message."""

_SERVICES_LIMITS = {"max_connections": 800, "max_subscriptions": 1000}
"""Limits of the services' account. A server limits accounts and connections, not users: so one service could lock out
the others, but no reader. The sum with the readers' limits is below `max_connections` of `nats/server.conf`."""

_PASSWORD = re.compile(r"[A-Za-z0-9]{16,}")


def make(settings: StackSettings, more: Sequence[Grant] = ()) -> None:
    """Create the missing keys, and write the servers' configurations. `more` are additional users.

    Raises:
        SettingsError: the folder cannot be written.
    """
    try:
        durable.make_folder(settings.keys)
        everyone = [*grants(settings.market.shards), *more]
        users = {grant.user: _user(grant, _public_key(settings.keys / f"{grant.user}.seed")) for grant in everyone}
        if has_one_account(settings):
            who = ["authorization {", "  users: [", *users.values(), "  ]", "}"]
        else:
            who = _accounts(
                {
                    account: [users[grant.user] for grant in everyone if grant.account == account]
                    for account in (SERVICES_ACCOUNT, *READER_ACCOUNTS)
                },
                settings.market.shards,
            )
        for server in settings.nats_servers:
            durable.write(config_of(settings, server), "\n".join([_header(settings, server), *who, ""]))
    except OSError as error:
        where = error.filename or settings.keys
        raise SettingsError(f"{where}: {error.strerror}; QS_STACK_NATS_KEYS names another folder") from error


def check(settings: StackSettings) -> None:
    """Check that every user has its key, for servers that `up` does not start, if they use keys.

    Raises:
        SettingsError: a key is missing.
    """
    for user in (*SERVICES, "operator", "auditor", "observer"):
        seed_of(settings, user)


def seed_of(settings: StackSettings, user: str) -> Path | None:
    """Return the file with a user's key, for a command to connect with; None to connect without a key.

    Raises:
        SettingsError: the file is missing, or holds no key.
    """
    seed = settings.stack.nats_seed(user)
    if seed is not None and _known_key(settings.folder / seed) is None:
        problem = "holds no key" if (settings.folder / seed).is_file() else "does not exist"
        fix = (
            f"`{COMMAND} keys` creates one, and the servers need the configuration that it writes"
            if settings.stack.nats_url
            else f"`{COMMAND} up` creates one"
        )
        raise SettingsError(f"{settings.folder / seed} {problem}; {fix}")
    return seed


def config_of(settings: StackSettings, server: NatsServer) -> Path:
    """Return the path of a server's configuration."""
    return settings.keys / f"{server.name}.conf"


def monitor_url(settings: StackSettings, server: NatsServer) -> str:
    """Return the address of a server's monitoring pages, which includes the secret path."""
    file = settings.keys / f"{_MONITOR}.password"
    path = file.read_text(errors="replace").strip() if file.is_file() else ""
    return f"http://127.0.0.1:{server.monitor_port}/{path}"


def _public_key(seed: Path) -> str:
    known = _known_key(seed)
    if known is None:
        durable.write(seed, bytes(nkeys.encode_seed(secrets.token_bytes(32), nkeys.PREFIX_BYTE_USER)) + b"\n")
        known = bytes(nkeys.from_seed(bytearray(seed.read_bytes().strip())).public_key).decode()
    return known


def _known_key(seed: Path) -> str | None:
    """Return the public half of a user's key; None if the file is missing, or holds no user's key."""
    try:
        public = bytes(nkeys.from_seed(bytearray(seed.read_bytes().strip())).public_key).decode()
    except (FileNotFoundError, ValueError, nkeys.NkeysError):
        return None
    return public if public.startswith("U") else None  # servers accept no other kind, and would not start


def _password(file: Path) -> str:
    known = file.read_text(errors="replace").strip() if file.is_file() else ""
    if not _PASSWORD.fullmatch(known):
        known = secrets.token_hex(24)
        durable.write(file, f"{known}\n")
    return known


def _header(settings: StackSettings, server: NatsServer) -> str:
    tls = _tls(settings)
    monitor = _password(settings.keys / f"{_MONITOR}.password")
    common = f"""# Written at each `up`: see src/jet/grants.py.

include {_relative(settings, NATS_CONFIG)}
http_base_path: {json.dumps(f"/{monitor}")}
{tls}
"""
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
    """Return a server's TLS settings, for clients and for the other servers of its cluster; empty without TLS."""
    stack = settings.stack
    if not stack.tls_certificate:
        return ""
    files = {"cert_file": stack.tls_certificate, "key_file": stack.tls_key}
    if stack.tls_ca:
        files["ca_file"] = stack.tls_ca
    entries = [f"{key}: {json.dumps(str(settings.folder / file), ensure_ascii=False)}" for key, file in files.items()]
    return f"tls {{ {', '.join([*entries, f'verify: {json.dumps(bool(stack.tls_ca))}'])} }}"


def _relative(settings: StackSettings, config: Path) -> str:
    """Return the quoted path of a bundled file, relative to the folder of keys, for an `include`.

    The quotes are ones in which nothing has to be escaped.
    """
    path = os.path.relpath(bundled_file(settings.folder, config), settings.keys)
    return f'"{path}"' if "'" in path else f"'{path}'"


def _accounts(users: Mapping[str, Sequence[str]], shards: int) -> list[str]:
    """Return the lines that define the accounts. Outside accounts see only what the services' account exports."""
    return [
        "accounts {",
        f"  {SERVICES_ACCOUNT} {{",
        "    jetstream: enabled",
        f"    limits: {json.dumps(_SERVICES_LIMITS)}",
        "    exports: [",
        *map(_export, exports(shards)),
        "    ]",
        "    users: [",
        *users[SERVICES_ACCOUNT],
        "    ]",
        "  }",
        *(line for account in READER_ACCOUNTS for line in _outside(account, users[account], imports(shards, account))),
        "}",
    ]


def _outside(account: str, users: Sequence[str], shared: Sequence[Export]) -> list[str]:
    return [
        f"  {account} {{",
        f"    limits: {json.dumps(_OUTSIDE_LIMITS)}",
        "    imports: [",
        *map(_import, shared),
        "    ]",
        "    users: [",
        *users,
        "    ]",
        "  }",
    ]


def _export(export: Export) -> str:
    to = f"accounts: {json.dumps(READER_ACCOUNTS)}"
    if not export.is_request:
        return f"      {{ stream: {json.dumps(export.subject)}, {to} }}"
    replies = f"response: {'stream' if export.many_replies else 'single'}, threshold: {json.dumps(_REPLY_WINDOW)}"
    return f"      {{ service: {json.dumps(export.subject)}, {to}, {replies} }}"


def _import(export: Export) -> str:
    kind = "service" if export.is_request else "stream"
    return f"      {{ {kind}: {{ account: {SERVICES_ACCOUNT}, subject: {json.dumps(export.subject)} }} }}"


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
