"""A server that answers with JSON, in place of a service."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@contextmanager
def json_server(answer: Callable[[str, Any], object]) -> Iterator[str]:
    """Serve in threads for the duration of the block. Yields the URL.

    Args:
        answer: called with the method and the body of each request, perhaps in several threads at once; returns the
            body of the response.
    """

    class Handler(BaseHTTPRequestHandler):
        def handle_request(self) -> None:
            sent = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            body = json.dumps(answer(self.command, json.loads(sent) if sent else None)).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PUT = do_DELETE = handle_request  # noqa: N815 # the names in the base class

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 # the name in the base class
            """Print nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
