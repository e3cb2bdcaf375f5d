#!/usr/bin/env python3
"""Runs cases of the real Debezium connector through Wellspring and compares what comes out. README.md says how.

    run.py --cases DIR [--only a,b] [--stack | --kafka host:port --registry url] [--keep]
    run.py --cases DIR --self-test     our decoder and normalisation against the expectations alone, no servers

One line per case: equal, its differences (the first ones shown), or the option that has no counterpart. Exit status 0 only
if at least one case ran and all that ran are equal.
"""
import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import tomllib
import traceback

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(os.path.dirname(HERE), "stack")]

import decode  # noqa: E402
import normal  # noqa: E402
import selftest  # noqa: E402
import servers  # noqa: E402
from agent import Agent  # noqa: E402

# What ours does where Debezium's expectation records a defect.
PINNED = "wellspring.json"
SLOT_WAIT_SECONDS = 30
# How the topic of the runner's own row ends.
SENTINEL = ".ref_sentinel"
SHOWN = 6


class NotSupported(Exception):
    """What has no counterpart; its text is what the import says."""


class Halted(Exception):
    """The program stopped for a person; its text is the reason's code."""


def properties(path):
    """A file in the format of java.util.Properties, as far as the cases use it."""
    out = {}
    if os.path.exists(path):
        with open(path, encoding="utf-8") as f:
            for line in f:
                line = line.strip()
                if line and line[0] not in "#!":
                    key, _, value = line.partition("=")
                    out[key.strip()] = re.sub(r"\\(.)", r"\1", value.strip())
    return out


# What a case leaves out: where things are. The runner puts its own addresses in afterwards.
ADDRESSES = {
    "database.hostname": "127.0.0.1", "database.port": "5432", "database.user": "postgres", "database.dbname": "app",
    "database.sslmode": "disable", "bootstrap.servers": "127.0.0.1:9092",
    "key.converter": "io.confluent.connect.avro.AvroConverter",
    "key.converter.schema.registry.url": "http://127.0.0.1:8081",
    "value.converter": "io.confluent.connect.avro.AvroConverter",
    "value.converter.schema.registry.url": "http://127.0.0.1:8081",
}


def translated(path, directory):
    """(settings, environment) that `wellspring config import` makes of a connector's properties."""
    source, made, secrets = (os.path.join(directory, name) for name in ("import.properties", "import.toml", "import.env"))
    with open(path, encoding="utf-8") as f:
        text = f.read()
    with open(source, "w", encoding="utf-8") as f:
        f.write(text + "\n" + "".join("%s=%s\n" % pair for pair in ADDRESSES.items()))
    for old in (made, secrets):
        if os.path.exists(old):
            os.remove(old)
    done = subprocess.run(
        [servers.built("", "wellspring"), "config", "import", source, "--output", made, "--secrets", secrets],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60, check=False)
    if done.returncode != 0:
        raise NotSupported(" | ".join(line.strip() for line in done.stdout.splitlines()[:4]))
    with open(made, "rb") as f:
        settings = tomllib.load(f)
    with open(secrets, encoding="utf-8") as f:
        environment = dict(line.rstrip("\n").split("=", 1) for line in f)
    settings.setdefault("topics", {})["partitions"] = 1
    for elsewhere in ("url", "sslmode"):
        settings["postgres"].pop(elsewhere)
    for elsewhere in ("kafka", "registry"):
        settings.pop(elsewhere)
    return settings, environment


