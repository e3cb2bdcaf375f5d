#!/usr/bin/env python3
"""Runs cases of the real Debezium connector through Wellspring and compares what comes out. README.md says how.

    run.py --cases DIR [--only a,b] [--kafka host:port --registry url] [--keep]
    run.py --cases DIR --self-test     our decoder and normalisation against the expectations alone, no servers

One line per case: equal, its differences (the first ones shown), or the option that has no counterpart. Exit status 0 only
if at least one case ran and all that ran are equal.
"""
import argparse
import json
import os
import re
import sys
import time
import traceback

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(os.path.dirname(HERE), "stack")]

import decode  # noqa: E402
import normal  # noqa: E402
import selftest  # noqa: E402
import servers  # noqa: E402
from agent import Agent  # noqa: E402

SLOT_WAIT_SECONDS = 30
SHOWN = 6


class NotSupported(Exception):
    """A connector option without a counterpart; its text is `option=value`."""


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


# Options that say what we do anyway, with the values for which that is so.
AS_IS = {
    "name": None,
    "connector.class": None,
    "plugin.name": ["pgoutput"],
    "publication.autocreate.mode": ["filtered"],
    "time.precision.mode": ["adaptive"],
    "decimal.handling.mode": ["precise"],
    "binary.handling.mode": ["bytes"],
    "hstore.handling.mode": ["json"],
    "interval.handling.mode": ["numeric"],
    "schema.name.adjustment.mode": ["none"],
    "field.name.adjustment.mode": ["none"],
    "publish.via.partition.root": ["true"],
    "provide.transaction.metadata": ["false"],
}
MODES = ("initial", "initial_only", "no_data", "always", "when_needed")
# `configuration_based` where it means the same as a mode.
CONFIGURED = "snapshot.mode.configuration.based."
OVERRIDES = "snapshot.select.statement.overrides"
SELECTION = ("table.include.list", "table.exclude.list", "schema.include.list", "schema.exclude.list")


def settings_of(connector):
    """Our settings for a connector's; `NotSupported` where there is none."""
    out = {"topics": {"partitions": 1}, "events": {"context_headers": True, "messages": True, "tombstones": True,
                                                   "truncates": False},
           "snapshot": {"mode": "initial"}}
    for option, value in connector.items():
        if option in AS_IS:
            if AS_IS[option] is not None and value not in AS_IS[option]:
                raise NotSupported("%s=%s" % (option, value))
        elif option in SELECTION or option in ("slot.name", "publication.name", "topic.prefix"):
            pass
        elif option == "tombstones.on.delete":
            out["events"]["tombstones"] = value == "true"
        elif option == "unavailable.value.placeholder":
            out["events"]["placeholder"] = value
        elif option == "skipped.operations" and value in ("none", "t"):
            out["events"]["truncates"] = value == "none"
        elif option == "snapshot.mode" and value in MODES:
            out["snapshot"]["mode"] = value
        elif option == "snapshot.mode" and value == "configuration_based":
            if [connector.get(CONFIGURED + key) for key in ("snapshot.data", "start.stream")] != ["true", "true"]:
                raise NotSupported("snapshot.mode=configuration_based")
        elif option == OVERRIDES or option == "snapshot.include.collection.list" or option.startswith(CONFIGURED):
            pass
        elif option.startswith(OVERRIDES + "."):
            out["snapshot"].setdefault("query", {})[option[len(OVERRIDES) + 1:]] = value
        else:
            raise NotSupported("%s=%s" % (option, value))
    return out


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
    via_root = connector.get("publish.via.partition.root") == "true"
    if not via_root and any(kind == "p" or leaf == "t" for _, _, kind, leaf in chosen):
        raise NotSupported("publish.via.partition.root=false")
    return ["%s.%s" % (schema, table) for schema, table, _, leaf in chosen if leaf == "f"]


