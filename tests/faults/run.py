#!/usr/bin/env python3
"""Twelve faults, each injected for real: what status, metrics and `check` say within a minute, and that the next step repairs it.

    run.py [--docs] [NAME...]      --docs writes docs/faults.md from what was seen

A fault has its own database, slot, topics and agent. It is judged by three things: the reason code that /status tells within
60 s (and never a red /livez), what `check` says, and a change made after the repair that arrives.
"""
import json
import os
import signal
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "stack"))

import dist  # noqa: E402
from agent import Agent  # noqa: E402
from servers import Late, Peers, Postgres, http, tail, wait_until  # noqa: E402

WITHIN_SECONDS = 60.0
TABLE = "create table t (id int primary key, v text)"


class Fault:
    """One fault's own world in the shared servers."""

    def __init__(self, name, pg, peers):
        self.name, self.pg, self.peers = name, pg, peers
        self.database = self.slot = name
        pg.psql("create database " + name)
        self.agent = Agent("fault-" + name, pg.url(name), peers.brokers, peers.url, name, ["public.*"], name,
                           {"limits": {"quarantine": "0s", "ready_lag": "30s"}})
        self.agent.wipe()
        self.told = self.metric = self.found = self.repair = ""
        self.seconds = 0.0

    def sql(self, text, **more):
        return self.pg.psql(text, database=self.database, **more)

    def streams(self, table=TABLE):
        """An agent that streams, with one change delivered."""
        self.sql(table)
        self.agent.start()
        self.sql("insert into t values (1, 'one')")
        self.arrives(1)

    def arrives(self, count, table="public.t", seconds=60):
        """So many changes of a table are acknowledged, and nothing is left over."""

        def arrived():
            status = self.agent.status()
            of = status.get("tables", {}).get(table, {})
            return status.get("phase") == "streaming" and of.get("changes", 0) >= count and status["in_flight_records"] == 0

        try:
            wait_until("%d changes of %s arrive" % (count, table), arrived, seconds)
        except Late as late:
            raise Late("%s\n%s\n%s" % (late, json.dumps(self.agent.status(), indent=1)[:3000], tail(self.agent.log))) from None

    def tells(self, code, phases=("retrying", "halted")):
        """Waits until status tells this code; /livez stays green all the while."""
        began = time.monotonic()

        def told():
            live, _ = http(self.agent.admin + "/livez")
            assert live in (0, 200), "%s: /livez is red: %d" % (self.name, live)
            status = self.agent.status()
            return status if status.get("reason") == code and status.get("phase") in phases else None

        try:
            status = wait_until("status tells " + code, told, WITHIN_SECONDS)
        except Late as late:
            raise Late("%s\n%s\n%s" % (late, json.dumps(self.agent.status(), indent=1)[:2500], tail(self.agent.log))) from None
        self.seconds = time.monotonic() - began
        assert status["next"], "no next step"
        ready, why = http(self.agent.admin + "/readyz")
        assert ready == 503, "/readyz is %d" % ready
        self.told = "`%s` `%s`: %s" % (status["phase"], code, status["detail"])
        name = 'wellspring_phase{phase="%s"}' % status["phase"]
        assert self.agent.metrics()[name] == 1
        self.metric = "`%s 1`" % name
        counted = 'wellspring_failures_total{reason="%s"}' % code
        if self.agent.metrics().get(counted, 0) > 0:
            self.metric += ", `%s`" % counted
        return status

    def until_streaming(self):
        """Waits through the trouble that is being repaired."""
        wait_until("the agent streams", lambda: self.agent.phase() == "streaming", 60)

    def check(self, *needles):
        """`check` says each of these in what is not ok; the fixes of what it found."""
        code, text = self.agent.command("check", "--json")
        everything = json.loads(text[text.index("["):])
        findings = [f for f in everything if f["level"] != "ok"]
        for needle in needles:
            assert any(needle in f["what"] + f["fix"] for f in findings), "check (%d) lacks %r: %s" % (code, needle, text)
        first = next((f for f in findings if any(needle in f["what"] + f["fix"] for needle in needles)), None)
        # Where nothing is wrong on its side, what it says of the slot.
        first = first or next((f for f in everything if f["what"].startswith("slot " + self.slot)), None)
        assert first, "check says nothing of the slot: %s" % text
        self.found = "%s: %s" % (first["level"], first["what"])
        return [f["fix"] for f in findings if any(needle in f["what"] + f["fix"] for needle in needles)]

    def close(self):
        self.agent.kill()
        self.pg.psql("select pg_drop_replication_slot(slot_name) from pg_replication_slots where slot_name = '%s' and not active"
                     % self.slot, check=False)


