"""In Debezium's place: its running pipeline is taken over, and clients written for its events read ours.

The other hands here are Debezium's connector for Postgres and its JDBC sink on Kafka Connect, with Confluent's converters,
and the deserializer of confluent-kafka. As `scenarios`: a story with facts at its end.
"""
import datetime
import json
import os
import random
import uuid

import decode
import observer
import rebuild
import servers

# Tables with the places of their keys. `history` of the second story has none.
KEYED = {"public.accounts": (0,), "public.branches": (0,), "public.tellers": (0,), "public.history": (0,),
         "public.orders": (0,)}
KEYLESS = {"public.journal": None}
# What the sink has no column for, or only nearly: its schemas are compared, in the registry.
WIDE = "public.wide"

# TPC-B's shape with fewer accounts, orders of the types that the sink has columns for, with a large value that an update
# leaves as it is, and a table of many more types and defaults.
SETUP = """
create table public.branches (bid int primary key, bbalance int, filler char(88));
create table public.tellers (tid int primary key, bid int, tbalance int, filler char(84));
create table public.accounts (aid int primary key, bid int, abalance int, filler char(84));
create table public.history (id bigserial primary key, tid int, bid int, aid int, delta int, mtime timestamp, filler char(22));
create table public.orders (id bigint primary key, customer uuid not null, state varchar(20) default 'new', total numeric(12,2),
  rate double precision, share real, placed timestamptz, due date, opens time, paid boolean not null, small smallint,
  details jsonb, photo bytea, note text);
alter table public.orders replica identity full;
create table public.journal (tid int, delta int, v text);
alter table public.journal replica identity full;
create type public.mood as enum ('sad', 'ok', 'happy');
create domain public.amount as numeric(8,3) check (value >= 0);
create table public.wide (id bigserial primary key, i integer not null default 7, i8 bigint default 9223372036854775807,
  n numeric(8,3) not null default 1.5, nv numeric default 3.14, f double precision default 1.25, r real not null default 0.5,
  b boolean default 'f', t text not null default 'plain', t2 text default 'with ''quote'' and, comma', c char(6) default 'abcd',
  u uuid default gen_random_uuid(), j json default '{"a": 1}', jb jsonb not null default '[]', x xml default '<a/>',
  d date not null default '2021-03-19', ts0 timestamp(0) default now(), ts3 timestamp(3) default '2021-03-20 13:44:28.5',
  ts timestamp not null default now(), tz timestamptz not null default '2021-03-20 14:44:28 +1', tt timetz default '12:00+02',
  tm time default '15:00:00', iv interval default '1 hour', bt bytea default '\x0102', b1 bit(1) default B'1', b3 bit(3) default B'110',
  vb varbit default B'11', mo public.mood not null default 'sad', mn public.mood, ar integer[] default '{1,2}', at text[] default '{a,NULL}',
  tr tstzrange, ir int4range default '[1,2)', m money default 12.34, ip inet default '10.0.0.1', ma macaddr, p point default '(1,2)',
  a public.amount default 2.5, an public.amount not null default 1);
insert into public.wide select from generate_series(1, 20);
create sequence public.moved start 1000000;
insert into public.branches select g, 0, null from generate_series(1, 2) g;
insert into public.tellers select g, g % 2 + 1, 0, 'teller' from generate_series(1, 10) g;
insert into public.accounts select g, g % 2 + 1, 0, '' from generate_series(1, 2000) g;
insert into public.journal select g % 3, g, 'before' from generate_series(1, 100) g;
insert into public.orders (id, customer, paid) values (0, '00000000-0000-0000-0000-000000000000', false);
insert into public.orders select g, md5(g::text)::uuid, 'old', g / 7.0, g / 3.0, g / 4.0, '2026-01-01 00:00:00.123456+00'::timestamptz
  + g * interval '1 hour', '2026-01-01'::date + g, '12:00:00'::time + g * interval '1 second', g % 2 = 0, g, jsonb_build_object('g', g),
  sha256(g::text::bytea), repeat(md5(g::text), 200) from generate_series(1, 300) g;
"""
TPCB = r"""
\set aid random(1, 2000)
\set bid random(1, 2)
\set tid random(1, 10)
\set delta random(-5000, 5000)
begin;
update public.accounts set abalance = abalance + :delta where aid = :aid;
update public.tellers set tbalance = tbalance + :delta where tid = :tid;
update public.branches set bbalance = bbalance + :delta where bid = :bid;
insert into public.history (tid, bid, aid, delta, mtime) values (:tid, :bid, :aid, :delta, clock_timestamp());
insert into public.journal values (:tid, :delta, 'new');
update public.wide set i = i + 1, mn = 'ok', tr = tstzrange(now(), null), nv = null where id = :tid;
end;
"""
ORDERS = r"""
\set id random(1, 400)
\set what random(1, 100)
update public.orders set state = 'seen', total = coalesce(total, 0) + :what, placed = clock_timestamp() where id = :id;
delete from public.orders where id = :id and :what < 15;
update public.orders set id = nextval('public.moved') where id = :id and :what > 90;
insert into public.orders values (:id, md5(:what::text)::uuid, default, :what / 3.0, 1.0 / :what, null, now(), current_date,
  localtime, true, :what, '{"a": [1, null, "x"]}', '\x00ff', repeat(md5(:id::text), 200)) on conflict do nothing;
"""
# One transaction of many rows, so that a stop can hit its middle.
BULK = r"""
\set part random(0, 3)
update public.accounts set filler = 'part ' || :part where aid % 4 = :part;
"""