class Runner:
    def __init__(self, options):
        self.options = options
        self.clusters = {}

    def cluster(self, major):
        if major not in self.clusters:
            # As the reference had it: what shows in values is time zone and locale.
            self.clusters[major] = servers.Postgres(major, "corpus-postgres-%d" % major, {"autovacuum": "off"})
            self.clusters[major].wipe()
            self.clusters[major].start()
        return self.clusters[major]

    def close(self):
        for cluster in self.clusters.values():
            cluster.stop()
            if not self.options.keep:
                cluster.wipe()

    def peers(self, prefix, tables, subjects):
        """(brokers, registry url, what to end afterwards): a fresh mock cluster, or the real one made empty."""
        if not self.options.kafka:
            names = tables + ["public.ref_sentinel", "message", "wellspring-state"]
            peers = servers.Peers("corpus-peers", {"%s.%s" % (prefix, name): 1 for name in names})
            peers.start()
            return peers.brokers, peers.url, peers
        empty(self.options.kafka, self.options.registry, prefix, subjects)
        return self.options.kafka, self.options.registry, None

    def case(self, name):
        """Runs one case: (differences, records compared)."""
        path = os.path.join(self.options.cases, name)
        connector = properties(os.path.join(path, "connector.properties"))
        meta = properties(os.path.join(path, "case.properties"))
        settings = settings_of(connector)
        pg = self.cluster(int(meta.get("pg", "15")))
        slot, prefix = connector["slot.name"], connector["topic.prefix"]
        renew(pg, slot)
        pg.psql(file=os.path.join(path, "setup.sql"), database="app")
        pg.psql("create table if not exists public.ref_sentinel (id serial primary key)", database="app")
        tables = captured(pg, connector)
        if "snapshot.include.collection.list" in connector:
            copied = [p.strip() for p in connector["snapshot.include.collection.list"].split(",")]
            settings["snapshot"]["skip"] = [t for t in tables if not any(re.fullmatch(p, t) for p in copied)]
        prepare_publication(pg, connector["publication.name"], tables)
        rows, schemas = load(path)
        brokers, registry, peers = self.peers(prefix, tables, schemas)
        agent = Agent("corpus-agent", pg.url("app"), brokers, registry, prefix, tables, slot, settings)
        agent.wipe()
        agent.configure(postgres={"publication": connector["publication.name"]})
        try:
            self.steps(path, pg, agent, meta)
            records = read(brokers, registry, prefix)
        except Exception as error:
            raise RuntimeError("%s\n--- agent\n%s--- slot\n%s" % (
                error, servers.tail(agent.log), slot_row(pg, slot))) from error
        finally:
            agent.kill()
            if peers:
                peers.kill()
        want = normal.expected(rows, schemas)
        return normal.differences(want, normal.observed(records, meta)), sum(len(lines) for lines in want[0].values())

    def steps(self, path, pg, agent, meta):
        """The case's SQL between starts and stops of the program; returns when everything is delivered."""
        number = 1
        topic = meta.get("sentinel.topic") or agent.prefix + ".public.ref_sentinel"
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
                    agent.settings = {**agent.settings, **settings_of(properties(changed))}
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
                agent.ready(lambda: delivered(agent, topic) >= sent, SLOT_WAIT_SECONDS)
            status = agent.stop()
            if status != 0:
                raise AssertionError("the program ended with %s after SIGTERM" % status)
            number += 1


def delivered(agent, topic):
    """Records in a topic."""
    source = decode.consumer(agent.settings["kafka"]["brokers"][0])
    try:
        return sum(decode.ends(source, [topic]).values())
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


