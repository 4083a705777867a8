"""Private Postgres clusters and Kafka brokers, by deps/stack. The session has one of each; a test that stops, kills or
pauses one starts its own (fixtures own_postgres, own_kafka), as does one that wants TLS (own_tls_postgres, own_tls_kafka).
replicas.py has several of each."""

import os
import pathlib
import secrets
import shutil
import signal
import subprocess

import psycopg
from confluent_kafka.admin import (AclBinding, AclOperation, AclPermissionType, AdminClient, NewTopic, ResourcePatternType,
                                   ResourceType, ScramCredentialInfo, ScramMechanism, UserScramCredentialUpsertion)

from .tls import Authority
from .util import PROJECT, children_of, wait_until


def _stack(*args, **env):
    """Runs deps/stack; its NAME=value lines as a dict."""
    done = subprocess.run([PROJECT / "deps/stack", *map(str, args)], stdin=subprocess.DEVNULL, capture_output=True,
                          text=True, timeout=120, env={**os.environ, **env})
    if done.returncode != 0:
        raise RuntimeError(f"deps/stack {' '.join(map(str, args))}:\n{done.stderr}")
    return dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)


class Server:
    """What both kinds share. A server is a directory; processes come and go."""

    kind = None
    environment = {}  # of its start

    def __init__(self, directory):
        self.directory = directory
        self.paused = False

    def start(self):
        """Starts it, on the ports and data it had before; does nothing when it runs."""
        self.resume()
        self._started(_stack(self.kind, "start", self.directory, **self.environment))
        return self

    def stop(self, *mode):
        """A clean stop. Postgres takes a mode: smart, fast, immediate."""
        self.resume()
        _stack(self.kind, "stop", self.directory, *mode)

    def destroy(self):
        self.resume()
        _stack(self.kind, "destroy", self.directory)

    def pid(self):
        """The main process, or None when it does not run."""
        return self._pid()

    def _pid(self, *which):
        done = subprocess.run([PROJECT / "deps/stack", self.kind, "pid", self.directory, *map(str, which)], capture_output=True,
                              text=True)
        return int(done.stdout) if done.returncode == 0 else None

    def processes(self):
        pid = self.pid()
        return [pid, *children_of(pid)] if pid else []

    def _signal(self, number):
        for pid in self.processes():
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                pass

    def kill9(self):
        """As when the machine loses power, but for the page cache: nothing is said to anyone."""
        self._signal(signal.SIGKILL)
        self.paused = False
        wait_until(lambda: self.pid() is None, 10, f"{self.kind} is killed")

    def pause(self):
        """All its processes stand still: connections stay open and nothing answers."""
        self._signal(signal.SIGSTOP)
        self.paused = True

    def resume(self):
        if self.paused:
            self._signal(signal.SIGCONT)
            self.paused = False

    def heal(self):
        """Whatever a test did to it: it runs again."""
        self.resume()
        if self.pid() is None:
            self.start()


class Postgres(Server):
    kind = "postgres"

    def __init__(self, directory):
        super().__init__(directory)
        self.templates = {}  # see Env: by settings of the migration, a migrated database to copy
        self.url = self.admin_url = self.port = None

    def _started(self, lines):
        self.url = lines["DATABASE_URL"]
        self.admin_url = lines["ADMIN_DATABASE_URL"]
        self.port = int(self.url.rsplit(":", 1)[1].split("/")[0])

    def url_for(self, database, port=None):
        """Connection string of role tidings for a database; through another port when there is a proxy in between."""
        start, _ = self.url.rsplit(":", 1)
        return f"{start}:{port or self.port}/{database}"

    def connect(self, database="postgres"):
        """A connection as superuser, each statement its own transaction."""
        return psycopg.connect(self.admin_url.rsplit("/", 1)[0] + "/" + database, autocommit=True)

    def execute(self, sql):
        with self.connect() as connection:
            connection.execute(sql)


class Kafka(Server):
    kind = "kafka"
    replicas = 1

    def __init__(self, directory):
        super().__init__(directory)
        self.brokers = None
        self._admin = None

    def _started(self, lines):
        if self.brokers != lines["KAFKA_BROKERS"]:
            self._admin = None
        self.brokers = lines["KAFKA_BROKERS"]

    @property
    def admin(self):
        if not self._admin:
            # What librdkafka has to say about a broker that a test took down is of no use here.
            self._admin = AdminClient({"bootstrap.servers": self.brokers, "log_level": 2, "logger": _silent})
        return self._admin

    def create_topic(self, name, partitions=10, **config):
        topic = NewTopic(name, partitions, self.replicas, config={k.replace("_", "."): str(v) for k, v in config.items()})
        self.admin.create_topics([topic])[name].result(30)

    def delete_topic(self, name):
        self.admin.delete_topics([name])[name].result(30)


# --- with TLS ---------------------------------------------------------------------------------------------------------


class _Tls:
    """What the servers with TLS share: .authority, and a certificate for localhost. They have what deps/lib.sh says."""

    def _make_tls(self):
        self.tls = pathlib.Path(self.directory) / "tls"
        self.authority = Authority(self.tls)
        self.good = self.authority.issue("localhost", "localhost")
        self.use_certificate(self.good)

    def use_certificate(self, pem):
        """From the next start on."""
        shutil.copy(pem, self.tls / "server.pem")


