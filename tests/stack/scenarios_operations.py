"""What an operator relies on: a second replica that takes over, and figures that are true by somebody else's clock."""
import json
import os
import random
import signal
import socket
import threading
import time

import decode
import observer
import scenarios
import servers
from agent import lsn
from confluent_kafka import OFFSET_BEGINNING, TopicPartition

# From the moment the slot is free to the other replica's first turn with it: the bound.
TAKE_OVER_MAX_SECONDS = 15.0


# -- two replicas, one active


class Pair:
    """Two replicas of one pipeline: the same prefix, slot and tables, each with an admin port of its own."""

    def __init__(self, world, pg, tables, settles=True, one_first=False, **over):
        self.world, self.pg = world, pg
        self.both = [world.agent(pg, tables, name=name, **over) for name in ("one", "two")]
        for agent in self.both:
            agent.start(streaming=one_first and agent is self.both[0])
        if settles:
            self.settled()

    def settled(self):
        """One streams, the other waits and says for what."""

        def so():
            for agent in self.both:
                assert agent.alive(), "%s ended:\n%s" % (agent.name, servers.tail(agent.log))
            found = {(s.get("phase"), s.get("reason")) for s in (agent.status() for agent in self.both)}
            return found == {("standby", "standby"), ("streaming", "")}

        self.world.until("one streams, the other waits for the slot", so, 60)

    def active(self):
        """The one that holds the slot, and the other."""
        one, two = self.both
        return (one, two) if one.phase() == "streaming" else (two, one)

    def slot_is_free(self, pid, seconds):
        """When the server let go of the slot of this walsender."""
        self.world.until("the slot is free", lambda: self.world.walsender(self.pg) != pid, seconds)
        return time.monotonic()

    def taken_over(self, other, free):
        """`other` streams in time; how long that took."""
        other.until_streaming(60)
        took = time.monotonic() - free
        assert took <= TAKE_OVER_MAX_SECONDS, "%s took over after %.1f s" % (other.name, took)
        return took

    def stop(self):
        """Stops the one that waits, then the one that streams, which has nothing left to repeat."""
        active, other = self.active()
        status = other.stop()
        # 6: a replica that lost the slot does not know what became of the records it had sent.
        assert status in (0, 6), "%s, which waited, ended with %s" % (other.name, status)
        status = active.stop()
        assert status == 0, "%s, which streamed, ended with %s" % (active.name, status)


# Small rows, so that a run's records are read back in seconds: many keys, and a table without one.
LOAD = """\\set id random(1, 500)
\\set amount random(1, 1000000)
begin;
update stock set v = v + 1 where id = :id;
insert into moves (item, amount) values (:id, :amount);
commit;
"""
STOCK = {"public.stock": (0,), "public.moves": None}


def stock(world, pg):
    """The tables of `LOAD`; its file."""
    pg.psql("create table stock (id int primary key, v int); create table moves (item int, amount int);"
            "alter table moves replica identity full; insert into stock select i, 0 from generate_series(1, 500) i",
            database="shop")
    path = os.path.join(pg.dir, "load.sql")
    with open(path, "w", encoding="utf-8") as f:
        f.write(LOAD)
    return path


