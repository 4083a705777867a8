"""A TCP proxy that can be cut, held and healed: a network that fails. Kafka's clients go on to the address that the broker
advertises: it must be started with KAFKA_ADVERTISED (deps/stack --help)."""

import asyncio
import socket
import struct
import threading

from .util import free_port

DIRECTIONS = ("to_server", "to_client")


class Proxy:
    """Listens on .port and forwards to 127.0.0.1:target, from a thread of its own. Methods return when done; any thread.

    cut()      every connection is reset, new ones are refused
    reset()    every connection is reset, new ones are welcome
    hang(d)    bytes of a direction ("to_server", "to_client" or "both") are held back; connections stay open
    swallow()  what the server sends is lost: requests arrive, answers do not
    lose_answer(marker)  the next time that a client sends bytes with `marker` in them, they arrive, the answer does not, and
               the client's connection is reset: when the answer comes or, with at_once, as soon as the request is passed on
               (the server then hears of it only when it answers)
    heal()     as at the start: what was held is delivered, connections that lost bytes are reset
    """

    def __init__(self, target):
        self.target = target
        self.port = free_port()
        self.latency = 0.0  # seconds before a chunk is passed on
        self._links = set()  # the writers of all connections, both sides
        self._swallow = False
        self._marker, self._at_once = None, False
        self.lost = threading.Event()  # set when lose_answer has done its work
        self._server = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"proxy-{self.port}", daemon=True)
        self._thread.start()
        self._open = {}  # per direction an event: set while bytes may pass
        self._do(self._start())

    def connections(self):
        return len(self._links) // 2

    def cut(self):
        self._do(self._cut())

    def reset(self):
        self._do(self._reset())

    def hang(self, direction="both"):
        self._do(self._hang(DIRECTIONS if direction == "both" else (direction,)))

    def swallow(self):
        self._swallow = True

    def lose_answer(self, marker, at_once=False):
        self.lost.clear()
        self._marker, self._at_once = marker, at_once

    def heal(self):
        self._do(self._heal())

    def close(self):
        self._do(self._cut())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)

    # --- on the proxy's thread ---

    def _do(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(10)

    async def _start(self):
        for direction in DIRECTIONS:
            self._open[direction] = asyncio.Event()
            self._open[direction].set()
        await self._listen()

    async def _listen(self):
        self._server = await asyncio.start_server(self._on_connect, "127.0.0.1", self.port)

    async def _cut(self):
        if self._server:
            self._server.close()
            self._server = None
        await self._reset()

    async def _reset(self):
        for writer in self._links:
            self._abort(writer)
        self._links.clear()

    @staticmethod
    def _abort(writer):
        # With this option set, closing sends a reset and drops what is unsent.
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    async def _hang(self, directions):
        for direction in directions:
            self._open[direction].clear()

    async def _heal(self):
        self._marker = None
        if self._swallow:
            self._swallow = False
            await self._reset()
        self.latency = 0.0
        for event in self._open.values():
            event.set()
        if not self._server:
            await self._listen()

    async def _on_connect(self, client_reader, client_writer):
        try:
            server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            client_writer.transport.abort()
            return
        pair = {client_writer, server_writer}
        self._links |= pair
        link = _Link(client_writer)
        await asyncio.gather(self._pump(client_reader, server_writer, "to_server", link),
                             self._pump(server_reader, client_writer, "to_client", link))
        for writer in pair:
            writer.close()
        self._links -= pair

    async def _pump(self, reader, writer, direction, link):
        try:
            while data := await reader.read(65536):
                if self.latency:
                    await asyncio.sleep(self.latency)
                await self._open[direction].wait()
                if self._swallow and direction == "to_client":
                    continue
                if direction == "to_client" and link.loses_answer:
                    self._lose(link)
                    writer.transport.abort()
                    return
                if direction == "to_server" and self._marker and self._marker in data:
                    self._marker, link.loses_answer = None, True
                writer.write(data)
                await writer.drain()
                if self._at_once and link.loses_answer:
                    self._lose(link)
            await self._open[direction].wait()
            writer.write_eof()
        except OSError:
            writer.transport.abort()  # one side is gone: the other one hears of it

    def _lose(self, link):
        self._abort(link.client)
        self.lost.set()


class _Link:
    """One connection through a proxy."""

    def __init__(self, client):
        self.client = client  # its writer
        self.loses_answer = False  # lose_answer has met its request
