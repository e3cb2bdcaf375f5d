"""What an operator relies on: a second replica that takes over, and figures that are true by somebody else's clock."""
import os
import random
import signal
import time

import observer
import scenarios
import servers

# From the moment the slot is free to the other replica's first turn with it: the bound.
TAKE_OVER_MAX_SECONDS = 15.0


# -- two replicas, one active


class Pair:
    """Two replicas of one pipeline: the same prefix, slot and tables, each with an admin port of its own."""

    def __init__(self, world, pg, tables, **over):
        self.world, self.pg = world, pg
        self.both = [world.agent(pg, tables, name=name, **over) for name in ("one", "two")]
        for agent in self.both:
            agent.start(streaming=False)
        self.settled()

    def settled(self):
        """One streams, the other waits and says for what."""

        def so():
            for agent in self.both:
                assert agent.alive(), "%s ended:\n%s" % (agent.name, servers.tail(agent.log))
            found = {(s.get("phase"), s.get("reason")) for s in (agent.status() for agent in self.both)}
            return found == {("retrying", "slot_in_use"), ("streaming", "")}

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
        for agent in self.both:
            assert agent.stop() == 0, "%s: a clean stop ends with 0" % agent.name


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
    world.until("it waits for the slot", lambda: other.status().get("reason") == "slot_in_use", 30)
    sender = world.walsender(pg)
    agent.send(signal.SIGSTOP)
    pg.psql("select pg_terminate_backend(%d)" % sender)
    world.until("the slot is free", lambda: world.walsender(pg) != sender, 30)
    free = time.monotonic()
    other.until_streaming()
    took = time.monotonic() - free
    assert took <= TAKE_OVER_MAX_SECONDS, "it took over after %.1f s" % took
    agent.send(signal.SIGCONT)
    world.until("the thawed one knows", lambda: agent.status().get("reason") == "slot_in_use", 30)
    world.say("taken over after %.1f s", took)
    return other


def frozen_replica_late(world):
    """What the frozen one had in the network lands behind the other's records: noticed, told, and put right."""
    scenarios.late_bytes(world, 7, other_replica)


SCENARIOS = [two_replicas, frozen_replica_late]
