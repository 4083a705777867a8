"""HTTP by hand: what no well-behaved client sends."""

import json
import select
import socket
import struct

import httpx

from .api import Answer
from .util import SLOWNESS


class Raw:
    """One TCP connection to a service. Nothing here raises because the other side has closed: that is an outcome."""

    def __init__(self, service, timeout=5, receive_buffer=None):
        self.sock = socket.socket()
        if receive_buffer:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.sock.settimeout(timeout * SLOWNESS)
        self.sock.connect(("127.0.0.1", service.port))
        self._in = self.sock.makefile("rb")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def fileno(self):  # for select
        return self.sock.fileno()

    def close(self, reset=False):
        if reset:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._in.close()
        self.sock.close()

    def send(self, data, last=False):
        """last: the sending side is closed after it. False: not all could be sent."""
        try:
            self.sock.sendall(data)
            if last:
                self.sock.shutdown(socket.SHUT_WR)
            return True
        except OSError:
            return False

    def ended(self):
        """Whether the other side has ended it; what came from it meanwhile is dropped. Does not wait."""
        while select.select([self.sock], [], [], 0)[0]:
            try:
                if not self.sock.recv(65536):
                    return True
            except ConnectionError:
                return True
        return False

    def answer(self, method="?", path="?"):
        """The next answer, or None when the connection ends without one. TimeoutError when neither comes."""
        try:
            head = []
            while not head or head[0].startswith(b"HTTP/1.1 100 "):
                head = self._head()
                if not head:
                    return None
            headers = httpx.Headers([tuple(line.split(b": ", 1)) for line in head[1:]])
            length = 0 if method == "HEAD" else int(headers.get("content-length", 0))
            text = self._in.read(length).decode()
            assert len(text.encode()) == length, f"an answer was cut: {head} {text}"
        except ConnectionError:
            return None
        try:
            body = json.loads(text)
        except ValueError:
            body = None
        return Answer(method, path, int(head[0].split()[1]), headers, text, body)

    def answers(self):
        """All answers until the connection ends."""
        found = []
        while answer := self.answer():
            found.append(answer)
        return found

    def ask(self, method, path, headers=(), body=b""):
        """Sends one request, headers as given and Content-Length if there is a body; its answer."""
        self.send(request(method, path, headers, body))
        return self.answer(method, path)

    def _head(self):
        lines = []
        while (line := self._in.readline()) not in (b"\r\n", b""):
            lines.append(line.rstrip(b"\r\n"))
        return lines


def encode(text):
    return text if isinstance(text, bytes) else text.encode()


def request(method, path, headers=(), body=b"", host="Host: t"):
    """The bytes of a request. headers: complete lines."""
    lines = [b" ".join((encode(method), encode(path), b"HTTP/1.1")), *map(encode, [host] if host else []), *map(encode, headers)]
    if body:
        lines.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join(lines) + b"\r\n\r\n" + encode(body)