def captured(pg, connector):
    """The tables that the connector would capture, from the catalog; partitions only where their root is not taken."""
    rows = pg.psql(
        "select n.nspname, c.relname, c.relkind, c.relispartition from pg_class c join pg_namespace n on"
        " n.oid = c.relnamespace where c.relkind in ('r', 'p') and c.relpersistence = 'p' and n.nspname !~ '^pg_'"
        " and n.nspname <> 'information_schema' order by 1, 2", database="app")
    tables = [line.split("|") for line in rows.splitlines()]

    def listed(option, name):
        patterns = [p.strip() for p in connector.get(option, "").split(",") if p.strip()]
        return any(re.fullmatch(p, name, re.IGNORECASE) for p in patterns) if patterns else None

    chosen = [
        (schema, table, kind, leaf) for schema, table, kind, leaf in tables
        if listed("table.include.list", schema + "." + table) in (None, True)
        and not listed("table.exclude.list", schema + "." + table)
        and listed("schema.include.list", schema) in (None, True)
        and not listed("schema.exclude.list", schema)
    ]
    if connector.get("publish.via.partition.root") == "true":
        return ["%s.%s" % (schema, table) for schema, table, _, leaf in chosen if leaf == "f"]
    return ["%s.%s" % (schema, table) for schema, table, kind, _ in chosen if kind == "r"]


class Runner:
    def __init__(self, options):
        self.options = options
        self.suffix = "-%d" % options.lane if options.lane else ""
        self.clusters = {}

    def cluster(self, major):
        if major not in self.clusters:
            # As the reference had it: what shows in values is time zone and locale.
            self.clusters[major] = servers.Postgres(major, "corpus-postgres-%d%s" % (major, self.suffix), {"autovacuum": "off"})
            self.clusters[major].wipe()
            self.clusters[major].start()
        return self.clusters[major]

    def close(self):
        for cluster in self.clusters.values():
            cluster.stop()
            if not self.options.keep:
                cluster.wipe()

    def peers(self, prefix, topics, subjects):
        """(brokers, registry url, what to end afterwards): a fresh mock cluster, or the real one made empty."""
        if not self.options.kafka:
            peers = servers.Peers("corpus-peers" + self.suffix, {topic: 1 for topic in topics})
            peers.start()
            return peers.brokers, peers.url, peers
        empty(self.options.kafka, self.options.registry, prefix, topics, subjects)
        return self.options.kafka, self.options.registry, None

    def case(self, name):
        """Runs one case: (differences, records compared)."""
        path = os.path.join(self.options.cases, name)
        connector = properties(os.path.join(path, "connector.properties"))
        meta = properties(os.path.join(path, "case.properties"))
        with tempfile.TemporaryDirectory() as work:
            settings, environment = translated(os.path.join(path, "connector.properties"), work)
        pg = self.cluster(self.options.pg or int(meta.get("pg", "15")))
        slot, prefix = connector["slot.name"], connector["topic.prefix"]
        renew(pg, slot)
        pg.psql(file=os.path.join(path, "setup.sql"), database="app")
        pg.psql("create table if not exists public.ref_sentinel (id serial primary key)", database="app")
        tables = captured(pg, connector)
        prepare_publication(pg, connector, tables)
        rows, schemas = load(path)
        topics = ["%s.%s" % (prefix, re.sub(r"[^A-Za-z0-9._-]", "_", name))
                  for name in tables + ["public.ref_sentinel", "message", "transaction", "wellspring-state"]]
        topics = sorted(set(topics) | {row["topic"] for row in rows})
        brokers, registry, peers = self.peers(prefix, topics, schemas)
        settings["registry"] = {"url": registry}
        agent = Agent("corpus-agent" + self.suffix, pg.url("app"), brokers, registry, prefix, tables, slot, settings)
        agent.env = environment
        agent.wipe()
        try:
            self.steps(path, pg, agent, meta)
            records = read(brokers, registry, topics)
        except Halted as halted:
            return pinned_halt(os.path.join(path, PINNED), str(halted)), 0
        except Exception as error:
            raise RuntimeError("%s\n--- agent\n%s--- slot\n%s" % (
                error, servers.tail(agent.log), slot_row(pg, slot))) from error
        finally:
            agent.kill()
            if peers:
                peers.kill()
        want, have = normal.expected(rows, schemas), normal.observed(records, meta)
        pinned = os.path.join(path, PINNED)
        if self.options.pin and meta.get("defect") == "true" and normal.differences(want, have):
            with open(pinned, "w", encoding="utf-8") as f:
                json.dump(have, f, ensure_ascii=False, indent=1, sort_keys=True)
                f.write("\n")
        if os.path.exists(pinned):
            with open(pinned, encoding="utf-8") as f:
                want = tuple(json.load(f))
        return normal.differences(want, have), sum(len(lines) for lines in want[0].values())

    def steps(self, path, pg, agent, meta):
        """The case's SQL between starts and stops of the program; returns when everything is delivered."""
        number = 1
        topic = meta.get("sentinel.topic")
        insert = "insert into public.ref_sentinel default values"
        if os.path.exists(os.path.join(path, "sentinel.sql")):
            with open(os.path.join(path, "sentinel.sql"), encoding="utf-8") as f:
                insert = f.read()
        while True:
            suffix = "" if number == 1 else "-%d" % number
            stream = os.path.join(path, "stream%s.sql" % suffix)
            offline = os.path.join(path, "offline%s.sql" % suffix)
            if number > 1 and not os.path.exists(stream) and not os.path.exists(offline):
                return
            if number > 1:
                if os.path.exists(offline):
                    pg.psql(file=offline, database="app")
                changed = os.path.join(path, "connector%s.properties" % suffix)
                if os.path.exists(changed):
                    settings, environment = translated(changed, agent.dir)
                    agent.configure(**settings)
                    agent.env.update(environment)
            agent.start(streaming=False)
            if meta.get("wait") == "idle":  # it ends by itself, and what comes then is seen by nobody
                if agent.ended(SLOT_WAIT_SECONDS) != 0:
                    raise AssertionError("the program did not end by itself with 0")
                if os.path.exists(stream):
                    pg.psql(file=stream, database="app")
                return
            agent.until_streaming(SLOT_WAIT_SECONDS)
            sent = delivered(agent, topic)
            text = ""
            if os.path.exists(stream):
                with open(stream, encoding="utf-8") as f:
                    text = f.read()
            for step in re.split(r"(?m)^-- wait\s*$", text):
                with open(os.path.join(agent.dir, "step.sql"), "w", encoding="utf-8") as f:
                    f.write(step)
                pg.psql(file=f.name, database="app")
                pg.psql(insert, database="app")
                sent += 1

                def arrived():
                    status = agent.status()
                    if status.get("phase") == "halted":
                        raise Halted(status.get("reason"))
                    return delivered(agent, topic) >= sent

                agent.ready(arrived, SLOT_WAIT_SECONDS)
            if "linger.ms" in meta:
                time.sleep(int(meta["linger.ms"]) / 1000)  # the case says how long it looks on, for what comes by the clock
            status = agent.stop()
            if status != 0:
                raise AssertionError("the program ended with %s after SIGTERM" % status)
            number += 1


