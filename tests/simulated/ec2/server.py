"""The light EC2 on a socket of this machine: HTTP/1.1 with connections kept, a thread for each."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Generator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.simulated.ec2.face import LightEc2
from tests.simulated.ec2.query import Request
from tests.simulated.ec2.reply import Dropped, Held


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, ec2: LightEc2, port: int) -> None:
        self.ec2 = ec2
        #: Connections that are open, to be ended with the server.
        self.open: set[socket.socket] = set()
        super().__init__(("127.0.0.1", port), _Handler)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server  # pyright: ignore[reportIncompatibleVariableOverride] -- it is only ever made by _Server

    def setup(self) -> None:
        super().setup()
        self.server.open.add(self.connection)

    def finish(self) -> None:
        self.server.open.discard(self.connection)
        with contextlib.suppress(ConnectionError):
            super().finish()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        reply = self.server.ec2.handle(Request(self.command, self.path, headers, body))
        while isinstance(reply, Held):
            reply.event.wait()
            reply = reply.then()
        if isinstance(reply, Dropped):
            self.close_connection = True
            return
        self.send_response(reply.status)
        self.send_header("Content-Type", reply.content_type)
        self.send_header("Content-Length", str(len(reply.body)))
        self.end_headers()
        with contextlib.suppress(ConnectionError):
            self.wfile.write(reply.body)

    do_GET = do_POST

    def log_message(self, format: str, *args: object) -> None:
        """Quiet: the World has the ledger."""


@contextlib.contextmanager
def serve(ec2: LightEc2, port: int = 0) -> Generator[str]:
    """Serve on 127.0.0.1, on a free port unless one is given; gives the endpoint's URL. Ends open connections at exit."""
    server = _Server(ec2, port)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, name="light-ec2", daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        for connection in tuple(server.open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