def two_replicas(world):
    """The active one of two replicas is killed and frozen under load: the other takes over in time, nothing is lost."""
    rounds = world.length(1, 10)
    pg = world.postgres(settings={"wal_sender_timeout": "4s"})
    script = stock(world, pg)
    # Both begin at once and have nothing yet: one creates the slot, the other finds it.
    pair = Pair(world, pg, STOCK, limits={"quarantine": "6s"})
    pg.psql("update stock set v = 1", database="shop")
    watch = observer.Observer(pg, world.slot, world.kafka.brokers, world.prefix)
    watch.start()
    load = world.pgbench(pg, "-c", "4", "-R", "400", "-T", "900", "-n", "-f", script, background=True)
    luck, killed, frozen = random.Random(6), [], []
    for _ in range(rounds):
        active, other = pair.active()
        observer.pause(luck.uniform(0.5, 2.0))
        sender = world.walsender(pg)
        active.kill()
        killed.append(pair.taken_over(other, pair.slot_is_free(sender, 30)))
        active.start(streaming=False)
        pair.settled()
        world.until_confirmed(pg, 60)

        active, other = pair.active()
        observer.pause(luck.uniform(0.5, 2.0))
        sender = world.walsender(pg)
        active.send(signal.SIGSTOP)
        try:
            # Nobody helps: the server ends the walsender by its own timeout.
            frozen.append(pair.taken_over(other, pair.slot_is_free(sender, 60)))
            observer.pause(luck.uniform(0.5, 2.0))
        finally:
            active.send(signal.SIGCONT)
        pair.settled()
        assert pair.active()[0] is other, "the thawed one took the slot back"
        world.until_confirmed(pg, 60)
    load.terminate()
    load.wait()
    active, other = pair.active()
    world.until_delivered(pg, active)
    world.until_confirmed(pg, 60)
    watch.stop()
    late = sum(active.status()["foreign_writes"].values())
    assert other.status()["in_flight_records"] == 0, "the waiting one holds records"
    pair.stop()
    # What the thawed one still sent may stand behind newer records; the tables are equal because it was put right.
    events = world.judge(pg, STOCK, order=False)
    unsafe = watch.unsafe(events)
    assert not unsafe, "\n".join(unsafe)
    assert watch.looks > 3, "the observer saw only %d positions" % watch.looks
    world.say("free to streaming: killed %s s, frozen %s s; %d positions observed; %d late records noticed",
              "/".join("%.1f" % s for s in killed), "/".join("%.1f" % s for s in frozen), watch.looks, late)


def other_replica(world, pg, agent):
    """Who goes on after the active one is frozen and the server was told to end its session: the replica beside it."""
    other = world.agent(pg, ["public.t"], name="other", topics={"partitions": 1},
                        limits=agent.settings["limits"])
    other.start(streaming=False)
    world.until("it waits for the slot", lambda: other.status().get("phase") == "standby", 30)
    sender = world.walsender(pg)
    agent.send(signal.SIGSTOP)
    pg.psql("select pg_terminate_backend(%d)" % sender)
    world.until("the slot is free", lambda: world.walsender(pg) != sender, 30)
    free = time.monotonic()
    other.until_streaming()
    took = time.monotonic() - free
    assert took <= TAKE_OVER_MAX_SECONDS, "it took over after %.1f s" % took
    agent.send(signal.SIGCONT)
    world.until("the thawed one knows", lambda: agent.status().get("phase") == "standby", 30)
    world.say("taken over after %.1f s", took)
    return other


def frozen_replica_late(world):
    """What the frozen one had in the network lands behind the other's records: noticed, told, and put right."""
    scenarios.late_bytes(world, 7, other_replica)


# -- figures held against somebody else's


# What a figure may be off: a tenth of what was measured outside, or this.
SECONDS_OFF_MAX, BYTES_OFF_MAX = 0.1, 1 << 20
SCRAPE_SECONDS = 0.5
# The slot's row is read once a second, at the next turn of the loop, and a scrape is half a second from its neighbours.
SLOT_READ_SECONDS = 2.5
# 8 KiB of text that does not compress, so that bytes of the log tell.
WIDE = """insert into wide (v) values ((select string_agg(md5(random()::text), '') from generate_series(1, 256)));
"""


class Arrivals(threading.Thread):
    """A consumer of one topic: when each row of it arrived, by its own clock."""

    def __init__(self, brokers, topic, partitions):
        super().__init__(daemon=True)
        self.done, self.at = threading.Event(), {}
        self.source = decode.consumer(brokers)
        self.source.assign([TopicPartition(topic, p, OFFSET_BEGINNING) for p in range(partitions)])

    def run(self):
        while not self.done.is_set():
            message = self.source.poll(0.05)
            if message is not None and message.error() is None and message.value() is not None:
                self.at.setdefault(json.loads(message.value())["after"]["id"], time.time())
        self.source.close()

    def stop(self):
        self.done.set()
        self.join(timeout=30)