def prepare_publication(pg, publication, tables):
    """Where a table has no replica identity the program would not publish it unasked: the operator does, as Debezium did."""
    names = ", ".join('"%s"."%s"' % tuple(t.split(".", 1)) for t in tables)
    harmful = pg.psql(
        "select count(*) from unnest(array[%s]::regclass[]) r join pg_class c on c.oid = r where not"
        " (c.relreplident = 'f' or c.relreplident = 'd' and exists (select from pg_index where indrelid = c.oid and"
        " indisprimary) or c.relreplident = 'i')" % ", ".join("'%s'" % n for n in names.split(", ")), database="app")
    if harmful != "0":
        pg.psql("create publication %s for table %s with (publish_via_partition_root = true)" % (publication, names),
                database="app")


def empty(brokers, registry, prefix, subjects):
    """Deletes the prefix's topics and subjects on servers that several cases share.

    The case's subjects take any schema: Debezium was recorded against a registry that checks nothing.
    """
    from confluent_kafka.admin import AdminClient

    admin = AdminClient({"bootstrap.servers": brokers})
    source = decode.consumer(brokers)
    try:
        names = list(decode.topics(source, prefix + "."))
        for future in (admin.delete_topics(names) if names else {}).values():
            future.result()
        servers.wait_until("topics are gone", lambda: not decode.topics(source, prefix + "."))
    finally:
        source.close()
    for subject in json.loads(servers.http(registry + "/subjects")[1] or "[]"):
        if subject.startswith(prefix + "."):
            servers.http("%s/subjects/%s" % (registry, subject), "DELETE")
            servers.http("%s/subjects/%s?permanent=true" % (registry, subject), "DELETE")
    for subject in subjects:
        servers.http("%s/config/%s" % (registry, subject), "PUT", {"compatibility": "NONE"})


def read(brokers, registry, prefix):
    """What the topics hold, decoded."""
    decoder = decode.Decoder(registry)
    records = []
    for message in decode.read_all(brokers, prefix + "."):
        key, key_schema = decoder.read(message.key())
        value, value_schema = decoder.read(message.value())
        headers = [[name, data.decode() if data is not None else None] for name, data in message.headers() or []]
        records.append(normal.Record(
            message.topic(), key, value, key_schema and key_schema.text, value_schema and value_schema.text, headers,
            message.key()[5:].hex() if message.key() is not None else None))
    return records


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", required=True)
    parser.add_argument("--only", default="")
    parser.add_argument("--kafka")
    parser.add_argument("--registry")
    parser.add_argument("--keep", action="store_true", help="leave data directories and all differences behind")
    parser.add_argument("--self-test", action="store_true")
    options = parser.parse_args()
    options.cases = os.path.abspath(options.cases)
    if bool(options.kafka) != bool(options.registry):
        parser.error("--kafka and --registry belong together")
    only = [n for n in options.only.split(",") if n]
    names = only or sorted(n for n in os.listdir(options.cases) if os.path.exists(os.path.join(options.cases, n, "expected.jsonl")))
    runner, equal, unsupported, began = Runner(options), 0, 0, time.monotonic()
    for name in names:
        at = time.monotonic()
        try:
            if options.self_test:
                found, count = selftest.case(os.path.join(options.cases, name), properties, load)
            else:
                found, count = runner.case(name)
        except NotSupported as error:
            unsupported += 1
            print("%-28s not supported: %s" % (name, error), flush=True)
            continue
        except Exception as error:  # one broken case does not hide the others
            print("%-28s failed: %s" % (name, error), flush=True)
            if options.keep:
                traceback.print_exc()
            continue
        took = "%.1f s" % (time.monotonic() - at)
        if found:
            print("%-28s %d differences (%d records, %s)" % (name, len(found), count, took))
            for line in found if options.keep else found[:SHOWN]:
                print("    " + line)
        else:
            equal += 1
            print("%-28s equal (%d records, %s)" % (name, count, took))
        sys.stdout.flush()
    runner.close()
    ran = len(names) - unsupported
    print("%d of %d cases equal%s, %.0f s" % (
        equal, len(names), ", %d not supported" % unsupported if unsupported else "", time.monotonic() - began))
    return 0 if ran and equal == ran else 1


if __name__ == "__main__":
    sys.exit(main())
