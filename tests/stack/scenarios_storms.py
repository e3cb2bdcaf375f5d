"""Kills without end: both servers at once, and the program itself. Tables equal topics, and the order is kept.

Each scenario draws its moments from a fixed seed.
"""
import random
import time

import disturb
import observer
from rebuild import repeats
from scenarios_operations import STOCK, stock

RECOVERY_MAX_SECONDS = 90


class Restarted:
    """pgbench, which ends with the server; `go_on` starts it again."""

    def __init__(self, world, pg, script):
        self.world, self.pg, self.script = world, pg, script
        self.child = None

    def go_on(self):
        if self.child is None or self.child.poll() is not None:
            options = ["-c", "4", "-R", "400", "-T", "900", "-n", "-f", self.script]
            self.child = self.world.pgbench(self.pg, *options, background=True)

    def kill(self):
        if self.child is not None and self.child.poll() is None:
            self.child.terminate()
            self.child.wait()


def storm(world):
    """Kafka and Postgres die together at random moments under load: the same process recovers each time."""
    rounds, luck = world.length(4, 30), random.Random(11)
    pg = world.postgres()
    script = stock(world, pg)
    # A short confirm hold, so that positions are confirmed between the rounds and the observer has something to see.
    agent = world.agent(pg, STOCK, limits={"quarantine": "1s"}).start()
    pg.psql("update stock set v = 1", database="shop")
    pid, slowest = agent.pid, 0.0
    load = world.ends(Restarted(world, pg, script))
    watch = observer.Observer(pg, world.slot, world.kafka.brokers, world.prefix)
    watch.start()
    for number in range(rounds):
        load.go_on()
        observer.pause(luck.uniform(0.2, 4.0))
        both_die(world, pg, luck)
        slowest = max(slowest, recovered(world, pg, agent))
        assert agent.alive() and agent.pid == pid, "round %d: the program ended" % number
    load.kill()
    world.until_delivered(pg, agent, 180)
    world.until_confirmed(pg, 60)
    watch.stop()
    assert agent.stop() == 0, "a clean stop ends with 0"
    events = world.judge(pg, STOCK)
    unsafe = watch.unsafe(events)
    assert not unsafe, "\n".join(unsafe)
    assert watch.looks > rounds // 2, "the observer saw only %d positions" % watch.looks
    repeated = sum(sum(repeats(found).values()) for found in events.values())
    world.say("%d rounds, streaming again after %.1f s at most, %d positions observed, %d records repeated", rounds,
              slowest, watch.looks, repeated)


def both_die(world, pg, luck):
    """kill -9 of both, one shortly after the other; they come back in any order."""
    kills = [world.kafka.kill, lambda: disturb.crash(pg)]
    starts = [world.kafka.start, pg.start]
    for steps in (kills, starts):
        luck.shuffle(steps)
        steps[0]()
        observer.pause(luck.uniform(0.0, 1.0))
        steps[1]()


def recovered(world, pg, agent):
    """Seconds until the program streams again, with both servers up."""
    began = time.monotonic()

    def streams():
        assert agent.alive(), "the program ended"
        return agent.phase() == "streaming" and world.walsender(pg) != 0

    world.until("it streams again", streams, RECOVERY_MAX_SECONDS)
    return time.monotonic() - began


# -- the program itself

CHANGES_PER_SECOND, BATCH = 2000, 20
# Progress is recorded every second, so a kill repeats a second of stream, and half a second for writing the record.
REPEATED_SECONDS_MAX = 1.5
KEYS = 5000


def killed_often(world):
    """kill -9 every few seconds at 2,000 changes a second, with the default confirm hold: a kill repeats at most 1.5 s."""
    kills, luck = world.length(8, 60), random.Random(60)
    pg = world.postgres()
    pg.psql("create table ticks (id int primary key, n bigint not null);"
            "insert into ticks select i, 0 from generate_series(0, %d) i" % (KEYS - 1), database="shop")
    agent = world.agent(pg, ["public.ticks"]).start()
    sql, keys = pg.connect("shop"), random.Random(7)
    sql.execute("update ticks set n = 1")

    def write(_):
        sql.execute("update ticks set n = n + 1 where id = any(%s)", (keys.sample(range(KEYS), BATCH),))

    load = world.ends(disturb.Paced(CHANGES_PER_SECOND / BATCH, write))
    for _ in range(kills):
        observer.pause(luck.uniform(2.0, 9.0))
        agent.kill()
        agent.start(streaming=False)
    observer.pause(2)
    rate = load.stop() * BATCH
    changes = load.count * BATCH
    world.until_delivered(pg, agent, 180)
    agent.stop(seconds=60)
    events = world.judge(pg, {"public.ticks": (0,)})
    [found] = [events["%s.public.ticks" % world.prefix]]
    by_run = sorted(repeats(found).values(), reverse=True)
    world.say("%d kills, %.0f changes a second, %d changes, %d records, %d repeated; by run: %s", kills, rate, changes,
              len(found), sum(by_run), " ".join(str(count) for count in by_run))
    assert rate >= 0.8 * CHANGES_PER_SECOND, "the writer made %.0f changes a second only" % rate
    most = int(REPEATED_SECONDS_MAX * CHANGES_PER_SECOND)
    assert sum(by_run) <= kills * most, "%d records repeated by %d kills, at most %d each" % (sum(by_run), kills, most)
    assert by_run[0] <= most, "a kill repeated %d records, at most %d: %s" % (by_run[0], most, by_run)


SCENARIOS = [storm, killed_often]
