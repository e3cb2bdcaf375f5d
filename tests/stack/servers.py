#!/usr/bin/env python3
"""Real servers on free loopback ports: Postgres, Kafka, a schema registry, Kafka Connect, and our mock peers.

    servers.py stop      ends what an interrupted run left behind, by its pid files

Each server is an object with `start`, `stop` (a signal, then waiting) and `kill` (SIGKILL); data, log and pid are in a
directory of its own below target/stack/run. Nothing here is installed, nothing outlives the process that started it.
"""
import atexit
import contextlib
import fcntl
import itertools
import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

import dist

HOST = "127.0.0.1"
RUN = os.path.join(dist.state_root(), "run")
_given = set()
_running = []
# Blocks of ports below those that the kernel gives to clients. A process has its block while it holds the lock of a file.
BLOCKS = range(14000, 32000, 1000)
_block_ports = None
_block_lock = None


def use_a_block_of_ports():
    """From now on this process gives out ports that no other process of the machine's tests gives out."""
    global _block_ports, _block_lock  # pylint: disable=global-statement
    for first in BLOCKS:
        try:
            path = os.path.join(tempfile.gettempdir(), "wellspring-ports-%d" % first)
            _block_lock = open(path, "w", encoding="utf-8")  # pylint: disable=consider-using-with
            fcntl.flock(_block_lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:  # somebody else has it
            continue
        _block_ports = itertools.cycle(range(first, first + BLOCKS.step))
        return
    raise Late("each of the %d blocks of ports is taken" % len(BLOCKS))


def free_port():
    """A loopback port that nobody listens on and that no server of ours was given."""
    while True:
        with socket.socket() as probe:
            try:
                probe.bind((HOST, next(_block_ports) if _block_ports else 0))
            except OSError:  # somebody else has it
                continue
            port = probe.getsockname()[1]
        if port not in _given:
            _given.add(port)
            return port


@atexit.register
def end_all():
    """Kills the servers that this process started and has not ended."""
    while _running:
        _running.pop().kill()


class Late(AssertionError):
    """A condition did not become true before its deadline."""


def wait_until(what, condition, seconds=30.0, every=0.05):
    """The first true value of `condition`; `Late` with `what` after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise Late("after %.0f s still not so: %s" % (seconds, what))
        time.sleep(every)


def tail(path, lines=40):
    try:
        with open(path, encoding="utf-8", errors="replace") as f:
            return "".join(f.readlines()[-lines:])
    except OSError as error:
        return "(%s)\n" % error


class Process:
    """One child process with its directory, log and pid file."""

    def __init__(self, name):
        self.name = name
        self.dir = os.path.join(RUN, name)
        self.log = os.path.join(self.dir, "log")
        self.child = None
        os.makedirs(self.dir, exist_ok=True)

    @property
    def pid(self):
        return self.child.pid

    def alive(self):
        return self.child is not None and self.child.poll() is None

    def launch(self, command, env=None, account=None, stdin=subprocess.DEVNULL):
        assert not self.alive(), self.name + " is running already"
        rights = {}
        if account:
            entry = pwd.getpwnam(account)
            rights = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
        with open(self.log, "ab") as log:
            self.child = subprocess.Popen(
                command, stdout=log, stderr=subprocess.STDOUT, stdin=stdin, start_new_session=True,
                env={**os.environ, **(env or {})}, cwd=self.dir, **rights,
            )
        with open(os.path.join(self.dir, "pid"), "w", encoding="utf-8") as f:
            f.write("%d %d" % (self.child.pid, os.getpid()))
        _running.append(self)

    def ready(self, condition, seconds=60.0):
        def either():
            if not self.alive():
                raise Late("%s ended while starting:\n%s" % (self.name, tail(self.log)))
            return condition()

        wait_until(self.name + " is ready", either, seconds)
        return self

    def send(self, number):
        if self.alive():
            os.kill(self.pid, number)

    def ended(self, seconds=30.0):
        """The exit status, waiting for it."""
        wait_until(self.name + " has ended", lambda: not self.alive(), seconds, every=0.01)
        if self in _running:
            _running.remove(self)
        if os.path.exists(os.path.join(self.dir, "pid")):
            os.remove(os.path.join(self.dir, "pid"))
        return self.child.returncode

    def stop(self, number=signal.SIGTERM, seconds=30.0):
        if not self.alive():
            return None
        self.send(number)
        try:
            return self.ended(seconds)
        except Late:
            self.kill()
            raise

    def kill(self):
        if self.alive():
            self.send(signal.SIGKILL)
            self.ended()

    def wipe(self):
        self.kill()
        shutil.rmtree(self.dir, ignore_errors=True)
        os.makedirs(self.dir, exist_ok=True)


def http(url, method="GET", body=None, seconds=5.0, headers=None):
    """(status, text); status 0 when nobody answers."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, method=method, headers=headers or {})
    if data is not None and not request.has_header("Content-type"):
        request.add_header("Content-Type", "application/vnd.schemaregistry.v1+json")
    try:
        with urllib.request.urlopen(request, timeout=seconds) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode(errors="replace")
    except (OSError, urllib.error.URLError):
        return 0, ""


class Postgres(Process):
    """A cluster of one major version; trusts loopback, superuser `postgres`. Runs as another account under root."""

    def __init__(self, major=15, name=None, settings=None):
        super().__init__(name or "postgres-%d" % major)
        self.major = major
        self.bin = dist.postgres(major)
        self.port = free_port()
        self.data = os.path.join(self.dir, "data")
        self.settings = {
            "listen_addresses": HOST,
            "port": self.port,
            "unix_socket_directories": self.dir,
            "wal_level": "logical",
            "max_wal_senders": 20,
            "max_replication_slots": 20,
            "shared_buffers": "128MB",
            "max_wal_size": "4GB",
            "timezone": "UTC",
            "log_line_prefix": "%m [%p] %a ",
            # The machine does not lose power in a test; kill -9 of a server keeps what the kernel was given.
            "fsync": "off",
            **(settings or {}),
        }
        self.account = None
        if os.getuid() == 0:
            names = {entry.pw_name for entry in pwd.getpwall()}
            self.account = "postgres" if "postgres" in names else "nobody"

    def own(self):
        if self.account:
            entry = pwd.getpwnam(self.account)
            for root, folders, files in os.walk(self.dir):
                for name in [root] + [os.path.join(root, n) for n in folders + files]:
                    if os.stat(name, follow_symlinks=False).st_uid == 0:
                        os.chown(name, entry.pw_uid, entry.pw_gid, follow_symlinks=False)

    def as_account(self, *command):
        rights = {}
        if self.account:
            entry = pwd.getpwnam(self.account)
            rights = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=self.dir,
                              check=False, **rights)
        assert done.returncode == 0, "%s: %s" % (" ".join(command), done.stdout)
        return done.stdout

    def start(self, seconds=60.0):
        self.own()
        if not os.path.exists(os.path.join(self.data, "PG_VERSION")):
            self.as_account(os.path.join(self.bin, "initdb"), "-D", self.data, "-U", "postgres", "-E", "UTF8",
                            "--locale=C.UTF-8", "--auth=trust", "--no-sync")
        with open(os.path.join(self.data, "postgresql.auto.conf"), "w", encoding="utf-8") as f:
            f.writelines("%s = '%s'\n" % item for item in self.settings.items())
        self.own()
        self.launch([os.path.join(self.bin, "postgres"), "-D", self.data], account=self.account)
        return self.ready(self._accepting, seconds)

    def _accepting(self):
        try:
            with open(os.path.join(self.data, "postmaster.pid"), encoding="utf-8") as f:
                return f.read().splitlines()[7].strip() == "ready"
        except (OSError, IndexError):
            return False

    def stop(self, number=signal.SIGINT, seconds=60.0):
        """SIGINT is a fast shutdown, as `pg_ctl stop -m fast` sends it."""
        return super().stop(number, seconds)

    def kill(self):
        """At once, and its children with it, so that the data directory is free."""
        self.stop(signal.SIGQUIT)

    def url(self, database="postgres", user="postgres"):
        return "postgresql://%s@%s:%d/%s" % (user, HOST, self.port, database)

    def psql(self, sql=None, file=None, database="postgres", check=True):
        """Runs SQL with psql; its output, unaligned, without headings."""
        command = [dist.client_tool("psql"), "-XqAt", "-v", "ON_ERROR_STOP=1", "-d", self.url(database)]
        command += ["-c", sql] if file is None else ["-f", file]
        done = subprocess.run(command, capture_output=True, text=True, check=False,
                              env={**os.environ, "PGTZ": "UTC", "PGCLIENTENCODING": "UTF8"})
        if check and done.returncode != 0:
            raise AssertionError("psql: %s\n%s" % (sql or file, done.stderr))
        return done.stdout.strip()

    def connect(self, database="postgres"):
        import psycopg

        return psycopg.connect(self.url(database), autocommit=True)


