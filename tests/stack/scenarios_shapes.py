"""Transforms under faults: an outbox and a flattened table, whose consumers see none of the faults.

A service changes orders and writes its events in the same transactions, some as rows of the outbox and some as logical
messages. Each event of an aggregate has the next number.
"""
import collections
import json
import random
import threading
import uuid

import decode
import disturb
import observer
from scenarios_operations import Pair

TABLES = ["public.orders", "public.outbox"]
KINDS = ("order", "invoice")
BY_MESSAGE = "payment"  # the kind whose events are in no table
MESSAGES = r".*\.message"
AGGREGATES, ORDERS, WRITERS = 40, 300, 3
SETUP = """
create table public.orders (id int primary key, v int not null, note text);
create table public.outbox (id uuid primary key, aggregatetype text not null, aggregateid text not null, tenant text,
  payload text not null);
create table public.sent (id uuid primary key, kind text not null, aggregate text not null, n int not null);
create sequence public.moved start 100000;
insert into public.orders select g, 0, 'first' from generate_series(1, %d) g;
""" % ORDERS


def shaped(world):
    """The settings for the two tables and the messages."""
    topic = world.prefix + ".events.$${routedByValue}"
    return {
        "snapshot": {"mode": "initial"}, "limits": {"quarantine": "1s"}, "events": {"message_prefixes": ["outbox"]},
        "transform": [
            {"type": "outbox", "tables": ["public.outbox"], "replacement": topic, "placement": ["tenant:header"]},
            {"type": "unwrap", "tables": ["public.orders"]},
            {"type": "decode-message", "when_topic": MESSAGES},
            {"type": "outbox", "when_topic": MESSAGES, "replacement": topic},
        ],
    }


class Service:
    """Writers, each with aggregates of its own, until it is told to stop."""

    def __init__(self, world, pg):
        pg.psql(SETUP, database="shop")
        self.pg, self.over, self.failed = pg, threading.Event(), []
        self.threads = [threading.Thread(target=self.run, args=(number,), daemon=True) for number in range(WRITERS)]
        world.ends(self)

    def start(self):
        for thread in self.threads:
            thread.start()
        return self

    def run(self, number):
        try:
            self.write(number)
        except Exception as error:  # told by whoever stops it
            self.failed.append(error)

    def write(self, number):
        luck, numbers = random.Random(number), collections.Counter()
        sql = self.pg.connect("shop")
        while not self.over.wait(0.005):
            with sql.transaction():
                for _ in range(luck.randint(1, 4)):
                    aggregate = "%d-%d" % (number, luck.randrange(AGGREGATES))
                    kind = luck.choice((*KINDS, BY_MESSAGE))
                    numbers[kind, aggregate] += 1
                    n = numbers[kind, aggregate]
                    self.order(sql, luck)
                    event = str(uuid.UUID(int=luck.getrandbits(128)))
                    sql.execute("insert into sent values (%s, %s, %s, %s)", (event, kind, aggregate, n))
                    if kind == BY_MESSAGE:
                        content = {"id": event, "aggregatetype": kind, "aggregateid": aggregate, "payload": str(n)}
                        sql.execute("select pg_logical_emit_message(true, 'outbox', %s::text)", (json.dumps(content),))
                        continue
                    sql.execute("insert into outbox values (%s, %s, %s, %s, %s)",
                                (event, kind, aggregate, luck.choice((None, "acme")), str(n)))
                    if luck.random() < 0.5:
                        # Many services delete the row at once: the log alone holds the event then.
                        sql.execute("delete from outbox where id = %s", (event,))
        sql.close()

    def order(self, sql, luck):
        row = luck.randint(1, ORDERS)
        what = luck.random()
        if what < 0.7:
            sql.execute("update orders set v = v + 1, note = %s where id = %s", (luck.choice((None, "x", "y")), row))
        elif what < 0.8:
            sql.execute("delete from orders where id = %s", (row,))
        elif what < 0.9:
            sql.execute("update orders set id = nextval('moved') where id = %s", (row,))
        else:
            sql.execute("insert into orders values (%s, 0, 'again') on conflict do nothing", (row,))

    def kill(self):
        self.over.set()
        for thread in self.threads:
            if thread.is_alive():
                thread.join()

    def stop(self):
        self.kill()
        if self.failed:
            raise self.failed[0]