def pinned_halt(path, reason):
    """Differences where the program halted: none if that is what the case's file pins."""
    want = None
    if os.path.exists(path):
        with open(path, encoding="utf-8") as f:
            want = json.load(f)
    return [] if want == {"halted": reason} else ["the program halted: %s" % reason]


def delivered(agent, topic):
    """Records in the sentinel's topic; where the case does not name one, in every topic that ends like it."""
    source = decode.consumer(agent.settings["kafka"]["brokers"][0])
    try:
        topics = [topic] if topic else [name for name in decode.topics(source) if name.endswith(SENTINEL)]
        return sum(decode.ends(source, topics).values())
    finally:
        source.close()


def load(path):
    with open(os.path.join(path, "expected.jsonl"), encoding="utf-8") as f:
        rows = [json.loads(line) for line in f]
    with open(os.path.join(path, "schemas.json"), encoding="utf-8") as f:
        return rows, json.load(f)


def slot_row(pg, slot):
    return pg.psql("select row_to_json(s) from pg_replication_slots s where slot_name = '%s'" % slot, check=False)


def active(pg, slot):
    return pg.psql("select active from pg_replication_slots where slot_name = '%s'" % slot) == "t"


def renew(pg, slot):
    """A fresh database `app`, and no slot."""
    servers.wait_until("the slot is free", lambda: not active(pg, slot), SLOT_WAIT_SECONDS)
    pg.psql("select pg_drop_replication_slot(slot_name) from pg_replication_slots where slot_name = '%s'" % slot)
    pg.psql("drop database if exists app with (force)")
    pg.psql("create database app encoding 'UTF8' template template0")