class Kafka(Process):
    """One broker with its controller. `proxied` is the port that a second listener tells its clients to use."""

    def __init__(self, name="kafka", proxied=None, settings=None):
        super().__init__(name)
        self.port, self.controller = free_port(), free_port()
        self.inner = free_port() if proxied else None
        self.proxied = proxied
        self.brokers = "%s:%d" % (HOST, self.port)
        self.extra = settings or {}

    def _settings(self):
        listeners = "PLAIN://%s:%d,CONTROLLER://%s:%d" % (HOST, self.port, HOST, self.controller)
        advertised = "PLAIN://%s:%d" % (HOST, self.port)
        if self.proxied:
            listeners += ",PROXIED://%s:%d" % (HOST, self.inner)
            advertised += ",PROXIED://%s:%d" % (HOST, self.proxied)
        return {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.bootstrap.servers": "%s:%d" % (HOST, self.controller),
            "controller.listener.names": "CONTROLLER",
            "inter.broker.listener.name": "PLAIN",
            "listeners": listeners,
            "advertised.listeners": advertised,
            "listener.security.protocol.map": "PLAIN:PLAINTEXT,PROXIED:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "log.dirs": os.path.join(self.dir, "data"),
            "num.partitions": "3",
            "auto.create.topics.enable": "false",
            "offsets.topic.replication.factor": "1",
            "offsets.topic.num.partitions": "1",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "share.coordinator.state.topic.replication.factor": "1",
            "share.coordinator.state.topic.min.isr": "1",
            "group.initial.rebalance.delay.ms": "0",
            "log.cleaner.backoff.ms": "1000",
            "num.network.threads": "2",
            "num.io.threads": "2",
            # A quota holds from the second second on; with the default of eleven windows ten seconds pass in one burst.
            "quota.window.num": "2",
            **self.extra,
        }

    def _java(self, heap, *arguments):
        return ["java", "-Xmx" + heap, "-Xms" + heap, "-XX:+UseSerialGC",
                "-Dlog4j2.configurationFile=" + os.path.join(dist.HERE, "kafka", "log4j2.properties"),
                "-cp", os.path.join(dist.kafka(), "*"), *arguments]

    def start(self):
        settings = os.path.join(self.dir, "server.properties")
        with open(settings, "w", encoding="utf-8") as f:
            f.writelines("%s=%s\n" % item for item in self._settings().items())
        if not os.path.exists(os.path.join(self.dir, "data", "meta.properties")):
            dist.run(*self._java("128m", "kafka.tools.StorageTool", "format", "--standalone",
                                 "--cluster-id", "wellspring-stack-00000", "--config", settings))
        before = os.path.getsize(self.log) if os.path.exists(self.log) else 0
        self.launch(self._java("512m", "kafka.Kafka", settings))

        def started():
            with open(self.log, "rb") as f:
                f.seek(before)
                return b"Kafka Server started" in f.read()

        return self.ready(started, 90)


