"""What importing the package costs."""

import subprocess
import sys


def test_aiohttp_is_not_imported_but_still_can_be() -> None:
    program = "import sys, jet.connection; assert 'aiohttp' not in sys.modules; import aiohttp; aiohttp.ClientSession"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=30)
