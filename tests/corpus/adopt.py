#!/usr/bin/env python3
"""Takes over what a Debezium left behind: slot, publication, and its offset in Connect's topic, in a file or in a table.

    adopt.py       needs Postgres and the built programs; the mock cluster and the built-in registry are its own

The offset is written as Debezium writes it, at the slot's own position, below it, and where it does not fit. After an
adoption the program streams what was not confirmed, from the same slot, without a copy.
"""
import json
import os
import struct
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(os.path.dirname(HERE), "stack")]

import decode  # noqa: E402
import dist  # noqa: E402
import servers  # noqa: E402
from agent import Agent  # noqa: E402

WAIT_SECONDS = 30
KEY = json.dumps(["shop-connector", {"server": "shop"}], separators=(",", ":"))


def number(lsn):
    high, low = lsn.split("/")
    return (int(high, 16) << 32) + int(low, 16)


def java_file(path, key, value):
    """The file of Kafka's FileOffsetBackingStore: a HashMap of byte arrays in Java's serialisation."""
    data = (b"\xac\xed\x00\x05sr\x00\x11java.util.HashMap\x05\x07\xda\xc1\xc3\x16\x60\xd1\x03\x00\x02F\x00\x0aloadFactor"
            b"I\x00\x09thresholdxp?\x40\x00\x00\x00\x00\x00\x0cw\x08\x00\x00\x00\x10\x00\x00\x00\x01")
    data += b"ur\x00\x02[B\xac\xf3\x17\xf8\x06\x08T\xe0\x02\x00\x00xp" + struct.pack(">I", len(key)) + key
    data += b"uq\x00\x7e\x00\x02" + struct.pack(">I", len(value)) + value + b"x"
    with open(path, "wb") as f:
        f.write(data)


def produce(brokers, value):
    from confluent_kafka import Producer

    producer = Producer({"bootstrap.servers": brokers})
    producer.produce("connect-offsets", key=KEY.encode(), value=None if value is None else json.dumps(value).encode())
    if producer.flush(20):
        raise AssertionError("the offset was not written")


class Scene:
    """A database that a Debezium streamed from until it was stopped."""

    def __init__(self, pg, name):
        self.pg, self.name = pg, "adopt_" + name
        pg.psql("drop database if exists %s with (force)" % self.name)
        pg.psql("create database %s" % self.name)
        self.sql("create table public.orders (id integer primary key, v text)")
        self.sql("create publication dbz_publication for table public.orders")
        self.sql("select pg_create_logical_replication_slot('%s', 'pgoutput')" % self.name)
        self.slot = self.sql("select confirmed_flush_lsn from pg_replication_slots where slot_name = '%s'" % self.name)
        self.sql("insert into public.orders values (1, 'sent by Debezium, not confirmed')")
        self.sql("insert into public.orders values (2, 'written while nobody looked')")
        self.end = self.sql("select pg_current_wal_lsn()")
        self.peers = servers.Peers("adopt-peers", {"shop.public.orders": 1, "connect-offsets": 3})
        self.peers.start()
        self.agent = Agent("adopt-agent", pg.url(self.name), self.peers.brokers, self.peers.url, "shop", ["public.orders"],
                           self.name, {"postgres": {"publication": "dbz_publication"}, "topics": {"partitions": 1}})
        self.agent.wipe()

    def sql(self, text):
        return self.pg.psql(text, database=self.name)

    def adopt(self, *arguments):
        return self.agent.command("adopt", *(arguments or ["--from-connect-offsets"]))

    def topic(self):
        """Keys and operations of the table's topic."""
        decoder = decode.Decoder(self.peers.url)
        return [(decoder.read(m.key())[0]["id"], decoder.read(m.value())[0]["op"])
                for m in decode.read_all(self.peers.brokers, "shop.public.orders")]

    def close(self):
        self.agent.kill()
        self.peers.kill()
        self.sql("select pg_drop_replication_slot('%s')" % self.name)
        self.pg.psql("drop database %s with (force)" % self.name)


def goes_on(scene, *arguments):
    """After an adoption the stream holds every change behind the slot, and new ones."""
    status, text = scene.adopt(*arguments)
    assert status == 0 and "adopted connector `shop-connector`" in text, text
    assert scene.slot in text, text
    again, text = scene.adopt(*arguments)
    assert again != 0 and "a record of this slot already" in text, text
    scene.agent.start()
    scene.sql("insert into public.orders values (3, 'new')")
    servers.wait_until("three rows arrive", lambda: len(scene.topic()) == 3, WAIT_SECONDS)
    assert scene.topic() == [(1, "c"), (2, "c"), (3, "c")], scene.topic()


