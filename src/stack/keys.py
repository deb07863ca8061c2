"""The keys of the broker's users, and the configuration that its servers start with: made at each `up`.

Each user of `jet.grants` has an Ed25519 key: its secret half is the file `<user>.seed`, readable by its owner only, and
the servers know the public half. A seed that is there is kept; one that is missing, empty or damaged is made anew, and
so is the password.

A server's configuration includes `nats/server.conf` and adds the accounts, with who may do what, and the path under
which its monitoring pages are: nobody who does not know it gets any. The servers of a cluster also ask each other for a
password. So this file, too, is for its owner only.
"""

import json
import os
import re
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path

import nkeys

from jet.grants import OUTSIDE, SERVICES_ACCOUNT, Export, Grant, exports, grants, imports
from process import durable
from process.installation import COMMAND, bundled_file
from process.settings import SettingsError
from stack.settings import CLUSTER_CONFIG, NATS_CONFIG, NatsServer, StackSettings, has_one_account

SERVICES = ("exchange", "exposure", "ledger", "maker", "ui")
"""The users that services connect as."""

_ROUTES = "routes"
"""What the servers of a cluster call themselves to each other."""

_MONITOR = "monitor"

_ANSWERED_WITHIN = "5s"
"""For how long a server keeps in mind where the answers to a reader's question go."""

_OUTSIDE_LIMITS = {"max_connections": 64, "max_subscriptions": 500, "max_payload": 65536}
"""What each account of readers may take of a server: connections of all its users together, subscriptions of a
connection, bytes of a message."""

_SERVICES_LIMITS = {"max_connections": 800, "max_subscriptions": 1000}
"""The same of the services' account. A server bounds accounts and connections, not users: so one service could keep the
others out, but no reader. With those of the readers, it is less than `max_connections` of `nats/server.conf`."""

_PASSWORD = re.compile(r"[A-Za-z0-9]{16,}")


def make(settings: StackSettings, more: Sequence[Grant] = ()) -> None:
    """Make what is missing in the folder of keys, and write the servers' configurations; `more` users, if need be.

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
                    for account in (SERVICES_ACCOUNT, *OUTSIDE)
                },
                settings.market.shards,
            )
        for server in settings.nats_servers:
            durable.write(config_of(settings, server), "\n".join([_header(settings, server), *who, ""]))
    except OSError as error:
        where = error.filename or settings.keys
        raise SettingsError(f"{where}: {error.strerror}; QS_STACK_NATS_KEYS names another folder") from error


def check(settings: StackSettings) -> None:
    """Check that every service has its key for servers that are not ours, if keys are used there.

    Raises:
        SettingsError: one has not.
    """
    for user in (*SERVICES, "operator", "auditor", "observer"):
        seed_of(settings, user)


def seed_of(settings: StackSettings, user: str) -> Path | None:
    """The file with a user's key, for a command to connect with; None to connect without one.

    Raises:
        SettingsError: there is none, or what is there is no key.
    """
    seed = settings.stack.nats_seed(user)
    if seed is not None and _known_key(settings.folder / seed) is None:
        is_so = "holds no key" if (settings.folder / seed).is_file() else "is not there"
        remedy = (
            f"`{COMMAND} keys` makes one, and the servers need the configuration that it writes"
            if settings.stack.nats_url
            else f"`{COMMAND} up` makes one"
        )
        raise SettingsError(f"{settings.folder / seed} {is_so}; {remedy}")
    return seed


def config_of(settings: StackSettings, server: NatsServer) -> Path:
    """What a server is started with."""
    return settings.keys / f"{server.name}.conf"


def monitor_url(settings: StackSettings, server: NatsServer) -> str:
    """Where the monitoring pages of a server of ours are, under a path that only its owner can read."""
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
    """The public half of a user's key; None if there is none, or what is there is no user's key."""
    try:
        public = bytes(nkeys.from_seed(bytearray(seed.read_bytes().strip())).public_key).decode()
    except (FileNotFoundError, ValueError, nkeys.NkeysError):
        return None
    return public if public.startswith("U") else None  # servers take no other kind, and would not start


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
    """What a server shows, to clients and to others of its cluster, and checks of them; nothing without TLS."""
    stack = settings.stack
    if not stack.tls_certificate:
        return ""
    files = {"cert_file": stack.tls_certificate, "key_file": stack.tls_key}
    if stack.tls_ca:
        files["ca_file"] = stack.tls_ca
    entries = [f"{key}: {json.dumps(str(settings.folder / file), ensure_ascii=False)}" for key, file in files.items()]
    return f"tls {{ {', '.join([*entries, f'verify: {json.dumps(bool(stack.tls_ca))}'])} }}"


def _relative(settings: StackSettings, config: Path) -> str:
    """Where a file that comes with us is, for an `include`: from the folder of keys, in quotes without escapes."""
    path = os.path.relpath(bundled_file(settings.folder, config), settings.keys)
    return f'"{path}"' if "'" in path else f"'{path}'"


def _accounts(users: Mapping[str, Sequence[str]], shards: int) -> list[str]:
    """The accounts. Those outside get of what the services' account exports, and nothing else is in theirs."""
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
        *(line for account in OUTSIDE for line in _outside(account, users[account], imports(shards, account))),
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
    to = f"accounts: {json.dumps(OUTSIDE)}"
    if not export.asks:
        return f"      {{ stream: {json.dumps(export.subject)}, {to} }}"
    answers = f"response: {'stream' if export.many else 'single'}, threshold: {json.dumps(_ANSWERED_WITHIN)}"
    return f"      {{ service: {json.dumps(export.subject)}, {to}, {answers} }}"


def _import(export: Export) -> str:
    kind = "service" if export.asks else "stream"
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
