"""What the program must show where everybody asks who it is: TLS, certificates, passwords and tokens that change."""
import json
import os
import shutil
import sys

import servers
from agent import lsn
from secure import Authority, Gate, SecureKafka, unsigned_token
from servers import wait_until
from world import copy_tree

TABLES = {"public.items": (0,)}


class Secured:
    """A Postgres that asks for password and certificate over TLS, a broker that asks for SCRAM, a registry behind a gate."""

    def __init__(self, world, major=18, secrets=None):
        self.world = world
        self.secret = {"postgres": "pg-one", "kafka": "kafka-one", "registry": "token-one", "passphrase": "phrase-one",
                       "admin": "admin-token-0123456789", **(secrets or {})}
        self.folder = os.path.join(servers.RUN, world.name + "-secrets")
        os.makedirs(self.folder, exist_ok=True)
        self.authority = Authority(self.folder)
        for name, secret in self.secret.items():
            self.write(name, secret)
        self.taken = {self.secret["registry"]}
        self.pg = self._postgres(major)
        world.kafka = self.kafka = world.ends(SecureKafka(world.name + "-kafka", self.authority))
        self.kafka.wipe()
        self.kafka.start()
        self.kafka.password("agent", self.secret["kafka"])
        self.gate = world.ends(Gate(world.registry.url, self.authority, lambda header: header[7:] in self.taken))
        self.certificate, self.key = self.authority.issue("agent", passphrase=self.secret["passphrase"])

    def write(self, name, secret):
        """The file of a secret, put in place at once as a mounted one is."""
        path = os.path.join(self.folder, name)
        with open(path + ".new", "w", encoding="utf-8") as f:
            f.write(secret + "\n")
        os.replace(path + ".new", path)
        return path

    def file(self, name):
        return os.path.join(self.folder, name)

    def _postgres(self, major):
        pg = self.world.postgres(major)
        certificate, key = self.authority.issue("postgres")
        for source, name in ((certificate, "server.crt"), (key, "server.key"), (self.authority.ca, "clients.crt")):
            with open(source, "rb") as f, open(os.path.join(pg.data, name), "wb") as out:
                out.write(f.read())
            os.chmod(out.name, 0o600)
        pg.own()
        with open(os.path.join(pg.data, "pg_hba.conf"), "w", encoding="utf-8") as f:
            f.write("local all all trust\nhost all postgres 127.0.0.1/32 trust\n"
                    "hostssl all agent 127.0.0.1/32 scram-sha-256 clientcert=verify-full\n")
        pg.psql("alter system set ssl_ca_file = 'clients.crt'")
        pg.psql("alter system set ssl = on")
        pg.psql("select pg_reload_conf()")
        pg.psql("create role agent login replication password '%s'" % self.secret["postgres"])
        pg.psql("create table items (id integer primary key, v text); grant select on items to agent; "
                "create publication %s for table items" % self.world.slot, database="shop")
        return pg

    def settings(self):
        """What the program is told."""
        return {
            "postgres": {
                "url": "postgresql://agent@localhost:%d/shop" % self.pg.port, "sslmode": "verify-full",
                "sslrootcert": self.authority.ca, "sslcert": self.certificate, "sslkey": self.key,
                "sslpassword_file": self.file("passphrase"), "password_file": self.file("postgres"),
                "sslnegotiation": "direct" if self.pg.major >= 17 else "postgres", "create_publication": False,
            },
            "kafka": {
                "brokers": [self.kafka.secure], "password_file": self.file("kafka"),
                "client": {"security.protocol": "sasl_ssl", "sasl.mechanism": "SCRAM-SHA-256", "sasl.username": "agent",
                           "ssl.ca.location": self.authority.ca},
            },
            "registry": {
                "url": self.gate.url, "ca": self.authority.ca, "certificate": self.certificate, "key": self.key,
                "key_password_file": self.file("passphrase"), "token_command": ["cat", self.file("registry")],
            },
            "admin": {"token_command": ["cat", self.file("admin")]},
        }

    def agent(self, **over):
        agent = self.world.agent(self.pg, TABLES, **self.settings())
        agent.configure(**over)
        return agent

    def signal(self, topic, message):
        """A record of the signal topic that asks for a line in the log."""
        from confluent_kafka import Producer

        producer = Producer({"bootstrap.servers": self.kafka.brokers})
        value = json.dumps({"id": message, "type": "log", "data": {"message": message}})
        producer.produce(topic, key=self.world.prefix, value=value, partition=0)
        assert producer.flush(30) == 0

    def insert(self, first, last):
        self.pg.psql("insert into items select n, 'v' || n from generate_series(%d, %d) n" % (first, last), database="shop")

    def end_sessions(self):
        """Every session of the program, so that it has to log in again."""
        self.pg.psql("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'agent'")