def from_the_topic(scene):
    produce(scene.peers.brokers, {"lsn": 1, "lsn_proc": 1, "lsn_commit": 1})
    produce(scene.peers.brokers, {"lsn": number(scene.end), "lsn_proc": number(scene.slot), "lsn_commit": number(scene.slot),
                                  "messageType": "INSERT", "txId": 700, "ts_usec": 1})
    goes_on(scene)


def from_the_file(scene):
    path = os.path.join(scene.agent.dir, "offsets.dat")
    java_file(path, KEY.encode(), json.dumps({"lsn": number(scene.end), "lsn_commit": number(scene.end)}).encode())
    goes_on(scene, "--from-offset-file", path)


def from_the_table(scene):
    """Debezium's JDBC offset storage: a row of an earlier flush stands before the one that counts."""
    scene.sql("create schema ops; create table ops.offsets (id varchar(36) not null, offset_key varchar(1255),"
              " offset_val varchar(1255), record_insert_ts timestamp not null, record_insert_seq integer not null)")
    status, text = scene.adopt("--from-offset-table", "ops.offsets")
    assert status != 0 and "no offset of a connector" in text, text
    status, text = scene.adopt("--from-offset-table", "ops.nowhere")
    assert status != 0 and "ops" in text and "offset.storage.jdbc.offset.table.name" in text, text
    offset = {"lsn": number(scene.end), "lsn_proc": number(scene.slot), "lsn_commit": number(scene.slot)}
    for seq, value in enumerate(({"lsn": 1, "lsn_commit": 1}, offset)):
        scene.sql("insert into ops.offsets values ('%d', '%s', '%s', '2026-01-01', %d)" % (seq, KEY, json.dumps(value), seq))
    goes_on(scene, "--from-offset-table", "ops.offsets")


def refused(scene, value, wanted):
    if value is not None:
        produce(scene.peers.brokers, value)
    status, text = scene.adopt()
    assert status != 0 and wanted in text, (status, text)
    # Nothing was written: a start finds a slot without record.
    status, text = scene.agent.command("slot", "status")
    assert "state_missing" in text, text


def a_slot_ahead_of_the_offset(scene):
    refused(scene, {"lsn": number(scene.slot) - 8, "lsn_commit": number(scene.slot) - 8}, "beyond the stored offset")


def an_offset_of_another_server(scene):
    ahead = number(scene.end) + (1 << 32)
    refused(scene, {"lsn": ahead, "lsn_commit": ahead}, "the server's log ends at")


def an_unfinished_copy(scene):
    refused(scene, {"lsn": number(scene.slot), "snapshot": "INITIAL", "snapshot_completed": False}, "stopped in a copy")


def no_offset(scene):
    produce(scene.peers.brokers, None)
    refused(scene, None, "no offset of a connector")


def a_debezium_that_runs(scene):
    """The slot's reader says that it is Debezium, as the real one does."""
    produce(scene.peers.brokers, {"lsn": number(scene.slot), "lsn_commit": number(scene.slot)})
    command = [dist.client_tool("pg_recvlogical"), "-d", scene.pg.url(scene.name), "--slot", scene.name, "--start", "-f", os.devnull,
               "--no-loop", "-o", "proto_version=1", "-o", "publication_names=dbz_publication"]
    reader = servers.Process("adopt-debezium")
    reader.launch(command, {"PGAPPNAME": "Debezium Streaming"})
    try:
        active = "select count(active_pid) from pg_replication_slots where slot_name = '%s'" % scene.name
        servers.wait_until("it streams", lambda: scene.sql(active) == "1", WAIT_SECONDS)
        status, text = scene.adopt()
        assert status != 0 and "is held by Debezium Streaming: pid" in text and "PUT /connectors/NAME/stop" in text, text
    finally:
        reader.kill()
        servers.wait_until("it is gone", lambda: scene.sql(active) == "0", WAIT_SECONDS)
    _, text = scene.agent.command("slot", "status")
    assert "state_missing" in text, text  # nothing was written


SCENES = (a_debezium_that_runs, from_the_topic, from_the_file, from_the_table, a_slot_ahead_of_the_offset, an_offset_of_another_server, an_unfinished_copy,
          no_offset)


def main():
    pg = servers.Postgres(15, "adopt-postgres", {})
    pg.wipe()
    pg.start()
    failed = 0
    try:
        for scene in SCENES:
            stage = Scene(pg, scene.__name__[:40])
            try:
                scene(stage)
                print("%-32s ok" % scene.__name__, flush=True)
            except Exception as error:  # one broken scene does not hide the others
                failed += 1
                print("%-32s failed: %s\n%s" % (scene.__name__, error, servers.tail(stage.agent.log)), flush=True)
            finally:
                stage.close()
    finally:
        pg.stop()
        pg.wipe()
    print("%d of %d" % (len(SCENES) - failed, len(SCENES)))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