class Scraper(threading.Thread):
    """Reads `/metrics` and the server's own positions side by side."""

    def __init__(self, pg, slot, agent):
        super().__init__(daemon=True)
        self.pg, self.slot, self.agent = pg, slot, agent
        self.done, self.seen = threading.Event(), []

    def server(self, sql):
        row = sql.execute("select pg_current_wal_lsn() - '0/0', confirmed_flush_lsn - '0/0', restart_lsn - '0/0' "
                          "from pg_replication_slots where slot_name = %s", (self.slot,)).fetchone()
        return [int(number) for number in row]

    def run(self):
        with self.pg.connect() as sql:
            while not self.done.wait(SCRAPE_SECONDS):
                before = self.server(sql)
                since = time.time()
                metrics = self.agent.metrics()
                until = time.time()
                if metrics:
                    self.seen.append((since, until, before, self.server(sql), metrics))

    def stop(self):
        self.done.set()
        self.join(timeout=30)


def off(told, low, high):
    """By how much a figure lies outside what was measured before and after it."""
    return max(low - told, told - high, 0.0)


def age_of_oldest(commits, arrived, moment, sure):
    """Seconds since the oldest commit that had not arrived at a moment; `sure` is how long ago an arrival counts at least."""
    open_since = [at for row, at in commits.items() if at <= moment and arrived[row] > moment - sure]
    return moment - min(open_since) if open_since else 0.0