def broker_down(f):
    f.streams()
    os.kill(f.peers.pid, signal.SIGSTOP)
    try:
        f.sql("insert into t values (2, 'two')")
        f.tells("kafka_unavailable")
        f.check("broker")
    finally:
        os.kill(f.peers.pid, signal.SIGCONT)
    f.repair = "the return of the brokers"
    f.arrives(2)


def registry_refusing(f):
    f.sql(TABLE)
    subject = "%s.public.t-key" % f.name
    foreign = {"schema": json.dumps({"type": "record", "name": "Key", "namespace": f.name + ".public.t",
                                     "fields": [{"name": "id", "type": "string"}]})}
    assert http("%s/subjects/%s/versions" % (f.peers.url, subject), "POST", foreign)[0] == 200
    assert http("%s/config/%s" % (f.peers.url, subject), "PUT", {"compatibility": "BACKWARD"})[0] == 200
    f.agent.start()
    f.sql("insert into t values (1, 'one')")
    f.tells("schema_refused")
    f.check("would refuse its schema")
    f.repair = "a lower compatibility of the subject: `PUT /config/%s`" % subject
    assert http("%s/config/%s" % (f.peers.url, subject), "PUT", {"compatibility": "NONE"})[0] == 200
    f.arrives(1)


def slot_held(f):
    f.streams()
    f.agent.stop()
    reader = subprocess.Popen([os.path.join(dist.postgres(f.pg.major), "pg_recvlogical"), "-d", f.pg.url(f.database), "-S", f.slot,
                               "--start", "-o", "proto_version=1", "-o", "publication_names=" + f.slot, "-f", "/dev/null"],
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until("another holds the slot", lambda: f.sql("select active from pg_replication_slots where slot_name = '%s'" % f.slot) == "t")
        f.agent.start(streaming=False)
        status = f.tells("slot_in_use", ("retrying",))
        holder = f.sql("select active_pid from pg_replication_slots where slot_name = '%s'" % f.slot)
        assert holder in status["detail"], status["detail"]
        f.check()
        assert "held by pid " + holder in f.found, f.found
    finally:
        reader.terminate()
        reader.wait()
    f.repair = "the end of the other reader"
    f.sql("insert into t values (2, 'two')")
    f.arrives(1)


def slot_lost(f):
    f.streams()
    f.agent.stop()
    f.pg.psql("alter system set max_slot_wal_keep_size = '1MB'")
    f.pg.psql("alter system set max_wal_size = '64MB'")
    f.pg.psql("select pg_reload_conf()")
    try:
        f.sql("create table noise (v text)")
        lost = "select wal_status from pg_replication_slots where slot_name = '%s'" % f.slot

        def write():
            f.sql("insert into noise select repeat('x', 1000) from generate_series(1, 20000)")
            f.sql("select pg_switch_wal()")
            f.sql("checkpoint")
            return f.sql(lost) == "lost"

        wait_until("the server has lost the slot", write, 60)
        f.agent.start(streaming=False)
        f.tells("slot_lost", ("halted",))
        f.check("is lost")
    finally:
        f.pg.psql("alter system set max_slot_wal_keep_size = '4GB'")
        f.pg.psql("select pg_reload_conf()")
    f.sql("drop table noise")
    f.repair = "a higher limit, then `wellspring slot drop`, then `wellspring slot accept`"
    for command in (("slot", "drop", "--yes"), ("slot", "accept")):
        code, text = f.agent.command(*command)
        assert code == 0, text
    f.until_streaming()
    f.sql("insert into t values (3, 'three')")
    f.arrives(1)


def publication_dropped(f):
    f.streams()
    f.sql("drop publication " + f.slot)
    f.sql("insert into t values (2, 'two')")
    f.tells("publication_missing", ("halted",))
    f.agent.configure(postgres={"create_publication": False})
    (fix,) = f.check("does not exist, and postgres.create_publication is off")
    f.repair = "the SQL of `check`, then `wellspring slot accept`"
    f.sql(fix)
    code, text = f.agent.command("slot", "accept")
    assert code == 0, text
    f.until_streaming()
    before = f.agent.status()["tables"]["public.t"]["changes"]
    f.sql("insert into t values (3, 'three')")
    f.arrives(before + 1)


def password_changed(f):
    hba = os.path.join(f.pg.data, "pg_hba.conf")
    with open(hba, encoding="utf-8") as file:
        rules = file.read()
    role = "rotating"
    f.sql("create role %s login replication superuser password 'first'" % role)
    with open(hba, "w", encoding="utf-8") as file:
        file.write("host all %s 127.0.0.1/32 scram-sha-256\nhost replication %s 127.0.0.1/32 scram-sha-256\n%s" % (role, role, rules))
    f.pg.psql("select pg_reload_conf()")
    secret = os.path.join(f.agent.dir, "password")

    def write(password):
        with open(secret, "w", encoding="utf-8") as file:
            file.write(password)

    write("first")
    f.agent.configure(postgres={"url": f.pg.url(f.database, role), "password_file": secret})
    try:
        f.streams()
        f.sql("alter role %s password 'second'" % role)
        f.sql("select pg_terminate_backend(pid) from pg_stat_activity where usename = '%s'" % role)
        f.tells("postgres_refuses", ("retrying",))
        f.check("password")
        f.repair = "the new password in `postgres.password_file`, without a restart"
        write("second")
        f.sql("insert into t values (2, 'two')")
        f.arrives(2)
    finally:
        f.agent.kill()
        with open(hba, "w", encoding="utf-8") as file:
            file.write(rules)
        f.pg.psql("select pg_reload_conf()")


def disk_filling(f):
    token = os.path.join(f.agent.dir, "token")
    with open(token, "w", encoding="utf-8") as file:
        file.write("0123456789abcdef0123456789abcdef")
    f.agent.configure(admin={"token_file": token})
    f.pg.psql("alter system set max_slot_wal_keep_size = '1GB'")
    f.pg.psql("select pg_reload_conf()")
    f.streams()
    assert f.agent.command("pause")[0] == 0  # what stops reading is of no matter to the disk
    began = time.monotonic()
    f.sql("create table noise (v text)")

    def foretold():
        f.sql("insert into noise select repeat('x', 1000) from generate_series(1, 500)")
        return f.agent.status()["wal"]["seconds_to_limit"]

    left = wait_until("the limit is foretold", foretold, WITHIN_SECONDS, every=0.5)
    f.seconds = time.monotonic() - began
    samples = f.agent.metrics()
    forecast = samples["wellspring_slot_limit_forecast_seconds"]
    kept, limit = samples["wellspring_slot_retained_bytes"], samples["wellspring_slot_limit_bytes"]
    held = int(f.sql("select pg_current_wal_lsn() - restart_lsn from pg_replication_slots where slot_name = '%s'" % f.slot))
    assert 0 < forecast < 3600 * 24 and 0.9 * 2**30 < limit < 1.2 * 2**30, (forecast, limit)
    assert abs(kept - held) < 16 * 2**20, (kept, held)
    f.told = "`wal`: %.0f MiB kept of %.0f MiB, the limit in %.0f s" % (kept / 2**20, limit / 2**20, left)
    f.metric = "`wellspring_slot_limit_forecast_seconds %.0f`" % forecast
    f.check()
    assert "bytes of WAL" in f.found, f.found
    f.repair = "`wellspring resume`: the slot moves, and the forecast ends"
    assert f.agent.command("resume")[0] == 0
    f.sql("insert into t values (2, 'two')")
    f.arrives(2)
    f.sql("drop table noise")
    f.pg.psql("alter system set max_slot_wal_keep_size = '4GB'")
    f.pg.psql("select pg_reload_conf()")


def table_without_key(f):
    f.sql(TABLE)
    f.sql("create table keyless (v text)")
    f.agent.start(streaming=False)
    status = f.tells("publication_incomplete")
    assert "keyless" in status["detail"] and "REPLICA IDENTITY FULL" in status["next"], status
    f.check("keyless has no replica identity")
    f.sql("update keyless set v = v")  # the application's UPDATE never failed
    f.repair = "the SQL of the next step: `%s`" % status["next"]
    f.sql(status["next"])
    f.until_streaming()
    f.sql("insert into keyless values ('one')")
    f.arrives(1, "public.keyless")


def oversized_row(f):
    f.streams()
    f.sql("insert into t values (2, repeat('x', 2000000))")
    status = f.tells("record_too_large", ("halted",))
    assert "public.t" in status["detail"] and "`v`" in status["detail"] and "xxx" not in status["detail"], status["detail"]
    f.check()
    f.repair = "a higher `kafka.client.\"message.max.bytes\"`, then a restart"
    f.agent.stop()
    f.agent.configure(kafka={"client": {"message.max.bytes": 8000000}})
    f.agent.start()
    f.arrives(1)


def walsender_frozen(f):
    f.streams()
    pid = int(f.sql("select active_pid from pg_replication_slots where slot_name = '%s'" % f.slot))
    os.kill(pid, signal.SIGSTOP)
    try:
        began = time.monotonic()

        def red():
            assert http(f.agent.admin + "/livez")[0] == 200
            code, why = http(f.agent.admin + "/readyz")
            return why.strip() if code == 503 else None

        why = wait_until("/readyz is red", red, WITHIN_SECONDS)
        f.seconds = time.monotonic() - began
        status = f.agent.status()
        assert status["next"] and status["reason"], status
        f.told = "`%s` `%s`; /readyz: %s" % (status["phase"], status["reason"], why)
        f.metric = "`wellspring_phase{phase=\"%s\"} 1`" % status["phase"]
        f.check()
    finally:
        os.kill(pid, signal.SIGCONT)
    f.repair = "the walsender when it goes on, or by the end of its connection"
    f.sql("insert into t values (2, 'two')")
    f.arrives(2)


def long_transaction(f):
    f.sql(TABLE)
    psql = subprocess.Popen([dist.client_tool("psql"), "-XqAt", f.pg.url(f.database)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                            text=True)
    psql.stdin.write("begin; insert into t values (0, 'open'); select pg_backend_pid();\n")
    psql.stdin.flush()
    pid = psql.stdout.readline().strip()
    try:
        f.agent.start(streaming=False)
        status = f.tells("slot_waits")
        assert "pid " + pid in status["detail"], status["detail"]
        f.check()
    finally:
        f.repair = "the end of the transaction"
        psql.stdin.write("commit;\n")
        psql.stdin.close()
        psql.wait()
    f.until_streaming()
    f.sql("insert into t values (1, 'one')")
    f.arrives(1)


def identity_changed(f):
    f.streams()
    f.sql("alter table t replica identity nothing")
    refused = f.sql("update t set v = 'two' where id = 1", check=False)
    began = time.monotonic()
    assert refused == "" and f.sql("select v from t where id = 1") == "one", "the server lets the UPDATE through"
    fixes = f.check("t has no replica identity")
    f.seconds = time.monotonic() - began
    status = f.agent.status()
    assert status["phase"] == "streaming"
    f.told = "`streaming`: nothing is wrong with the stream; the server refuses the application's UPDATE"
    f.metric = "none"
    f.repair = "the SQL of `check`"
    f.sql("\n".join(line for line in fixes[0].splitlines() if not line.startswith("--")))
    f.sql("update t set v = 'two' where id = 1")
    f.arrives(2)


FAULTS = [broker_down, registry_refusing, slot_held, slot_lost, publication_dropped, password_changed, disk_filling, table_without_key,
          oversized_row, walsender_frozen, long_transaction, identity_changed]

HEAD = """# Twelve faults

Each fault was injected for real into a Postgres %d, with librdkafka's mock cluster and the built-in schema registry.
`tests/faults/run.py --docs` writes this page from its observations. The column "seen after"
has the time from the fault until `/status` shows the fault. During every fault `/livez` stayed green. After each repair
a new change arrived in Kafka.

| fault | seen after | `/status` and the page | metrics | `wellspring check` | repair |
|---|---|---|---|---|---|
"""


def main(arguments):
    wanted = [a for a in arguments if not a.startswith("--")]
    pg = Postgres(15, "faults-postgres", {"max_slot_wal_keep_size": "4GB", "wal_sender_timeout": "60s"})
    pg.settings.pop("max_slot_wal_keep_size")  # is changed by ALTER SYSTEM on the way
    pg.wipe()
    pg.start()
    pg.psql("alter system set max_slot_wal_keep_size = '4GB'")
    pg.psql("select pg_reload_conf()")
    faults = [fault for fault in FAULTS if not wanted or fault.__name__ in wanted]
    topics = {"%s.wellspring-state" % fault.__name__: 1 for fault in faults}
    peers = Peers("faults-peers", topics).start()
    rows, failed = [], []
    try:
        for fault in faults:
            world = Fault(fault.__name__, pg, peers)
            try:
                fault(world)
                rows.append(world)
                print("fault: %-20s seen after %4.1f s: %s" % (world.name, world.seconds, world.told[:110]), flush=True)
            except (AssertionError, KeyError, ValueError) as error:
                failed.append(world.name)
                print("fault: %-20s FAILED: %s" % (world.name, error), flush=True)
            finally:
                world.close()
    finally:
        peers.kill()
        pg.kill()
    if "--docs" in arguments and not failed:
        cell = lambda text: text.replace("|", "\\|").replace("\n", " ")  # noqa: E731
        with open(os.path.join(TOP, "docs", "faults.md"), "w", encoding="utf-8") as out:
            out.write(HEAD % pg.major)
            for w in rows:
                columns = [w.name.replace("_", " "), "%.0f s" % w.seconds, w.told, w.metric, w.found, "repaired by " + w.repair]
                out.write("| " + " | ".join(cell(column) for column in columns) + " |\n")
    print("faults: %d of %d held%s" % (len(rows), len(faults), "; failed: " + ", ".join(failed) if failed else ""))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
