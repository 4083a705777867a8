"""HTTP/1.1 over one connection that stays open, as little of it as the driver needs; on asyncio."""

import asyncio
import json

CONNECT_S = 5
ANSWER_S = 40  # longer than any process is held, and than HTTP_ANSWER_TIMEOUT_MS


class NotSent(Exception):
    """No connection: the service cannot have heard of the request."""


class Lost(Exception):
    """The connection broke, or nothing came, after something was sent: who knows what became of it."""


class Connection:
    def __init__(self, port):
        self.port = port
        self._reader = self._writer = None

    async def request(self, method, path, body, headers):
        """(status, headers by their names in lower case, body as parsed from JSON or None, its text)"""
        if not self._writer:
            try:
                self._reader, self._writer = await asyncio.wait_for(asyncio.open_connection("127.0.0.1", self.port), CONNECT_S)
            except (OSError, TimeoutError) as error:
                raise NotSent(str(error)) from None
        head = [f"{method} {path} HTTP/1.1", "Host: tidings", f"Content-Length: {len(body)}"]
        head += [f"{name}: {value}" for name, value in headers.items()]
        try:
            self._writer.write("\r\n".join(head).encode() + b"\r\n\r\n" + body)
            return await asyncio.wait_for(self._answer(), ANSWER_S)
        except (OSError, EOFError, TimeoutError) as error:
            self.close()
            raise Lost(repr(error)) from None

    async def _answer(self):
        await self._writer.drain()
        lines = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, value in (line.split(":", 1) for line in lines[1:] if line)}
        text = await self._reader.readexactly(int(headers["content-length"]))
        if headers.get("connection", "").lower() == "close":
            self.close()
        try:
            parsed = json.loads(text)
        except ValueError:
            parsed = None
        return int(lines[0].split()[1]), headers, parsed, text.decode(errors="replace")

    def close(self):
        if self._writer:
            self._writer.transport.abort()
        self._reader = self._writer = None