def prepare_publication(pg, connector, tables):
    """What the program would not publish unasked the operator does, as Debezium did: tables without replica identity, and
    a publication for all tables."""
    via_root = connector.get("publish.via.partition.root", "false")
    if connector.get("publication.autocreate.mode") == "all_tables":
        pg.psql("create publication %s for all tables with (publish_via_partition_root = %s)" % (
            connector["publication.name"], via_root), database="app")
        return
    names = ", ".join('"%s"."%s"' % tuple(t.replace('"', '""').split(".", 1)) for t in tables)
    listed = ", ".join("'%s'" % n.replace("'", "''") for n in names.split(", "))
    harmful = pg.psql(
        "select count(*) from unnest(array[%s]::regclass[]) r join pg_class c on c.oid = r where not"
        " (c.relreplident = 'f' or c.relreplident = 'd' and exists (select from pg_index where indrelid = c.oid and"
        " indisprimary) or c.relreplident = 'i')" % listed, database="app")
    if harmful != "0":
        pg.psql("create publication %s for table %s with (publish_via_partition_root = %s)" % (
            connector["publication.name"], names, via_root), database="app")


def empty(brokers, registry, prefix, topics, subjects):
    """Deletes the case's topics and subjects on servers that several cases share.

    The case's subjects take any schema: Debezium was recorded against a registry that checks nothing.
    """
    from confluent_kafka.admin import AdminClient

    admin = AdminClient({"bootstrap.servers": brokers})
    source = decode.consumer(brokers)
    try:
        names = [name for name in decode.topics(source) if name in topics or name.startswith(prefix + ".")]
        for future in (admin.delete_topics(names) if names else {}).values():
            future.result()
        servers.wait_until("topics are gone", lambda: not set(names) & set(decode.topics(source)))
    finally:
        source.close()
    for subject in json.loads(servers.http(registry + "/subjects")[1] or "[]"):
        if subject.startswith(prefix + ".") or subject in subjects:
            servers.http("%s/subjects/%s" % (registry, subject), "DELETE")
            servers.http("%s/subjects/%s?permanent=true" % (registry, subject), "DELETE")
    for subject in subjects:
        servers.http("%s/config/%s" % (registry, subject), "PUT", {"compatibility": "NONE"})


def read(brokers, registry, topics):
    """What the topics hold, decoded."""
    decoder = decode.Decoder(registry)
    records = []
    for message in (m for m in decode.read_all(brokers, "") if m.topic() in topics):
        key, key_schema = decoder.read(message.key())
        value, value_schema = decoder.read(message.value())
        headers = [[name, data.decode() if data is not None else None] for name, data in message.headers() or []]
        records.append(normal.Record(
            message.topic(), key, value, key_schema and key_schema.text, value_schema and value_schema.text, headers,
            message.key()[5:].hex() if message.key() is not None else None,
            message.partition() if message.topic().startswith("__debezium-heartbeat") else None,
            message.timestamp()[1]))
    return records


