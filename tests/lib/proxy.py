"""A TCP proxy that can be cut, held and healed: a network that fails. For Postgres and SMTP; not for Kafka, whose clients
go on to the address that the broker advertises (use a broker of one's own and stop, kill or pause it)."""

import selectors
import socket
import threading
import time

from .util import free_port


class _Link:
    """One connection: two sockets, and for each direction the bytes that are on their way."""

    def __init__(self, client, server):
        self.client, self.server = client, server
        self.pending = {"to_server": bytearray(), "to_client": bytearray()}
        self.closed = {"to_server": False, "to_client": False}  # that direction's sender has finished

    def close(self, reset=False):
        for s in (self.client, self.server):
            if reset:  # RST instead of FIN: the other side gets an error at once
                try:
                    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                except OSError:
                    pass
            s.close()


class Proxy:
    """Listens on .port and forwards to 127.0.0.1:target. One thread; methods may be called from any other.

    cut()      every connection is reset, new ones are refused
    hang(d)    bytes of a direction ("to_server", "to_client", or "both") are taken in and not passed on
    swallow()  what the server sends is thrown away, then everything is reset: answers get lost
    heal()     as at the start; what was held is delivered
    """

    LIMIT = 1 << 20  # bytes held per direction; then the sender is made to wait

    def __init__(self, target):
        self.target = target
        self.port = free_port()
        self.latency = 0.0  # seconds that a chunk is held, about
        self._held = set()
        self._swallow = False
        self._links = []
        self._listener = None
        self._lock = threading.RLock()
        self._stop = False
        self._listen()
        self._thread = threading.Thread(target=self._run, name=f"proxy-{self.port}", daemon=True)
        self._thread.start()

    # --- from the test ---

    def cut(self):
        with self._lock:
            if self._listener:
                self._listener.close()
                self._listener = None
            self.reset()

    def reset(self):
        """Resets the connections that are there; new ones are welcome."""
        with self._lock:
            for link in self._links:
                link.close(reset=True)
            self._links.clear()

    def hang(self, direction="both"):
        with self._lock:
            self._held = {"to_server", "to_client"} if direction == "both" else {direction}

    def swallow(self):
        with self._lock:
            self._swallow = True

    def heal(self):
        with self._lock:
            if self._swallow:
                # A stream with a hole in it must not go on.
                self._swallow = False
                self.reset()
            self._held = set()
            self.latency = 0.0
            if not self._listener:
                self._listen()

    def connections(self):
        with self._lock:
            return len(self._links)

    def close(self):
        self._stop = True
        self._thread.join(5)
        self.cut()

    # --- the thread ---

    def _listen(self):
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self.port))
        listener.listen(128)
        listener.setblocking(False)
        self._listener = listener

    def _run(self):
        while not self._stop:
            with self._lock:
                busy = self._turn()
            # Outside the lock, so that the test gets its turn.
            time.sleep(self.latency if busy and self.latency else 0.0 if busy else 0.0005)

    def _turn(self):
        """Moves what can be moved without waiting; whether anything did."""
        moved = False
        with selectors.DefaultSelector() as selector:
            if self._listener:
                selector.register(self._listener, selectors.EVENT_READ, None)
            for link in self._links:
                self._register(selector, link)
            ready = selector.select(0.001)
        for key, events in ready:
            if key.data is None:
                moved |= self._accept()
            else:
                moved |= self._move(*key.data, key.fileobj, events)
        self._links = [link for link in self._links if link.client.fileno() >= 0]
        return moved

    def _accept(self):
        try:
            client, _ = self._listener.accept()
        except OSError:
            return False
        try:
            server = socket.create_connection(("127.0.0.1", self.target), timeout=2)
        except OSError:
            client.close()
            return True
        for s in (client, server):
            s.setblocking(False)
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._links.append(_Link(client, server))
        return True

    def _register(self, selector, link):
        for sock, reads, writes in ((link.client, "to_server", "to_client"), (link.server, "to_client", "to_server")):
            events = 0
            if not link.closed[reads] and len(link.pending[reads]) < self.LIMIT:
                events |= selectors.EVENT_READ
            if link.pending[writes] and writes not in self._held:
                events |= selectors.EVENT_WRITE
            if events:
                selector.register(sock, events, (link, reads, writes))

    def _move(self, link, reads, writes, sock, events):
        try:
            if events & selectors.EVENT_READ:
                data = sock.recv(65536)
                if not data:
                    link.closed[reads] = True
                elif not (self._swallow and reads == "to_client"):
                    link.pending[reads] += data
            if events & selectors.EVENT_WRITE and writes not in self._held:
                sent = sock.send(link.pending[writes])
                del link.pending[writes][:sent]
        except BlockingIOError:
            return False
        except OSError:
            link.close(reset=True)
            return True
        # The end of a stream is passed on when all before it is.
        for direction, to in (("to_server", link.server), ("to_client", link.client)):
            if link.closed[direction] and not link.pending[direction] and direction not in self._held:
                try:
                    to.shutdown(socket.SHUT_WR)
                except OSError:
                    pass
        if all(link.closed.values()) and not any(link.pending.values()):
            link.close()
        return True