def rotated_secrets(world):
    """Direct TLS with a client certificate, SCRAM over TLS, mutual TLS; every password changes under the running program."""
    secured = Secured(world)
    signals = "signals-of-" + world.prefix
    secured.kafka.create({signals: (1, {})})
    agent = secured.agent(snapshot={"signal_topic": signals}).start()
    row = secured.pg.psql("select ssl, client_dn, version from pg_stat_ssl join pg_stat_activity using (pid) "
                          "where usename = 'agent' limit 1")
    assert row.startswith("t|/CN=agent|TLSv1."), row
    secured.insert(1, 100)
    world.until_delivered(secured.pg, agent)

    # Postgres: refused with the old password, let in with the new one, without a restart.
    secured.pg.psql("alter role agent password 'pg-two'")
    secured.end_sessions()
    world.until("the old password is refused", lambda: "28P01" in servers.tail(agent.log), 60)
    secured.write("postgres", "pg-two")
    status = agent.status()
    assert status["needs_a_person"] and (status["phase"], status["reason"]) == ("retrying", "postgres_refuses"), status
    # What a person has to repair is tried again every ten seconds.
    world.until("it is let in again", lambda: agent.phase() == "streaming", 60)
    secured.insert(101, 200)
    world.until_delivered(secured.pg, agent)

    # Kafka: the broker forgets its sessions; the producer has only the old password until the file has the new one.
    secured.kafka.password("agent", "kafka-two")
    secured.kafka.stop()
    secured.insert(201, 300)
    secured.kafka.start()
    world.until("the broker refuses, and it is told so", lambda: agent.status().get("reason") == "kafka_refuses", 90)
    status = agent.status()
    assert status["needs_a_person"] and status["phase"] == "retrying" and "password_file" in status["next"], status
    secured.write("kafka", "kafka-two")
    world.until_delivered(secured.pg, agent, 180)
    # So is the client that follows the signal topic.
    secured.signal(signals, "after-the-rotation")
    world.until("a signal is heard", lambda: "after-the-rotation" in servers.tail(agent.log, 400), 90)

    # The registry: the kept token is refused, so the command runs again.
    secured.pg.psql("alter table items add column u integer", database="shop")
    secured.pg.psql("update items set u = id", database="shop")
    world.until_delivered(secured.pg, agent)
    secured.taken.clear()
    secured.taken.add("token-two")
    secured.write("registry", "token-two")
    secured.pg.psql("alter table items add column w integer", database="shop")
    secured.pg.psql("insert into items select n, 'v' || n, n, n from generate_series(301, 400) n; "
                    "update items set w = id", database="shop")
    world.until_delivered(secured.pg, agent)
    assert secured.gate.denied >= 1, "the old token was never shown"
    code, _ = agent.command("pause")
    assert code == 0, "the admin token of the command opens"
    code, _ = agent.command("resume")
    assert code == 0
    assert agent.stop() == 0
    world.judge(secured.pg, TABLES)
    world.say("registry refused the old token %d times", secured.gate.denied)


def missing_files(world):
    """A CA file missing at a reconnect: Kafka's is waited for, the registry's leaves the client in use; at a start, it ends."""
    secured = Secured(world)
    settings = secured.settings()
    files = {name: secured.file(name + "-ca.pem") for name in ("kafka", "registry")}
    for path in files.values():
        shutil.copy(secured.authority.ca, path)
    settings["kafka"]["client"]["ssl.ca.location"] = files["kafka"]
    settings["registry"]["ca"] = files["registry"]
    agent = world.agent(secured.pg, TABLES, **settings).start()
    secured.insert(1, 100)
    world.until_delivered(secured.pg, agent)
    os.rename(files["kafka"], files["kafka"] + ".away")
    secured.end_sessions()
    world.until("status names the missing file", lambda: files["kafka"] in json.dumps(agent.status()), 60)
    assert agent.phase() == "retrying", agent.status()
    os.rename(files["kafka"] + ".away", files["kafka"])
    world.until("it streams again", lambda: agent.phase() == "streaming", 60)

    secured.insert(101, 200)
    world.until_delivered(secured.pg, agent)
    os.rename(files["registry"], files["registry"] + ".away")
    secured.end_sessions()
    world.until("the log names the missing file", lambda: files["registry"] in servers.tail(agent.log), 60)
    world.until("it streams with the earlier client", lambda: agent.phase() == "streaming", 60)
    secured.insert(201, 300)
    world.until_delivered(secured.pg, agent)
    os.rename(files["registry"] + ".away", files["registry"])
    assert agent.stop() == 0
    os.rename(files["kafka"], files["kafka"] + ".away")
    agent.start(streaming=False)
    assert agent.ended(60) == 5
    world.judge(secured.pg, TABLES)