def run_lanes(options, names):
    """Runs the cases in lanes: each lane is a process with a part of the cases. The result is the worst of the lanes."""
    lanes = []
    for number in range(1, min(options.lanes, len(names)) + 1):
        part = ",".join(names[number - 1::options.lanes])
        # The later of two equal options counts.
        arguments = sys.argv[1:] + ["--only", part, "--lanes", "1", "--lane", str(number)]
        lanes.append(subprocess.Popen([sys.executable, os.path.abspath(__file__)] + arguments))
    try:
        return max([lane.wait() for lane in lanes], key=abs)
    finally:
        for lane in lanes:
            if lane.poll() is None:
                lane.terminate()
                lane.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", required=True)
    parser.add_argument("--only", default="")
    parser.add_argument("--kafka")
    parser.add_argument("--registry")
    parser.add_argument("--stack", action="store_true", help="against a real broker and registry, started for this run")
    parser.add_argument("--pg", type=int, help="the major version of Postgres for every case, instead of the recorded one")
    parser.add_argument("--keep", action="store_true", help="leave data directories and all differences behind")
    parser.add_argument("--self-test", action="store_true")
    parser.add_argument("--lanes", type=int, default=1, help="cases at a time, each lane with servers of its own")
    parser.add_argument("--lane", type=int, default=0, help="the number of this lane, set by --lanes")
    parser.add_argument("--pin", action="store_true", help="write what comes out of defect=true cases and differs into wellspring.json")
    options = parser.parse_args()
    options.cases = os.path.abspath(options.cases)
    if bool(options.kafka) != bool(options.registry) or options.stack and options.kafka:
        parser.error("--kafka and --registry belong together, and --stack brings its own")
    if options.lanes > 1 and (options.kafka or options.stack):
        parser.error("--lanes is for mock clusters: the cases empty one cluster from outside before they use it")
    only = [n for n in options.only.split(",") if n]
    names = only or sorted(n for n in os.listdir(options.cases) if os.path.exists(os.path.join(options.cases, n, "expected.jsonl")))
    with open(os.path.join(HERE, "known.json"), encoding="utf-8") as f:
        known = json.load(f)
    if options.lanes > 1:
        return run_lanes(options, names)
    if options.stack:
        kafka, registry = servers.Kafka("corpus-kafka"), servers.Registry("corpus-registry")
        kafka.wipe()
        options.kafka, options.registry = kafka.start().brokers, registry.start().url
    if options.lane:
        servers.use_a_block_of_ports()
    runner, equal, told, unsupported, began = Runner(options), 0, 0, 0, time.monotonic()
    for name in names:
        at = time.monotonic()
        try:
            if options.self_test:
                found, count = selftest.case(os.path.join(options.cases, name), properties, load)
            else:
                found, count = runner.case(name)
        except NotSupported as error:
            if name in known:
                told += 1
                print("%-28s known not to be supported: %s" % (name, known[name]), flush=True)
                continue
            unsupported += 1
            print("%-28s not supported: %s" % (name, error), flush=True)
            continue
        except Exception as error:  # one broken case does not hide the others
            print("%-28s failed: %s" % (name, error), flush=True)
            if options.keep:
                traceback.print_exc()
            continue
        took = "%.1f s" % (time.monotonic() - at)
        if found and name in known:
            told += 1
            print("%-28s differs as known (%d records, %s): %s" % (name, count, took, known[name]))
        elif found:
            print("%-28s %d differences (%d records, %s)" % (name, len(found), count, took))
            for line in found if options.keep else found[:SHOWN]:
                print("    " + line)
        elif name in known and not options.self_test:
            print("%-28s equal, though known.json says it is not: strike it out" % name)
        else:
            equal += 1
            print("%-28s equal (%d records, %s)" % (name, count, took))
        sys.stdout.flush()
    runner.close()
    print("%d of %d cases equal%s%s, %.0f s" % (
        equal, len(names), ", %d known not to be" % told if told else "", ", %d not supported" % unsupported if unsupported else "",
        time.monotonic() - began))
    return 0 if names and equal + told == len(names) else 1


if __name__ == "__main__":
    sys.exit(main())
