"""An SMTP server that keeps what it gets and can be told to fail."""

import asyncio
import socket
import ssl
import threading

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult

from .mail import Mail
from .tls import server_context
from .util import free_port, wait_until

TRANSIENT = "451 4.3.0 try again later"
PERMANENT = "550 5.1.1 no such mailbox"


class Received(Mail):
    """A mail, with its envelope."""

    def __init__(self, raw, mail_from, rcpt_tos):
        super().__init__(raw)
        self.mail_from = mail_from
        self.rcpt_tos = [r.lower() for r in rcpt_tos]


class _Rule:
    def __init__(self, reply, stage, times):
        self.reply, self.stage, self.times = reply, stage, times
        self.hit = 0

    def applies(self, stage):
        if self.stage != stage or (self.times is not None and self.hit >= self.times):
            return False
        self.hit += 1
        return True


class _Controller(Controller):
    def _trigger_server(self):
        """aiosmtpd's own way to be its first client cannot speak TLS with a server's context."""
        with socket.create_connection((self.hostname, self.port), 5) as connection:
            if self.ssl_context:
                client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
                client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
                connection = client.wrap_socket(connection)
            connection.recv(1024)
            connection.close()


class SmtpSink:
    """.url is for SMTP_URL. Rules are per recipient (None: all); what has no rule is accepted and kept in .mails.

    certificate  file with key and certificate: STARTTLS is offered; or, with implicit, TLS from the first byte on
    users        {name: password}; a client must log in, with TLS. May be changed later
    host         the name in .url"""

    def __init__(self, certificate=None, implicit=False, users=None, host="127.0.0.1"):
        self.port = free_port()
        self.url = f"{'smtps' if implicit else 'smtp'}://{host}:{self.port}"
        self.users = users
        self.logins = 0  # tries
        self._options = {}
        if certificate:
            self._options["ssl_context" if implicit else "tls_context"] = server_context(certificate)
        if users is not None:
            self._options.update(auth_required=True, auth_require_tls=certificate is not None and not implicit,
                                 authenticator=self._log_in)
        self.mails = []
        self._rules = {}
        self._lock = threading.Lock()
        self._released = None  # asyncio.Event of the controller's loop
        self._controller = None
        self.up()

    # --- what a test tells it ---

    def fail(self, recipient=None, reply=TRANSIENT, stage="rcpt", times=None):
        """Answers with `reply` at stage "rcpt" or "data", the first `times` times (None: until heal)."""
        self._set(recipient, _Rule(reply, stage, times))

    def hang(self, recipient=None, stage="data", times=None):
        """Does not answer at that stage until heal."""
        self._set(recipient, _Rule("hang", stage, times))

    def drop(self, recipient=None, times=1):
        """Keeps the mail, but closes the connection instead of answering: the client cannot know."""
        self._set(recipient, _Rule("drop", "data", times))

    def heal(self):
        """No rule is left, whoever hangs goes on, the server listens."""
        with self._lock:
            self._rules.clear()
        if self._controller:
            self._controller.loop.call_soon_threadsafe(self._released.set)
        else:
            self.up()

    def down(self):
        """Nobody listens any more: connection refused."""
        if self._controller:
            self._controller.loop.call_soon_threadsafe(self._released.set)
            self._controller.stop()
            self._controller = None

    close = down

    def up(self):
        if not self._controller:
            self._released = None
            self._controller = _Controller(self, hostname="127.0.0.1", port=self.port, decode_data=False,
                                           enable_SMTPUTF8=True, **self._options)
            self._controller.start()
            self._released = asyncio.Event()

    # --- what a test asks it ---

    def to(self, recipient):
        with self._lock:
            return [m for m in self.mails if recipient.lower() in m.rcpt_tos]

    def wait(self, recipient, count=1, seconds=10):
        """The mails to a recipient once there are `count`."""
        return wait_until(lambda: (lambda m: m if len(m) >= count else None)(self.to(recipient)), seconds,
                          lambda: f"{count} mail(s) to {recipient}; there are {self.mails}")

    # --- aiosmtpd's side, on the controller's thread ---

    def _log_in(self, server, session, envelope, mechanism, auth_data):
        self.logins += 1
        name, password = auth_data.login.decode(), auth_data.password.decode()
        return AuthResult(success=self.users.get(name) == password, handled=False)

    def _set(self, recipient, rule):
        with self._lock:
            self._rules[recipient.lower() if recipient else None] = rule

    def _rule(self, recipients, stage):
        with self._lock:
            for recipient in [*(r.lower() for r in recipients), None]:
                rule = self._rules.get(recipient)
                if rule and rule.applies(stage):
                    if rule.reply == "hang":
                        self._released.clear()
                    return rule
        return None

    async def _reply(self, rule):
        if rule.reply == "hang":
            await self._released.wait()
            return TRANSIENT
        return rule.reply

    async def handle_RCPT(self, server: SMTP, session, envelope, address, rcpt_options):
        rule = self._rule([address], "rcpt")
        if rule:
            return await self._reply(rule)
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session, envelope):
        rule = self._rule(envelope.rcpt_tos, "data")
        if rule and rule.reply != "drop":
            return await self._reply(rule)
        with self._lock:
            self.mails.append(Received(envelope.content, envelope.mail_from, envelope.rcpt_tos))
        if rule:
            server.transport.abort()
        return "250 OK"