def lag_by_other_clocks(world):
    """Lag, stages and positions against a consumer's clock and the server's own: under load, in an outage, caught up."""
    pg = world.postgres(settings={"track_commit_timestamp": "on", "wal_sender_timeout": "6s"})
    pg.psql("create table wide (id bigint generated always as identity primary key, v text)", database="shop")
    script = os.path.join(pg.dir, "wide.sql")
    with open(script, "w", encoding="utf-8") as f:
        f.write(WIDE)
    agent = world.agent(pg, ["public.wide"], events={"format": "json"}, limits={"memory": "64MiB"})
    agent.start()
    pg.psql("insert into wide (v) values ('first')", database="shop")
    world.until_delivered(pg, agent)
    idle = agent.memory_kib()
    lorises = [half_asked(agent.port) for _ in range(400)]
    arrivals = Arrivals(world.kafka.brokers, world.prefix + ".public.wide", 3)
    arrivals.start()
    # `until_delivered` switches to a new segment of the log, a jump of megabytes in no time, which the agent learns a little later.
    end = lsn(pg.psql("select pg_current_wal_lsn()"))
    world.until("the server's end is known", lambda: agent.metrics().get("wellspring_server_lsn_bytes", 0) >= end, 30)
    scraper = Scraper(pg, world.slot, agent)
    scraper.start()
    before = agent.metrics()
    load = world.pgbench(pg, "-c", "2", "-R", "60", "-T", "600", "-n", "-f", script, background=True)
    observer.pause(world.length(8, 60))
    after = agent.metrics()
    steady = time.time()
    # An outage: the broker is there and does not answer.
    world.kafka.send(signal.SIGSTOP)
    frozen = time.time()
    try:
        observer.pause(world.length(7, 60))
        alive, _ = servers.http(agent.admin + "/livez")
        assert alive == 200, "an outage of Kafka made /livez %s" % alive
    finally:
        world.kafka.send(signal.SIGCONT)
    thawed = time.time()
    observer.pause(world.length(4, 20))
    load.terminate()
    load.wait()
    quiet = time.time()
    world.until_delivered(pg, agent)
    world.until("lag is 0", lambda: agent.metrics().get("wellspring_lag_seconds") == 0.0, 30)
    world.until_confirmed(pg, 60)
    observer.pause(3)
    last = agent.metrics()
    scraper.stop()
    with pg.connect("shop") as sql:
        rows = sql.execute("select id, extract(epoch from pg_xact_commit_timestamp(xmin))::float8 from wide").fetchall()
    commits = dict(rows)
    world.until("the consumer has every row", lambda: set(arrivals.at) >= set(commits), 30)
    arrivals.stop()
    peak = agent.memory_kib("VmHWM")
    for loris in lorises:
        loris.close()
    assert agent.stop() == 0
    commits = {row: at for row, at in commits.items() if at >= scraper.seen[0][0] - 1}
    assert last["wellspring_undelivered_bytes"] == 0 and last["wellspring_lag_seconds"] == 0, "not 0 after catching up"

    worst = {}

    def hold(name, told, low, high, floor, when):
        wrong = off(told, low, high)
        allowed = max(floor, 0.1 * high)
        assert wrong <= allowed, "%s %s: told %.3f, outside %.3f to %.3f" % (name, when, told, low, high)
        worst[name] = max(worst.get(name, 0.0), wrong)

    highest = 0.0
    # What ends the load switches to a new segment of the log, a jump of megabytes in no time: after it the end counts.
    for since, until, low, high, metrics in [s for s in scraper.seen if s[1] <= quiet] + scraper.seen[-1:]:
        when = "frozen" if frozen <= since <= thawed else "thawed" if since > thawed else "load"
        told = metrics["wellspring_lag_seconds"]
        # An arrival is seen a little after the acknowledgement, so the lag lies between the two readings.
        ages = [age_of_oldest(commits, arrivals.at, at, sure) for at in (since, until) for sure in (0.0, 0.1)]
        ages += [age_of_oldest(commits, arrivals.at, since, -0.1)]
        hold("lag", told, min(ages), max(ages), SECONDS_OFF_MAX, when)
        highest = max(highest, told)
        server = metrics["wellspring_server_lsn_bytes"]
        hold("server's end", server, low[0], high[0], BYTES_OFF_MAX, when)
        hold("confirmed", metrics["wellspring_confirmed_lsn_bytes"], low[1], high[1], BYTES_OFF_MAX, when)
        hold("not confirmed", server - metrics["wellspring_confirmed_lsn_bytes"], low[0] - high[1], high[0] - low[1],
             BYTES_OFF_MAX, when)
        # It falls in steps, and is as last read: what the server said since then bounds it.
        recent = [s for s in scraper.seen if until - SLOT_READ_SECONDS <= s[1] <= until]
        kept = [at[0] - at[2] for s in recent for at in s[2:4]]
        hold("kept for the slot", metrics["wellspring_slot_retained_bytes"], min(kept), max(kept), BYTES_OFF_MAX, when)
    assert highest >= 0.8 * (thawed - frozen), "lag did not grow in the outage: %.1f s" % highest

    def mean(name, labels=""):
        count = after[name + "_count" + labels] - before[name + "_count" + labels]
        assert count > 0, "nothing measured for %s%s" % (name, labels)
        return (after[name + "_sum" + labels] - before[name + "_sum" + labels]) / count

    outside = [arrivals.at[row] - at for row, at in commits.items() if at < steady]
    outside = sum(outside) / len(outside)
    inside = mean("wellspring_commit_to_ack_seconds")
    hold("commit to acknowledged", inside, outside, outside, SECONDS_OFF_MAX, "load")
    stages = sum(mean("wellspring_stage_seconds", '{stage="%s"}' % stage) for stage in ("source", "decode", "encode", "broker"))
    hold("sum of stages", stages, outside, outside, SECONDS_OFF_MAX, "load")
    budget = last["wellspring_budget_limit_bytes"] // 1024
    assert peak <= idle + budget + scenarios.OVERHEAD_MAX_KIB, "idle %d KiB, peak %d KiB" % (idle, peak)
    world.say("%d scrapes of %d rows beside 400 idle connections; commit to acknowledged %.1f ms, by the consumer %.1f, by stages %.1f;"
              " highest lag %.1f s of %.1f; off at most: %s", len(scraper.seen), len(commits), inside * 1000, outside * 1000,
              stages * 1000, highest, thawed - frozen,
              ", ".join("%s %s" % (name, "%.0f ms" % (wrong * 1000) if floor_is_time(name) else "%.0f KiB" % (wrong / 1024))
                        for name, wrong in worst.items()))


def floor_is_time(name):
    return name in ("lag", "commit to acknowledged", "sum of stages")


def half_asked(port):
    """A connection whose request never ends."""
    loris = socket.create_connection((servers.HOST, port))
    loris.sendall(b"GET /status HTTP/1.1\r\nhost: x\r\nslow: ")
    return loris


SCENARIOS = [two_replicas, frozen_replica_late, lag_by_other_clocks]
