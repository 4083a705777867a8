"""An SMTP server that goes wrong in a way and at a place that a test chooses: what a library for servers does not do."""

import socket
import threading

from .smtp import Received
from .util import free_port, wait_until

STAGES = ("greeting", "ehlo", "mail", "rcpt", "data", "message")
GOOD = {"quit": "221 bye", "greeting": "220 hello", "ehlo": "250 here", "mail": "250 OK", "rcpt": "250 OK", "data": "354 go on", "message": "250 OK"}


class BadSmtp:
    """.url is for SMTP_URL. plan: a connection each, (stage, what happens there): a reply such as "451 later", or

    close     the connection ends
    stall     nothing comes
    endless   a reply that has always one more line
    no end    a line that does not end
    nonsense  no reply at all, but something else

    A third, (stage, what happens there, what happens at QUIT), says how it goes on after a reply.

    When the plan is used up all connections are good. keep: they may send several mails. The good mails are in .mails."""

    def __init__(self, plan=(), keep=False):
        self.plan = list(plan)
        self.keep = keep
        self.connections = 0
        self.mails = []
        self._lock = threading.Lock()
        self._open = set()
        port = free_port()
        self.url = f"smtp://127.0.0.1:{port}"
        self._listener = socket.create_server(("127.0.0.1", port), backlog=64)
        threading.Thread(target=self._accept, daemon=True).start()

    def heal(self):
        with self._lock:
            self.plan.clear()

    def close(self):
        self._listener.close()
        with self._lock:
            for connection in self._open:
                connection.close()

    def wait(self, recipients, seconds=20):
        """Until each of them has had a mail."""
        wait_until(lambda: set(recipients) <= self.recipients(), seconds,
                   lambda: f"mails to {sorted(set(recipients) - self.recipients())}; left of the plan: {self.plan}")

    def recipients(self):
        with self._lock:
            return {r for m in self.mails for r in m.rcpt_tos}

    def _accept(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                self.connections += 1
                fault = self.plan.pop(0) if self.plan else (None, None)
                self._open.add(connection)
            threading.Thread(target=self._serve, args=(connection, fault), daemon=True).start()

    def _serve(self, connection, fault):
        try:
            with connection, connection.makefile("rb") as lines:
                self._dialogue(connection, lines, fault)
        except (OSError, ValueError):
            pass  # closed, by whomever
        with self._lock:
            self._open.discard(connection)

    def _dialogue(self, connection, lines, fault):
        sender, recipients = None, []
        if not self._reply(connection, lines, "greeting", fault):
            return
        for line in lines:
            word = line.split(b":")[0].strip().upper().decode("ascii", "replace")
            if word == "QUIT":
                self._reply(connection, lines, "quit", fault)
                return
            stage = {"MAIL FROM": "mail", "RCPT TO": "rcpt", "DATA": "data"}.get(word, "ehlo")
            if stage == "mail":
                sender, recipients = line, []
            elif stage == "rcpt":
                recipients.append(line.split(b"<")[1].split(b">")[0].decode())
            if not self._reply(connection, lines, stage, fault):
                return
            if stage == "data" and fault[0] != "data":
                text = b""
                for part in iter(lines.readline, b".\r\n"):
                    if not part:
                        return
                    text += part
                if not self._reply(connection, lines, "message", fault):
                    return
                if fault[0] != "message":
                    with self._lock:
                        self.mails.append(Received(text, sender, recipients))
                elif len(fault) > 2:
                    fault = ("mail", *fault[1:])  # no QUIT comes after this reply: the connection is kept
                if not self.keep and len(fault) < 3:
                    return

    def _reply(self, connection, lines, stage, fault):
        """False: the dialogue is at its end."""
        how = fault[2] if stage == "quit" and len(fault) > 2 else fault[1] if stage == fault[0] else None
        if how is None:
            connection.sendall(GOOD[stage].encode() + b"\r\n")
            return True
        if how == "stall":
            while lines.readline():
                pass
        elif how == "endless":
            while True:
                connection.sendall(GOOD[stage][:3].encode() + b"-and\r\n")
        elif how == "no end":
            while True:
                connection.sendall(b"2" * 1000)
        elif how == "nonsense":
            connection.sendall(b"\0\xff{}\r\n\r\nHTTP/1.1 200 OK\r\n")
        elif how != "close":
            connection.sendall(how.encode() + b"\r\n")
            return how[0] in "45" and (stage not in ("greeting", "message") or len(fault) > 2)
        return False
