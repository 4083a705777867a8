"""An HTTP server that keeps what it gets, checks signatures, and can be told to fail in every way that servers do."""

import http.server
import json
import socketserver
import threading
import time

from standardwebhooks.webhooks import Webhook

from .util import free_port, wait_until

GIANT_BYTES = 50_000_000


class Received:
    """A request: .path .headers (names in lower case) .body (bytes) .at (time.monotonic)"""

    def __init__(self, path, headers, body):
        self.path, self.headers, self.body = path, headers, body
        self.at = time.monotonic()

    def __repr__(self):
        return f"<webhook {self.id} to {self.path}>"

    @property
    def id(self):
        return self.headers.get("webhook-id")

    @property
    def json(self):
        return json.loads(self.body)

    def verify(self, secret):
        """AssertionError unless the specification's own library takes it for signed with `secret`; else the payload."""
        return Webhook(secret).verify(self.body, self.headers)


class _Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request, client_address):
        pass  # the client is gone, as tests have it


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        self.server.owner._received(self)

    do_GET = do_POST

    def log_message(self, *args):
        pass


class WebhookTarget:
    """.url("/path") is what a webhook goes to. Per path what it does, one word per request, the last one again and again;
    a path without any answers 200:

      200, 500, …        answers with that status
      "redirect:<url>"   answers 302 there
      "hang"             does not answer until heal()
      "drop"             closes the connection without an answer
      "garbage"          answers what is not HTTP
      "giant:<status>"   answers that status with a body of 50 MB
      "later:<status>:<seconds>"  answers that status with Retry-After
      "trickle:<status>" answers that status, and a byte of a body every 0.1 s, without end
      "drip"             a header line every 0.2 s, without end
      "short"            answers 200 with a body that breaks off"""

    def __init__(self):
        self.port = free_port()
        self.requests = []
        self._plans = {}
        self._lock = threading.Lock()
        self._released = threading.Event()
        self._server = None
        self.up()

    def url(self, path="/hook", host="127.0.0.1"):
        return f"http://{host}:{self.port}{path}"

    # --- what a test tells it ---

    def plan(self, path, *words):
        with self._lock:
            self._plans[path] = list(words)
        if any(str(word).startswith(("hang", "trickle", "drip")) for word in words):
            self._released.clear()

    def heal(self):
        """From now on all is answered with 200, and whoever hangs as well."""
        with self._lock:
            self._plans.clear()
        self._released.set()
        self.up()

    def down(self):
        """Nobody listens any more: connection refused."""
        if self._server:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def up(self):
        if not self._server:
            self._server = _Server(("127.0.0.1", self.port), _Handler)
            self._server.owner = self
            threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self):
        self._released.set()
        self.down()

    # --- what a test asks it ---

    def to(self, path):
        with self._lock:
            return [r for r in self.requests if r.path == path]

    def wait(self, path="/hook", count=1, seconds=15):
        """The requests to a path once there are `count`."""
        return wait_until(lambda: (lambda r: r if len(r) >= count else None)(self.to(path)), seconds,
                          lambda: f"{count} request(s) to {path}; there are {self.to(path)}")

    # --- on the connections' threads ---

    def _next(self, path):
        words = self._plans.get(path)
        if not words:
            return 200
        return words.pop(0) if len(words) > 1 else words[0]

    def _received(self, handler):
        body = handler.rfile.read(int(handler.headers.get("content-length", 0)))
        headers = {name.lower(): value for name, value in handler.headers.items()}
        with self._lock:
            self.requests.append(Received(handler.path, headers, body))
            word = self._next(handler.path)
        handler.close_connection = True
        if isinstance(word, int):
            self._answer(handler, word)
        else:
            name, _, rest = word.partition(":")
            getattr(self, f"_{name}")(handler, rest)

    def _answer(self, handler, status, location=None):
        handler.send_response(status)
        if location:
            handler.send_header("location", location)
        body = f"answer {status}\n".encode()
        handler.send_header("content-length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    def _redirect(self, handler, url):
        self._answer(handler, 302, url)

    def _later(self, handler, rest):
        status, seconds = rest.split(":")
        handler.send_response(int(status))
        handler.send_header("retry-after", seconds)
        handler.send_header("content-length", "0")
        handler.end_headers()

    def _trickle(self, handler, status):
        handler.send_response(int(status))
        handler.send_header("content-length", "1000000")
        handler.end_headers()
        while not self._released.wait(0.1):
            handler.wfile.write(b".")

    def _hang(self, handler, _):
        self._released.wait(300)
        self._answer(handler, 200)

    def _drop(self, handler, _):
        pass

    def _garbage(self, handler, _):
        handler.wfile.write(b"\x00\xff\xfe SSH-2.0-nonsense\r\n\r\n" * 100)

    def _giant(self, handler, status):
        handler.send_response(int(status))
        handler.send_header("content-length", str(GIANT_BYTES))
        handler.end_headers()
        for _ in range(GIANT_BYTES // 100_000):
            handler.wfile.write(b"\xc3\xa9" * 50_000)

    def _drip(self, handler, _):
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
        while not self._released.wait(0.2):
            handler.wfile.write(b"x-more: and more\r\n")

    def _short(self, handler, _):
        handler.send_response(200)
        handler.send_header("content-length", "1000")
        handler.end_headers()
        handler.wfile.write(b"to be contin")