def filled(world):
    pg = world.postgres()
    pg.psql(SETUP, database="shop")
    return pg


def loaded(world, pg):
    """pgbench on every table, at a rate that leaves the machine to the JVMs, until it is told to stop."""
    scripts = []
    for name, text, weight in (("tpcb", TPCB, 300), ("orders", ORDERS, 100), ("bulk", BULK, 2)):
        path = os.path.join(pg.dir, name + ".sql")
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)
        scripts += ["-f", "%s@%d" % (path, weight)]
    return world.pgbench(pg, "-n", "-c", "2", "-R", str(world.length(80, 250)), "-T", "900", *scripts, background=True)


def ended(load):
    load.terminate()
    load.wait()


def worker(world, name=""):
    connect = world.ends(servers.Connect(world.kafka.brokers, world.registry.url, "%s-connect%s" % (world.name, name)))
    connect.wipe()
    return connect.start()


# -- the JDBC sink


def sunk(world, connect, tables, target, **more):
    """Runs Debezium's JDBC sink until it has committed every record that the tables' topics hold."""
    topics = ["%s.%s" % (world.prefix, table) for table in tables]
    name = "%s-sink-%s" % (world.name, tables[0].rpartition(".")[2])
    connect.post(name, {
        "connector.class": "io.debezium.connector.jdbc.JdbcSinkConnector",
        "tasks.max": "1",
        "topics": ",".join(topics),
        "connection.url": "jdbc:postgresql://%s:%d/shop" % (servers.HOST, target.port),
        "connection.username": "postgres",
        "connection.password": "unused",
        "collection.name.format": "${source.table}",
        "schema.evolution": "basic",
        # Its reader of schemas gives up after a minute without an answer, and the task with it, unless told to ask again.
        "errors.retry.timeout": "-1",
        **more,
    })
    group = decode.consumer(world.kafka.brokers, **{"group.id": "connect-" + name})
    try:
        wanted = {at: end for at, end in decode.ends(group, topics).items() if end > 0}
        places = [decode.TopicPartition(*at) for at in wanted]

        def read():
            connect.states(name)  # a failed task is told, not waited for
            return all(p.offset >= wanted[p.topic, p.partition] for p in group.committed(places, timeout=10))

        connect.ready(read, world.length(300, 900))
    finally:
        group.close()
    return sum(wanted.values())


UPSERT = {"insert.mode": "upsert", "delete.enabled": "true", "primary.key.mode": "record_key"}
APPEND = {"insert.mode": "insert", "primary.key.mode": "none"}


def shown(rows):
    """Two rows, their beginnings."""
    return [row[:300] for row in rows[:2]]


def equal_tables(pg, target, tables):
    """Fails where a table of the target is not the source's, by value and column for column; how many rows there are."""
    wrong, count = [], 0
    with pg.connect("shop") as source, target.connect("shop") as copy:
        for table in tables:
            columns = [c.name for c in source.execute("select * from %s limit 0" % table).description]
            query = "select %s from %s" % (", ".join(columns), table)
            have, want = (sorted(map(repr, side.execute(query))) for side in (copy, source))
            count += len(want)
            if have != want:
                missing, extra = sorted(set(want) - set(have)), sorted(set(have) - set(want))
                wrong.append("%s: %d rows, %d expected; missing %s; too many %s" % (
                    table, len(have), len(want), shown(missing), shown(extra)))
    assert not wrong, "\n".join(wrong)
    return count


