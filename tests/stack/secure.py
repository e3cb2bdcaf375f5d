"""What proves who it talks to: certificates, a broker that asks for a login, a registry behind mutual TLS.

Knows nothing of what the program should do. Certificates are made by the `openssl` command.
"""
import base64
import http.server
import json
import os
import ssl
import subprocess
import threading
import time
import urllib.error
import urllib.request

from servers import HOST, Kafka, free_port

# How long a broker lets a session stand before it asks again who we are: a little less than the tokens live.
REAUTHENTICATE_MS = 15000


class Authority:
    """A throw-away certificate authority; its files are below `folder`."""

    def __init__(self, folder, name="authority"):
        os.makedirs(folder, exist_ok=True)
        self.folder, self.name = folder, name
        self.ca = self.path(name + ".pem")
        self._openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-keyout", self.path(name + ".key"),
                      "-out", self.ca, "-subj", "/CN=" + name, "-addext", "basicConstraints=critical,CA:true")

    def path(self, name):
        return os.path.join(self.folder, name)

    @staticmethod
    def _openssl(*arguments):
        done = subprocess.run(["openssl", *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    def issue(self, name, passphrase=None):
        """A certificate for a host or role, valid for loopback, and its key: their paths."""
        key, request, certificate = (self.path(name + end) for end in (".key", ".csr", ".crt"))
        self._openssl("req", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", request, "-subj", "/CN=" + name)
        with open(self.path(name + ".ext"), "w", encoding="utf-8") as f:
            f.write("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
        self._openssl("x509", "-req", "-in", request, "-CA", self.ca, "-CAkey", self.path(self.name + ".key"),
                      "-CAcreateserial", "-days", "2", "-extfile", f.name, "-out", certificate)
        if passphrase:
            self._openssl("pkcs8", "-topk8", "-v2", "aes256", "-in", key, "-out", key + ".locked", "-passout",
                          "pass:" + passphrase)
            os.replace(key + ".locked", key)
        os.chmod(key, 0o600)
        return certificate, key

    def keystore(self, name):
        """Key and chain in one file, as Kafka reads them."""
        certificate, key = self.issue(name)
        path = self.path(name + ".store.pem")
        with open(path, "w", encoding="utf-8") as out:
            for part in (key, certificate, self.ca):
                with open(part, encoding="utf-8") as f:
                    out.write(f.read())
        os.chmod(path, 0o600)
        return path


class SecureKafka(Kafka):
    """A broker with a second listener over TLS that takes SCRAM-SHA-256 and, by unsigned tokens, OAUTHBEARER.

    `brokers` is the plain listener, for whoever checks; `secure` the other one.
    """

    def __init__(self, name, authority):
        super().__init__(name)
        self.secure_port = free_port()
        self.secure = "localhost:%d" % self.secure_port
        self.store = authority.keystore(name)

    def _settings(self):
        settings = super()._settings()
        settings["listeners"] += ",SECURE://%s:%d" % (HOST, self.secure_port)
        settings["advertised.listeners"] += ",SECURE://" + self.secure
        settings["listener.security.protocol.map"] += ",SECURE:SASL_SSL"
        prefix = "listener.name.secure."
        modules = "org.apache.kafka.common.security."
        settings.update({
            "sasl.enabled.mechanisms": "SCRAM-SHA-256,OAUTHBEARER",
            prefix + "ssl.keystore.type": "PEM",
            prefix + "ssl.keystore.location": self.store,
            prefix + "scram-sha-256.sasl.jaas.config": modules + "scram.ScramLoginModule required;",
            prefix + "oauthbearer.sasl.jaas.config":
                modules + 'oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub="broker";',
            prefix + "oauthbearer.connections.max.reauth.ms": str(REAUTHENTICATE_MS),
        })
        return settings

    def password(self, user, password):
        """Sets a user's password; sessions that are open stay."""
        from confluent_kafka.admin import (AdminClient, ScramCredentialInfo, ScramMechanism,
                                           UserScramCredentialUpsertion)

        admin = AdminClient({"bootstrap.servers": self.brokers})
        info = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_256, 4096)
        change = UserScramCredentialUpsertion(user, info, password.encode())
        for answer in admin.alter_user_scram_credentials([change]).values():
            answer.result(30)

    def create(self, topics):
        """Topics with their settings: name to (partitions, settings)."""
        from confluent_kafka.admin import AdminClient, NewTopic

        new = [NewTopic(name, count, 1, config=config) for name, (count, config) in topics.items()]
        admin = AdminClient({"bootstrap.servers": self.brokers})
        for answer in admin.create_topics(new).values():
            answer.result(30)


def unsigned_token(subject, seconds):
    """A JSON Web Token without signature, as RFC 7515 allows and only a test should."""
    def part(value):
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    now = time.time()
    return "%s.%s." % (part({"alg": "none"}), part({"sub": subject, "iat": now - 1, "exp": now + seconds}))


class Gate:
    """HTTPS with clients' certificates in front of a registry. `takes(header)` says which credentials are let through;
    `refusal(path)` may answer in the registry's place: (status, text)."""

    def __init__(self, registry, authority, takes):
        self.registry, self.takes, self.refusal = registry, takes, None
        self.denied = self.passed = 0
        gate = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def answer(self):
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                status, text = gate.ask(self.command, self.path, self.headers, body)
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            do_GET = do_POST = do_PUT = answer

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request, client_address):
                pass  # a client without a certificate is no fault of ours

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*authority.issue("registry"))
        context.load_verify_locations(authority.ca)
        context.verify_mode = ssl.CERT_REQUIRED
        self.server = Server((HOST, 0), Handler)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True, do_handshake_on_connect=False)
        self.url = "https://localhost:%d" % self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def ask(self, method, path, headers, body):
        if not self.takes(headers.get("Authorization") or ""):
            self.denied += 1
            return 401, b'{"error_code": 40101, "message": "who are you?"}'
        refused = self.refusal(path) if self.refusal else None
        if refused:
            return refused
        self.passed += 1
        kept = {name: headers[name] for name in ("Accept", "Content-Type") if headers.get(name)}
        request = urllib.request.Request(self.registry + path, data=body or None, method=method, headers=kept)
        try:
            with urllib.request.urlopen(request, timeout=15) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def kill(self):
        self.server.shutdown()
        self.server.server_close()