def judged(world, pg):
    """Every event arrived, each aggregate in its order and each replay alike; the flat topic equals the table."""
    reader, events, flat, repeated = decode.Decoder(world.registry.url), {}, {}, 0
    newest, wrong = {}, []
    with pg.connect("shop") as sql:
        sent = {str(row[0]): row[1:] for row in sql.execute("select id, kind, aggregate, n from sent").fetchall()}
        rows = {row[0]: row for row in sql.execute("select id, v, note from orders").fetchall()}
    for message in decode.read_all(world.kafka.brokers, world.prefix + "."):
        key, value = reader.read(message.key())[0], reader.read(message.value())[0]
        if message.topic() == world.prefix + ".public.orders":
            flat[key["id"]] = value and (value["id"], value["v"], value["note"])
            continue
        headers = dict(message.headers())
        event = headers["id"].decode()
        seen = (message.topic(), message.partition(), message.key(), message.value(), headers.get("tenant"))
        if event in events:
            repeated += 1
            if events[event] != seen:
                wrong.append("a replay of event %s is another record" % event)
            continue
        events[event] = seen
        kind, aggregate, n = sent.get(event, ("", "", 0))
        if (message.topic(), key, value) != ("%s.events.%s" % (world.prefix, kind), aggregate, str(n)):
            wrong.append("event %s of %s %s is %s" % (event, kind, aggregate, (message.topic(), key, value)))
        if n != newest.get((kind, aggregate), 0) + 1:
            wrong.append("event %d of %s %s came after %d" % (n, kind, aggregate, newest.get((kind, aggregate), 0)))
        newest[kind, aggregate] = n
    if events.keys() != sent.keys():
        wrong.append("%d events sent, %d received" % (len(sent), len(events)))
    left = {key: row for key, row in flat.items() if row is not None}
    if left != rows:
        different = {key for key in left.keys() | rows.keys() if left.get(key) != rows.get(key)}
        wrong.append("%d of %d rows differ from the flat topic" % (len(different), len(rows)))
    assert not wrong, "\n".join(wrong[:10])
    world.say("%d events, %d repeated, %d rows equal", len(events), repeated, len(rows))


def shapes_under_fire(world):
    """An outbox and a flattened table: a slow broker, a paused one, kill -9 of the program; consumers miss nothing."""
    kills, luck = world.length(2, 20), random.Random(16)
    pg = world.postgres()
    service = Service(world, pg)
    agent = world.agent(pg, TABLES, **shaped(world))
    agent.start()
    service.start()
    observer.pause(world.length(2, 20))
    with disturb.slowed(world.kafka, 20_000):
        observer.pause(world.length(3, 20))
    disturb.pause(world.kafka, world.length(3, 20))
    for _ in range(kills):
        observer.pause(luck.uniform(1.0, 3.0))
        agent.kill()
        agent.start(streaming=False)
    observer.pause(1)
    service.stop()
    world.until_delivered(pg, agent, 180)
    assert agent.stop(seconds=60) == 0, "a clean stop ends with 0"
    judged(world, pg)


def shapes_of_two_replicas(world):
    """The same two tables and two replicas: the active one is killed, the other goes on with the same records."""
    kills, luck = world.length(2, 10), random.Random(17)
    pg = world.postgres()
    service = Service(world, pg)
    # Two first starts at once can cut off the first copy, and the events of an outbox are not copied later.
    pair = Pair(world, pg, TABLES, one_first=True, **shaped(world))
    service.start()
    for _ in range(kills):
        active, other = pair.active()
        observer.pause(luck.uniform(1.0, 3.0))
        sender = world.walsender(pg)
        active.kill()
        pair.taken_over(other, pair.slot_is_free(sender, 30))
        active.start(streaming=False)
        pair.settled()
    service.stop()
    world.until_delivered(pg, pair.active()[0])
    pair.stop()
    judged(world, pg)


SCENARIOS = [shapes_under_fire, shapes_of_two_replicas]