# -- a take-over


def versions(world):
    """Every schema version of the pipeline in the registry: subject to version to id."""
    found, mine = {}, (world.prefix + ".", "__debezium-heartbeat.%s-" % world.prefix)
    for subject in json.loads(servers.http(world.registry.url + "/subjects")[1]):
        if subject.startswith(mine):
            for version in json.loads(servers.http("%s/subjects/%s/versions" % (world.registry.url, subject))[1]):
                text = servers.http("%s/subjects/%s/versions/%d" % (world.registry.url, subject, version))[1]
                found[subject, version] = json.loads(text)["id"]
    return found


def debezium(world, pg, connect, **more):
    """Real Debezium's pipeline, past its snapshot, its newest stored offset one of the stream; the file that was posted."""
    name = world.name + "-source"
    posted = connect.post(name, {
        "connector.class": "io.debezium.connector.postgresql.PostgresConnector",
        "tasks.max": "1",
        "plugin.name": "pgoutput",
        "database.hostname": servers.HOST,
        "database.port": str(pg.port),
        "database.user": "postgres",
        "database.password": "unused",
        "database.dbname": "shop",
        "database.sslmode": "disable",
        "topic.prefix": world.prefix,
        "slot.name": world.slot,
        "topic.creation.default.partitions": "3",
        "topic.creation.default.replication.factor": "1",
        **more,
    })

    def streaming():
        connect.states(name)
        offset = connect.offset(name)
        return "lsn_commit" in offset and not offset.get("snapshot")

    connect.ready(streaming, 90)
    # The first event of its kind makes a topic and schemas; later ones (`until_delivered` writes them) are to find these.
    pg.psql("select pg_logical_emit_message(true, 'world', 'by Debezium')", database="shop")
    message = world.prefix + ".message"
    connect.ready(lambda: decode.read_all(world.kafka.brokers, message), 30)
    return name, posted


def one_partition_per_key(records):
    """Whoever wrote a key put it where the other one does."""
    places = {}
    for message in records:
        if message.key() is not None:
            places.setdefault((message.topic(), message.key()), set()).add(message.partition())
    split = [at for at, found in places.items() if len(found) > 1]
    assert not split, "%d keys are on several partitions: %s" % (len(split), split[:3])


def taken_over(world, how, **more):
    """A pipeline that Debezium began is stopped at a random moment and goes on here, under load throughout."""
    seed = int(os.environ.get("SEED") or random.SystemRandom().randrange(1 << 32))
    luck = random.Random(seed)
    world.say("SEED=%d", seed)
    pg = filled(world)
    load = loaded(world, pg)
    connect = worker(world)
    name, posted = debezium(world, pg, connect, **more)
    observer.pause(luck.uniform(0.0, world.length(5.0, 30.0)))
    if how == "killed":
        connect.kill()
    else:
        connect.halt(name)
    world.until("Debezium has let go of the slot", lambda: not world.walsender(pg), 30)
    registered = versions(world)
    agent = world.agent(pg, [])
    agent.imported(posted, connect.file)
    code, said = agent.command("adopt", "--from-connect-offsets", connect.offsets_topic)
    assert code == 0, "adopt ended with %d: %s" % (code, said)
    before = {(m.topic(), m.partition(), m.offset()) for m in decode.read_all(world.kafka.brokers, world.prefix + ".")}
    agent.start()
    observer.pause(luck.uniform(1.0, world.length(4.0, 20.0)))
    ended(load)
    world.until_delivered(pg, agent)
    # Whatever the worker is told next, it is not to begin its source again: Debezium's place is taken.
    sinks = worker(world, "-sinks") if how == "killed" else connect
    target = world.postgres(18, name="-target")
    records = decode.read_all(world.kafka.brokers, world.prefix + ".")
    one_partition_per_key(records)
    reader = decode.Decoder(world.registry.url)
    ours = [m for m in records if (m.topic(), m.partition(), m.offset()) not in before]
    assert ours, "nothing came from us"
    copied = [m for m in ours if m.value() is not None and reader.read(m.value())[0].get("op") == "r"]
    assert not copied, "%d rows were copied again, %s the first" % (len(copied), copied[0].topic())
    read = sunk(world, sinks, list(KEYED), target, **UPSERT)
    rows = equal_tables(pg, target, KEYED)
    assert versions(world) == registered, "the registry: %s, was %s" % (versions(world), registered)
    assert agent.stop() == 0
    world.say("%s: %d records by Debezium, %d then; sink read %d, %d rows equal; %d schema versions as before",
              how, len(before), len(ours), read, rows, len(registered))