class Registry(Process):
    """Apicurio, which speaks Confluent's REST interface; schemas in memory."""

    def __init__(self, name="registry"):
        super().__init__(name)
        self.port, self.management = free_port(), free_port()
        self.url = "http://%s:%d/apis/ccompat/v7" % (HOST, self.port)

    def start(self):
        self.launch(
            [dist.java(), "-Xmx384m", "-XX:+UseSerialGC", "-jar", os.path.join(dist.registry(), "quarkus-run.jar")],
            env={
                "QUARKUS_HTTP_HOST": HOST,
                "QUARKUS_HTTP_PORT": str(self.port),
                "QUARKUS_HTTP_ACCESS_LOG_ENABLED": "false",
                "QUARKUS_MANAGEMENT_HOST": HOST,
                "QUARKUS_MANAGEMENT_PORT": str(self.management),
                "QUARKUS_LOG_LEVEL": "WARN",
                "APICURIO_REST_DELETION_ARTIFACT_ENABLED": "true",
            },
        )
        self.ready(lambda: http(self.url + "/subjects")[0] == 200, 120)
        status, text = http(self.url + "/config", "PUT", {"compatibility": "BACKWARD"})
        assert status == 200, text
        return self


class Connect(Process):
    """A Kafka Connect worker with Debezium's connector for Postgres, its JDBC sink and Confluent's Avro converter.

    The converters are the worker's, so a connector says nothing of them. What one worker knows of connectors and offsets
    is in topics that carry its name.
    """

    def __init__(self, brokers, registry, name="connect"):
        super().__init__(name)
        self.port = free_port()
        self.url = "http://%s:%d" % (HOST, self.port)
        self.file = os.path.join(self.dir, "worker.properties")
        self.settings = {
            "bootstrap.servers": brokers,
            "group.id": name,
            "listeners": self.url,
            "plugin.path": dist.plugins(),
            "plugin.discovery": "service_load",
            "key.converter": "io.confluent.connect.avro.AvroConverter",
            "key.converter.schema.registry.url": registry,
            "value.converter": "io.confluent.connect.avro.AvroConverter",
            "value.converter.schema.registry.url": registry,
            "offset.flush.interval.ms": "1000",
        }
        for kind in ("config", "offset", "status"):
            self.settings[kind + ".storage.topic"] = "%s-%ss" % (name, kind)
            self.settings[kind + ".storage.replication.factor"] = "1"
            if kind != "config":
                self.settings[kind + ".storage.partitions"] = "1"

    @property
    def offsets_topic(self):
        return self.settings["offset.storage.topic"]

    def start(self):
        with open(self.file, "w", encoding="utf-8") as f:
            f.writelines("%s=%s\n" % item for item in self.settings.items())
        self.launch(["java", "-Xmx1g", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1",
                     "-Dlog4j2.configurationFile=" + os.path.join(dist.HERE, "kafka", "log4j2.properties"),
                     "-cp", os.path.join(dist.connect(), "*"),
                     "org.apache.kafka.connect.cli.ConnectDistributed", self.file])
        # Its port answers before it has read its topics; connectors can be listed once it has.
        return self.ready(lambda: http(self.url + "/connectors")[0] == 200, 120)

    def post(self, name, config, seconds=60):
        """Makes a connector and waits until its task runs; the file with what was posted."""
        body = {"name": name, "config": config}
        path = os.path.join(self.dir, name + ".json")
        with open(path, "w", encoding="utf-8") as f:
            json.dump(body, f, indent=2)

        def taken():
            status, text = http(self.url + "/connectors", "POST", body, 30, {"Content-Type": "application/json"})
            assert status in (201, 409), "connector %s is refused: %d %s" % (name, status, text)
            return status == 201  # 409 while the worker is about to rebalance

        self.ready(taken, seconds)
        self.ready(lambda: self.states(name) == ["RUNNING"], seconds)
        return path

    def states(self, name):
        """The states of a connector's tasks; a failed one is an error with its trace."""
        status, text = http("%s/connectors/%s/status" % (self.url, name))
        if status != 200:
            return []
        tasks = json.loads(text)["tasks"]
        failed = [task.get("trace", "") for task in tasks if task["state"] == "FAILED"]
        assert not failed, "a task of %s failed: %s" % (name, failed[0][:3000])
        return [task["state"] for task in tasks]

    def offset(self, name):
        """The stored offset of a source connector; empty before there is one."""
        status, text = http("%s/connectors/%s/offsets" % (self.url, name))
        found = json.loads(text)["offsets"] if status == 200 else []
        return found[0]["offset"] if found else {}

    def halt(self, name, seconds=60):
        """Stops a connector, so that it stores its last offset, and leaves it stopped."""
        status, text = http("%s/connectors/%s/stop" % (self.url, name), "PUT", {}, 30, {"Content-Type": "application/json"})
        assert status == 204, "connector %s is not stopped: %d %s" % (name, status, text)
        self.ready(lambda: self.states(name) == [], seconds)