def kafka_by_token(world):
    """OAUTHBEARER with a token from a command: it ends after seconds, and is fetched anew while the stream goes on."""
    secured = Secured(world)
    printed = secured.file("printed")
    script = secured.file("token.py")
    with open(script, "w", encoding="utf-8") as f:
        f.write("import sys; sys.path.insert(0, %r)\nfrom secure import unsigned_token\nopen(%r, 'a').write('x')\n"
                "print(unsigned_token('agent', 20))\n" % (os.path.dirname(os.path.abspath(__file__)), printed))
    settings = secured.settings()
    client = dict(settings["kafka"]["client"], **{"sasl.mechanism": None, "sasl.username": None})
    kafka = {"password_file": None, "token_command": [sys.executable, script], "client": client}
    secured.kafka.create({world.prefix + ".public.items": (3, {}), world.prefix + ".message": (1, {}),
                          world.prefix + ".wellspring-state": (1, {"cleanup.policy": "compact"})})
    agent = secured.agent(kafka=kafka).start()
    at = 1
    for _ in range(world.length(3, 12)):
        before = os.path.getsize(printed)
        secured.insert(at, at + 99)
        at += 100
        world.until_delivered(secured.pg, agent)
        world.until("the token is fetched anew", lambda: os.path.getsize(printed) > before, 60)
    secured.insert(at, at + 99)
    world.until_delivered(secured.pg, agent)
    assert agent.status()["reconnects"] == 0, agent.status()
    assert agent.stop() == 0
    world.judge(secured.pg, TABLES)
    world.say("%d tokens", os.path.getsize(printed))


def failover_by_promotion(world):
    """Two hosts in the URL: the one that takes writes is found, first, last, and after a promotion, without losing a row."""
    settings = {"wal_level": "logical", "hot_standby_feedback": "on", "sync_replication_slots": "on",
                "primary_slot_name": "standby"}
    primary = world.postgres(18, "-a", settings={"wal_sender_timeout": "5s", **settings})
    primary.psql("create table items (id integer primary key, v text)", database="shop")
    primary.psql("select pg_create_physical_replication_slot('standby')")
    standby = servers.Postgres(primary.major, world.name + "-postgres-b", {"wal_sender_timeout": "5s", **settings})
    standby.wipe()
    world.clusters.append(standby)
    primary.stop()
    copy_tree(primary.data, standby.data)
    primary.start()
    standby.settings["primary_conninfo"] = "host=%s port=%d user=postgres dbname=shop" % (servers.HOST, primary.port)
    open(os.path.join(standby.data, "standby.signal"), "w", encoding="utf-8").close()
    standby.start()

    # The slot has to be there after the failover: the agent makes it one that the server keeps in step.
    primary.psql("select pg_create_logical_replication_slot('%s', 'pgoutput')" % world.slot, database="shop")
    primary.psql("create publication %s for table items" % world.slot, database="shop")
    hosts = "%s:%d,%s:%d" % (servers.HOST, standby.port, servers.HOST, primary.port)
    agent = world.agent(primary, TABLES, postgres={"url": "postgresql://postgres@%s/shop" % hosts, "failover": True})
    code, text = agent.command("slot", "accept")
    agent.start()
    primary.psql("insert into items select n, 'a' || n from generate_series(1, 500) n", database="shop")
    world.until_delivered(primary, agent)
    assert primary.psql("select active_pid is not null from pg_replication_slots where slot_name = '%s'" % world.slot) == "t"
    ready = "select synced and not temporary and invalidation_reason is null from pg_replication_slots where slot_name = '%s'"
    wait_until("the standby has the slot", lambda: standby.psql(ready % world.slot) == "t", 90)
    primary.psql("insert into items select n, 'b' || n from generate_series(501, 600) n", database="shop")
    world.until_delivered(primary, agent)
    target = lsn(primary.psql("select pg_current_wal_lsn()"))
    wait_until("the standby has it all", lambda: lsn(standby.psql("select pg_last_wal_replay_lsn()")) >= target, 60)
    wait_until("the slot is in step", lambda: lsn(standby.psql(
        "select confirmed_flush_lsn from pg_replication_slots where slot_name = '%s'" % world.slot)) >= target - 4096, 90)
    primary.stop()
    standby.psql("select pg_promote()")
    standby.psql("insert into items select n, 'c' || n from generate_series(601, 900) n", database="shop")
    try:
        agent.until_streaming(120)
        ended = "goes on at the new primary"
        world.until_delivered(standby, agent)
    except servers.Late:
        status = agent.status()
        assert status.get("phase") == "halted", status
        ended = "halts: %s" % status.get("reason")
        raise AssertionError("it should go on where the slot was in step; it %s" % ended) from None
    assert agent.stop() == 0
    world.judge(standby, TABLES)
    world.say(ended)


SCENARIOS = [rotated_secrets, missing_files, kafka_by_token, failover_by_promotion]
