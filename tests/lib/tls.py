"""Certificates of a test's own making, by openssl."""

import pathlib
import socket
import ssl
import subprocess
import threading

from .util import wait_until

# Nothing of the machine's openssl.cnf: what a certificate says is said here.
_CONFIG = "[req]\ndistinguished_name = dn\n[dn]\n"


class Authority:
    """A certificate authority in a directory. .ca is its certificate's file, for whoever shall trust it."""

    def __init__(self, directory, name="Tidings test authority"):
        self.directory = pathlib.Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.ca = self.directory / "ca.pem"
        self._key = self.directory / "ca.key"
        self._config = self.directory / "openssl.cnf"
        self._config.write_text(_CONFIG)
        self._request(self._key, self.ca, name, "basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign")

    def issue(self, name, *hosts, common_name=None, password=None):
        """Makes <name>.key, <name>.crt and <name>.pem (both in one file) for host names and addresses; the last one's path.
        password: the key is encrypted with it."""
        key, crt, pem = (self.directory / f"{name}.{end}" for end in ("key", "crt", "pem"))
        names = ",".join(f"IP:{h}" if h.replace(".", "").isdigit() else f"DNS:{h}" for h in hosts)
        self._request(key, crt, common_name or name, "basicConstraints=critical,CA:FALSE",
                      *([f"subjectAltName={names}"] if names else []), ca=self, password=password)
        pem.write_text(key.read_text() + crt.read_text())
        return pem

    def _request(self, key, crt, common_name, *extensions, ca=None, password=None):
        command = ["openssl", "req", "-x509", "-config", self._config, "-days", "2", "-newkey", "ec", "-pkeyopt",
                   "ec_paramgen_curve:P-256", "-keyout", key, "-out", crt, "-subj", f"/CN={common_name}"]
        command += ["-passout", f"pass:{password}"] if password else ["-nodes"]
        command += ["-CA", ca.ca, "-CAkey", ca._key] if ca else []
        for extension in extensions:
            command += ["-addext", extension]
        subprocess.run(list(map(str, command)), check=True, capture_output=True)


def server_context(pem):
    """For a server in Python that has the key and the certificate of issue()."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    return context


class Impostor:
    """Somebody else who listens on a server's port while that is away: shows its certificate and hangs up.
    .visits counts who came."""

    def __init__(self, port, pem):
        self.visits = 0
        self._context = server_context(pem)
        # A server that was killed gives its port back a moment later.
        self._listener = wait_until(lambda: self._listen(port), 10, f"port {port} is free")
        threading.Thread(target=self._accept, daemon=True).start()

    @staticmethod
    def _listen(port):
        try:
            return socket.create_server(("127.0.0.1", port))
        except OSError:
            return None

    def _accept(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.visits += 1
            threading.Thread(target=self._greet, args=(connection,), daemon=True).start()

    def _greet(self, connection):
        with connection:
            try:
                connection.settimeout(5)
                self._context.wrap_socket(connection, server_side=True).close()
            except OSError:
                pass  # the client does not like the certificate

    def close(self):
        self._listener.shutdown(socket.SHUT_RDWR)  # wakes accept()
        self._listener.close()
