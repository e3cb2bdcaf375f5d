"""Ten thousand captured tables: the start, the looks of the watch, the checkpoint and the restart, with times and memory."""
import os
import re
import statistics
import time

import decode

COLUMNS = ", ".join("c%d text" % number for number in range(1, 15))
# One block of statements holds this many tables, because each takes a lock until the commit.
BLOCK = 250
WRITTEN = 20


def create(pg, tables):
    for first in range(0, tables, BLOCK):
        pg.psql("".join("create table t%05d (id int primary key, %s);" % (number, COLUMNS)
                        for number in range(first, min(first + BLOCK, tables))), database="shop")
    pg.psql("analyze", database="shop")


def write(pg, tables, value):
    """One row into `WRITTEN` tables that lie evenly between all."""
    for number in range(0, tables, tables // WRITTEN):
        pg.psql("insert into t%05d (id, c1) values (%s, 'x') " % (number, value), database="shop")


def looks(pg, since):
    """Milliseconds that the server spent on each look, from the size `since` of its log on."""
    with open(pg.log, encoding="utf-8", errors="replace") as log:
        log.seek(since)
        return [float(ms) for ms in re.findall(r"duration: ([0-9.]+) ms", log.read())]


def largest_state(world):
    """Bytes of the largest record of the state topic."""
    source = decode.consumer(world.kafka.brokers)
    try:
        until = decode.ends(source, [world.prefix + ".wellspring-state"])
    finally:
        source.close()
    return max(len(m.value() or b"") for m in decode.read_all(world.kafka.brokers, world.prefix, until=until))


def many_tables(world):
    """1,000 tables (10,000 at full length): started, looked at, recorded and started again; rows arrive, nothing halts."""
    tables = world.length(1000, 10000)
    pg = world.postgres(18, settings={"max_locks_per_transaction": "256", "log_min_duration_statement": "5ms"})
    create(pg, tables)
    agent = world.agent(pg, ["public.*"], topics={"partitions": 1})
    began = time.monotonic()
    agent.start(seconds=300)
    world.say("%d tables: streaming after %.1f s", tables, time.monotonic() - began)
    began = time.monotonic()
    write(pg, tables, 1)
    world.until_delivered(pg, agent, 300)
    world.say("first rows of %d tables after %.1f s", WRITTEN, time.monotonic() - began)
    cpu, at, since = agent.cpu_seconds(), time.monotonic(), os.path.getsize(pg.log)
    time.sleep(world.length(20, 60))
    took = looks(pg, since)
    assert took, "the server's log shows no look"
    world.say("a look takes the server %.0f ms (%d in %d s)", statistics.median(took), len(took), world.length(20, 60))
    world.say("idle %.2f %% of a core", 100 * (agent.cpu_seconds() - cpu) / (time.monotonic() - at))
    world.say("memory %d MiB, %d at most", agent.memory_kib() // 1024, agent.memory_kib("VmHWM") // 1024)
    world.say("largest state record %d bytes", largest_state(world))
    assert agent.stop() == 0, "a clean stop ends with 0"
    began = time.monotonic()
    agent.start(seconds=300)
    world.say("streaming again after %.1f s", time.monotonic() - began)
    write(pg, tables, 2)
    world.until_delivered(pg, agent, 300)
    status = agent.status()
    assert status["phase"] == "streaming" and not status["needs_a_person"], status
    world.until_confirmed(pg)
    world.judge(pg, {"public.t%05d" % number: (0,) for number in range(0, tables, tables // WRITTEN)})


SCENARIOS = [many_tables]