def debezium_taken_over(world):
    """Real Debezium stopped in order at a random moment, its pipeline adopted; the JDBC sink's tables equal the source."""
    taken_over(world, "stopped", **{
        "table.include.list": ",".join([*KEYED, *KEYLESS, WIDE]).replace(".", "\\."),
        "publication.autocreate.mode": "filtered", "heartbeat.interval.ms": "500", "provide.transaction.metadata": "true"})


def debezium_killed_and_taken_over(world):
    """The same with the worker killed, a publication FOR ALL TABLES and no list of tables."""
    taken_over(world, "killed")


# -- a pipeline of ours


def as_told(value):
    """A value of psycopg as a consumer of the events has it."""
    if isinstance(value, datetime.datetime):
        return rebuild.as_event(value)
    if isinstance(value, datetime.date):
        return (value - datetime.date(1970, 1, 1)).days
    if isinstance(value, datetime.time):
        return ((value.hour * 60 + value.minute) * 60 + value.second) * 1_000_000 + value.microsecond
    if isinstance(value, uuid.UUID):
        return str(value)
    return json.dumps(value, sort_keys=True) if isinstance(value, dict) else value


def read_on(row):
    """What a consumer does with texts that stand for more: an instant, a document."""
    if row.get("placed") is not None:
        row["placed"] = rebuild.as_event(datetime.datetime.fromisoformat(row["placed"]))
    if row.get("details") is not None:
        row["details"] = json.dumps(json.loads(row["details"]), sort_keys=True)


def deserialized(world):
    """Every record of the pipeline by confluent-kafka's own registry client and deserializer: topic to events."""
    from confluent_kafka.schema_registry import SchemaRegistryClient
    from confluent_kafka.schema_registry.avro import AvroDeserializer
    from confluent_kafka.serialization import MessageField, SerializationContext

    read = AvroDeserializer(SchemaRegistryClient({"url": world.registry.url}))
    events = {}
    for message in decode.read_all(world.kafka.brokers, world.prefix + "."):
        key = read(message.key(), SerializationContext(message.topic(), MessageField.KEY))
        value = read(message.value(), SerializationContext(message.topic(), MessageField.VALUE))
        for image in ("before", "after"):
            read_on((value or {}).get(image) or {})
        found = events.setdefault(message.topic(), [])
        # Without a crash nothing comes twice, so the place in the topic tells an event from any other.
        found.append(rebuild.Event(key and tuple(key.values()), value, (message.partition(), message.offset()), message))
    return events


def clients_of_our_events(world):
    """A pipeline that began here: the JDBC sink's tables and those of an AvroDeserializer's reader equal the source."""
    pg = filled(world)
    load = loaded(world, pg)
    tables = {**KEYED, **KEYLESS}
    agent = world.agent(pg, tables, snapshot={"mode": "initial"}).start()
    connect = worker(world)
    observer.pause(world.length(3, 20))
    ended(load)
    world.until_delivered(pg, agent)
    assert agent.stop() == 0
    events = deserialized(world)
    wrong = []
    with pg.connect("shop") as sql:
        for table, key in tables.items():
            found = events["%s.%s" % (world.prefix, table)]
            rows = [tuple(map(as_told, row)) for row in sql.execute("select * from " + table)]
            have = rebuild.keyed(found).values() if key else rebuild.bag(found).elements()
            if sorted(map(repr, have)) != sorted(map(repr, rows)):
                differ = sorted(set(map(repr, have)) ^ set(map(repr, rows)))
                wrong.append("%s: %d of %d rows differ: %s" % (table, len(differ), len(rows), shown(differ)))
    assert not wrong, "\n".join(wrong)
    target = world.postgres(18, name="-target")
    read = sunk(world, connect, list(KEYED), target, **UPSERT) + sunk(world, connect, list(KEYLESS), target, **APPEND)
    rows = equal_tables(pg, target, tables)
    world.say("%d records deserialized, tables equal; sink read %d, %d rows equal",
              sum(map(len, events.values())), read, rows)


SCENARIOS = [debezium_taken_over, debezium_killed_and_taken_over, clients_of_our_events]
