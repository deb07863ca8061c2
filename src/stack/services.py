"""Check the settings of every service before anything is started.

Importing all services takes a moment, so only `up` does it.
"""

import os
from collections.abc import Mapping

from exchange.service import ExchangeSettings
from exposure.service import ExposureSettings
from ledger.service import LedgerSettings
from loadgen.settings import LoadgenSettings
from maker.service import MakerSettings
from process import tls
from process.settings import ServiceSettings, load
from ui.service import UiSettings
from web.access import Access

SETTINGS: Mapping[str, type[ServiceSettings]] = {
    "exposure": ExposureSettings,
    "ledger": LedgerSettings,
    "exchange": ExchangeSettings,
    "maker": MakerSettings,
    "ui": UiSettings,
    "loadgen": LoadgenSettings,
}


def check(environ: Mapping[str, str] = os.environ) -> None:
    """Read every service's settings, and the tokens and certificates that they name.

    Raises:
        SettingsError: one of them is invalid.
    """
    for service, kind in SETTINGS.items():
        stack = load(kind, service, environ).stack
    Access.of(stack)
    tls.server_context(stack)
    tls.client_context(stack)
