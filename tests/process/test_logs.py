"""Logs are one JSON object per line, including those of libraries."""

import json
import os
import subprocess
import sys

SCRIPT = """
import logging
from decimal import Decimal
from process import logs
import structlog
logs.configure("exchange", "info")
structlog.get_logger().info("quote active", quote_id="AAPL-v1-a1", price=Decimal("1.10"))
structlog.get_logger().debug("not logged")
logging.getLogger("library").warning("theirs")
try:
    1 / 0
except ZeroDivisionError as error:
    structlog.get_logger().error("failed", exc_info=error)
"""


def test_every_line_is_json_with_the_service_and_the_ids() -> None:
    output = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True).stdout
    ours, theirs, failed = [json.loads(line) for line in output.splitlines()]
    assert (ours["event"], ours["service"], ours["quote_id"]) == ("quote active", "exchange", "AAPL-v1-a1")
    assert (ours["level"], ours["price"]) == ("info", "1.10")
    assert (theirs["event"], theirs["service"], theirs["logger"]) == ("theirs", "exchange", "library")
    assert "ZeroDivisionError" in failed["exception"]


def test_every_line_names_the_instance() -> None:
    environ = os.environ | {"SUPERVISOR_PROCESS_NAME": "exchange-2"}
    run = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True, env=environ)
    assert {json.loads(line)["instance"] for line in run.stdout.splitlines()} == {"exchange-2"}