class TlsPostgres(_Tls, Postgres):
    """.url is without TLS, tls_url with it."""

    def __init__(self, directory):
        super().__init__(directory)
        self._make_tls()

    def tls_url(self, database, host="localhost", ca=None):
        """As operators write it: the server's certificate and host name are verified."""
        url = self.url_for(database).replace("@127.0.0.1:", f"@{host}:")
        return f"{url}?sslmode=verify-full&sslrootcert={ca or self.authority.ca}"


_SCRAM = {"SCRAM-SHA-256": ScramMechanism.SCRAM_SHA_256, "SCRAM-SHA-512": ScramMechanism.SCRAM_SHA_512}


class TlsKafka(_Tls, Kafka):
    """The Kafka that many clusters still have: from 4.0 on, brokers refuse SCRAM by librdkafka before 2.6.1, Debian's too.

    Listens in all four ways: plaintext (.brokers, a superuser's), ssl (clients must show a certificate), sasl_ssl and
    sasl_plaintext. User tidings, with .password by all three mechanisms or the certificate .client, has the rights on topics
    and groups of a test that docs/production.md asks for, and no others; user reader may not join groups nor write."""

    environment = {"TIDINGS_KAFKA_VERSION": "3.9.1"}

    def __init__(self, directory):
        super().__init__(directory)
        self._make_tls()
        self.password = secrets.token_hex(8)
        self.client_password = secrets.token_hex(8)
        self.client = self.authority.issue("client", common_name="tidings", password=self.client_password)
        self.addresses = {}
        self._has_users = False
        self._write_settings()

    def _write_settings(self):
        module = "org.apache.kafka.common.security"
        lines = [
            "ssl.keystore.type=PEM", f"ssl.keystore.location={self.tls}/server.pem",
            "ssl.truststore.type=PEM", f"ssl.truststore.location={self.authority.ca}",
            "listener.name.ssl.ssl.client.auth=required",
            "listener.name.ssl.ssl.principal.mapping.rules=RULE:^CN=(.*)$/$1/",
            "sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
            "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users=User:ANONYMOUS",
        ]
        for listener in ("sasl_ssl", "sasl_plaintext"):
            lines.append(f"listener.name.{listener}.plain.sasl.jaas.config={module}.plain.PlainLoginModule required"
                         f' user_tidings="{self.password}";')
            for mechanism in _SCRAM:
                lines.append(f"listener.name.{listener}.{mechanism.lower()}.sasl.jaas.config="
                             f"{module}.scram.ScramLoginModule required;")
        (self.tls / "broker.properties").write_text("\n".join(lines) + "\n")

    def _started(self, lines):
        super()._started(lines)
        self.addresses = {name[6:-8].lower(): value for name, value in lines.items() if name != "KAFKA_BROKERS"}
        if not self._has_users:
            for mechanism in _SCRAM:
                self.set_password("tidings", self.password, mechanism)
            self.set_password("reader", self.password, "SCRAM-SHA-512")
            for operation in ("READ", "WRITE", "DESCRIBE", "DESCRIBE_CONFIGS"):
                self._allow("tidings", ResourceType.TOPIC, operation)
            self._allow("tidings", ResourceType.GROUP, "READ")
            self._allow("reader", ResourceType.TOPIC, "READ")
            self._has_users = True

    def set_password(self, user, password, mechanism="SCRAM-SHA-512"):
        credential = ScramCredentialInfo(_SCRAM[mechanism], 4096)
        change = UserScramCredentialUpsertion(user, credential, password.encode())
        self.admin.alter_user_scram_credentials([change])[user].result(30)

    def _allow(self, user, kind, operation):
        """On all whose name begins as those of a test's Env do."""
        acl = AclBinding(kind, "t", ResourcePatternType.PREFIXED, f"User:{user}", "*", AclOperation[operation],
                         AclPermissionType.ALLOW)
        self.admin.create_acls([acl])[acl].result(30)

    def settings(self, protocol, mechanism="SCRAM-SHA-512", **changes):
        """What a service needs for a listener; changes win, None leaves one out."""
        settings = {"KAFKA_SECURITY_PROTOCOL": protocol, "KAFKA_BROKERS": self.addresses[protocol]}
        if "ssl" in protocol:
            settings["KAFKA_SSL_CA_FILE"] = self.authority.ca
        if protocol.startswith("sasl"):
            settings.update(KAFKA_SASL_MECHANISM=mechanism, KAFKA_SASL_USERNAME="tidings", KAFKA_SASL_PASSWORD=self.password)
        if protocol == "ssl":
            settings.update(KAFKA_SSL_CERTIFICATE_FILE=self.client, KAFKA_SSL_KEY_FILE=self.client,
                            KAFKA_SSL_KEY_PASSWORD=self.client_password)
        return {k: str(v) for k, v in {**settings, **changes}.items() if v is not None}


def _make_silent():
    import logging

    logger = logging.getLogger("tidings.tests.librdkafka")
    logger.addHandler(logging.NullHandler())
    logger.propagate = False
    return logger


_silent = _make_silent()