def built(kind, name):
    """A program of ours: the newest of target/release and target/debug, or that of $WELLSPRING_PROFILE."""
    target = os.environ.get("CARGO_TARGET_DIR") or os.path.join(dist.TOP, "target")
    profiles = [os.environ["WELLSPRING_PROFILE"]] if "WELLSPRING_PROFILE" in os.environ else ["release", "debug"]
    found = [os.path.join(target, profile, kind, name) for profile in profiles]
    found = [path for path in found if os.path.exists(path)]
    if not found:
        raise SystemExit("stack: `%s` is not built; run cargo build --bins --examples" % name)
    return max(found, key=os.path.getmtime)


class Peers(Process):
    """librdkafka's mock cluster and the built-in registry, as a process of their own (the example `peers`).

    The mock cluster makes topics on first use with four partitions and knows no admin call, so topics that need another
    number are named at the start: name to partitions. The process ends when its input does, so never after us.
    """

    def __init__(self, name="peers", topics=None):
        super().__init__(name)
        self.topics = topics or {}
        self.brokers = self.url = None

    def start(self):
        open(self.log, "w", encoding="utf-8").close()
        self.launch([built("examples", "peers")], stdin=subprocess.PIPE)

        def told(enough):
            with open(self.log, encoding="utf-8", errors="replace") as f:
                lines = [line.strip() for line in f if line.endswith("\n")]
            refused = [line for line in lines if line.startswith("error")]
            assert not refused, refused
            return lines if enough(lines) else None

        def greeting(lines):
            return [json.loads(line) for line in lines if line.startswith("{") and '"brokers"' in line]

        self.ready(lambda: told(greeting), 20)
        peers = greeting(told(greeting))[0]
        self.brokers, self.url = peers["brokers"], peers["registry"]
        for number, (topic, partitions) in enumerate(self.topics.items()):
            self.child.stdin.write(("topic %s %d\n" % (topic, partitions)).encode())
            self.child.stdin.flush()
            self.ready(lambda: told(lambda lines: lines.count("ok") > number), 20)
        return self


def stop_leftovers():
    """Ends the servers of runs that have ended without doing so."""
    for name in sorted(os.listdir(RUN)) if os.path.isdir(RUN) else []:
        path = os.path.join(RUN, name, "pid")
        try:
            with open(path, encoding="utf-8") as f:
                pid, owner = map(int, f.read().split())
        except (FileNotFoundError, ValueError):  # none, or being written just now
            continue
        if os.path.exists("/proc/%d" % owner):
            continue
        try:
            if os.getsid(pid) == pid:  # a session leader, as we start them: not somebody who got the number later
                os.kill(pid, signal.SIGQUIT if name.startswith("postgres") else signal.SIGKILL)
                print("stopped", name, pid)
        except ProcessLookupError:
            pass
        with contextlib.suppress(FileNotFoundError):  # another run may clear away as well
            os.remove(path)


if __name__ == "__main__":
    if sys.argv[1:] != ["stop"]:
        raise SystemExit(__doc__)
    stop_leftovers()
