"""What the program must show between real servers. Each function is one scenario: a story with facts at its end.

`world.length(short, full)` scales loads and repetitions, never what is asked of the program. Deadlines are upper bounds of a
healthy run on two busy cores, except where a scenario is about time and says so.
"""
import random
import signal
import time

import observer
import servers
from agent import lsn
from proxy import Proxy
from rebuild import duplicates
from world import TPCB, copy_tree, process_state

# What may come on top of the byte budget between an idle start and the worst moment: plans, stacks, fragments. The size of
# the code depends on the build profile, so growth is judged here and the whole by `make bench`.
OVERHEAD_MAX_KIB = 12 * 1024
# A fast shutdown of Postgres is not held up: the bound.
FAST_SHUTDOWN_MAX_SECONDS = 5.0
STATUS_INTERVAL_MAX_SECONDS = 10.0


def tpcb(world, major):
    """TPC-B, from empty tables through the bulk load to concurrent updates."""
    pg = world.postgres(major)
    world.tpcb_tables(pg)
    agent = world.agent(pg, TPCB).start()
    world.pgbench(pg, "-i", "-I", "g", "-q")
    world.pgbench(pg, "-c", "4", "-T", str(world.length(15, 60)), "-n")
    world.until_delivered(pg, agent)
    peak = agent.memory_kib("VmHWM")
    assert agent.stop() == 0, "a clean stop ends with 0"
    events = world.judge(pg, TPCB)
    world.say("peak %d MiB", peak // 1024)
    again = sum(duplicates(found) for found in events.values())
    assert again == 0, "%d duplicates without any crash" % again


def tpcb_15(world):
    tpcb(world, 15)


def tpcb_18(world):
    tpcb(world, 18)


def kill_agent(world):
    """kill -9 of the program, again and again under load: equal, in order, and never confirmed too early."""
    kills = world.length(5, 20)
    # Status updates every second or so and a short quarantine, so that positions are confirmed between kills and the
    # observer has something to see.
    pg = world.postgres(settings={"wal_sender_timeout": "4s"})
    world.tpcb_tables(pg)
    agent = world.agent(pg, TPCB, limits={"quarantine": "1s"})
    agent.start()
    world.pgbench(pg, "-i", "-I", "g", "-q")
    watch = observer.Observer(pg, world.slot, world.kafka.brokers, world.prefix)
    watch.start()
    load = world.pgbench(pg, "-c", "4", "-T", "900", "-n", background=True)
    luck = random.Random(20)
    for number in range(kills):
        if number % 2:
            observer.pause(luck.uniform(0.2, 3.0))
        else:
            before = world.confirmed(pg)
            world.until("the slot moves on", lambda: world.confirmed(pg) > before, 60)
            observer.pause(luck.uniform(0.0, 0.5))
        agent.kill()
        agent.start()
    load.terminate()
    load.wait()
    world.until_delivered(pg, agent)
    # After an unclean stop `confirmed` is held for the quarantine; then it follows.
    world.until_confirmed(pg, 120)
    watch.stop()
    assert agent.stop() == 0
    events = world.judge(pg, TPCB)
    unsafe = watch.unsafe(events)
    assert not unsafe, "\n".join(unsafe)
    assert watch.looks > 3, "the observer saw only %d positions" % watch.looks
    world.say("%d kills, %d positions observed", kills, watch.looks)


def kill_broker(world):
    """kill -9 of the broker under load."""
    pg = world.postgres()
    world.tpcb_tables(pg)
    agent = world.agent(pg, TPCB).start()
    world.pgbench(pg, "-i", "-I", "g", "-q")
    watch = observer.Observer(pg, world.slot, world.kafka.brokers, world.prefix)
    watch.start()
    load = world.pgbench(pg, "-c", "4", "-T", "600", "-n", background=True)
    for _ in range(world.length(2, 5)):
        observer.pause(2)
        world.kafka.kill()
        observer.pause(1)
        world.kafka.start()
        world.until_delivered(pg, agent)
    load.terminate()
    load.wait()
    world.until_delivered(pg, agent)
    watch.stop()
    assert agent.stop() == 0
    events = world.judge(pg, TPCB)
    unsafe = watch.unsafe(events)
    assert not unsafe, "\n".join(unsafe)
    world.say("%d positions observed", watch.looks)


def kafka_away(world):
    """Kafka stopped for longer than wal_sender_timeout: no reconnect, memory bounded, catches up."""
    without_kafka(world, planning=False)


def kafka_away_before_a_table(world):
    """The same, while the first change of a table waits for its topic: nothing is read, and the server hears of us."""
    without_kafka(world, planning=True)


def without_kafka(world, planning):
    pg = world.postgres(settings={"wal_sender_timeout": "10s"})
    world.tpcb_tables(pg)
    pg.psql("create table late (id int primary key)", database="shop")
    tables = {**TPCB, "public.late": (0,)}
    agent = world.agent(pg, tables).start()
    idle = agent.memory_kib()
    world.pgbench(pg, "-i", "-I", "g", "-q")
    world.until_delivered(pg, agent)
    sender = world.walsender(pg)
    budget = agent.status()["budget_bytes"] // 1024
    world.kafka.stop()
    try:
        if planning:
            pg.psql("insert into late values (1)", database="shop")
        world.pgbench(pg, "-c", "4", "-T", str(world.length(20, 60)), "-n")
    finally:
        world.kafka.start()
    assert world.walsender(pg) == sender, "the connection to Postgres did not last"
    assert agent.status()["reconnects"] == 0
    world.until_delivered(pg, agent)
    peak = agent.memory_kib("VmHWM")
    assert peak <= idle + budget + OVERHEAD_MAX_KIB, "idle %d KiB, peak %d KiB, budget %d KiB" % (idle, peak, budget)
    assert agent.stop() == 0
    world.judge(pg, tables)
    world.say("idle %d MiB, peak %d MiB", idle // 1024, peak // 1024)


def fast_shutdown(world):
    """`pg_ctl stop -m fast` is not held up: idle, under load, with Kafka down and the budget full."""
    pg = world.postgres()
    world.tpcb_tables(pg)
    agent = world.agent(pg, TPCB, limits={"memory": "8MiB"}).start()
    world.pgbench(pg, "-i", "-I", "g", "-q")
    world.until_delivered(pg, agent)

    def shutdown(case):
        began = time.monotonic()
        pg.stop(signal.SIGINT)
        took = time.monotonic() - began
        pg.start()
        world.say("%s %.1f s", case, took)
        assert took <= FAST_SHUTDOWN_MAX_SECONDS, "%s: %.1f s" % (case, took)

    def resumed():
        world.until("the slot is held again", lambda: world.walsender(pg), 30)

    shutdown("idle")
    resumed()
    load = world.pgbench(pg, "-c", "4", "-T", "60", "-n", background=True)
    observer.pause(3)
    shutdown("load")
    load.wait()
    resumed()
    world.until_delivered(pg, agent)
    world.kafka.kill()
    try:
        pg.psql("update pgbench_accounts set abalance = abalance + 1", database="shop")
        full = 0.8 * agent.status()["budget_bytes"]
        world.until("the budget is full", lambda: agent.status()["in_flight_bytes"] >= full, 60)
        shutdown("budget full")
    finally:
        world.kafka.start()
    resumed()
    world.until_delivered(pg, agent)
    assert agent.stop() == 0
    world.judge(pg, TPCB)


def postgres_leaves(world):
    """Walsender killed, walsender frozen, Postgres restarted: resumes without a fixed wait."""
    pg = world.postgres()
    pg.psql("create table t (id int primary key, v text)", database="shop")
    agent = world.agent(pg, ["public.t"]).start()
    count = [0]

    def write():
        count[0] += 1
        pg.psql("insert into t values (%d, 'v')" % count[0], database="shop")

    write()
    world.until_delivered(pg, agent)
    before = world.walsender(pg)
    pg.psql("select pg_terminate_backend(%d)" % before)
    began = time.monotonic()
    world.until("another walsender", lambda: world.walsender(pg) not in (0, before), 9)
    world.say("killed: back after %.1f s", time.monotonic() - began)
    write()
    world.until_delivered(pg, agent)

    frozen = world.walsender(pg)
    servers.os.kill(frozen, signal.SIGSTOP)
    try:
        write()
        observer.pause(world.length(15, 75))
    finally:
        if process_state(frozen) == "T":
            servers.os.kill(frozen, signal.SIGCONT)
    began = time.monotonic()
    world.until_delivered(pg, agent, 30)
    world.say("frozen: caught up %.1f s after it thawed", time.monotonic() - began)

    pg.stop()
    pg.start()
    began = time.monotonic()
    world.until("a walsender after the restart", lambda: world.walsender(pg), 9)
    world.say("restart: back after %.1f s", time.monotonic() - began)
    write()
    world.until_delivered(pg, agent)
    assert agent.stop() == 0
    world.judge(pg, {"public.t": (0,)})


def clean_restart(world):
    """Stopped and started again with nothing in doubt: no duplicate at all."""
    pg = world.postgres()
    pg.psql("create table t (id int primary key, v text)", database="shop")
    agent = world.agent(pg, ["public.t"])
    for number in range(1, 4):
        agent.start()
        pg.psql("insert into t select i, 'x' from generate_series(%d, %d) i" % (number * 1000, number * 1000 + 499),
                database="shop")
        world.until_delivered(pg, agent)
        assert agent.stop() == 0
    events = world.judge(pg, {"public.t": (0,)})
    records = len(events["%s.public.t" % world.prefix])
    assert records == 1500, "%d records of 1500 rows after clean restarts" % records


# -- continuity: what may happen while the program is stopped


def halted(world, pg, agent, reasons, ranged=True):
    """Starts the agent, which must halt for one of `reasons`, touch nothing, and go on by consent with a new epoch."""

    def facts(cluster):
        return cluster.psql("select slot_name, restart_lsn, confirmed_flush_lsn from pg_replication_slots order by 1;"
                            " select oid, pubname from pg_publication order by 1", database="shop")

    def ends():
        import decode

        source = decode.consumer(world.kafka.brokers)
        try:
            names = [t for t in decode.topics(source, world.prefix + ".") if not t.endswith(".wellspring-state")]
            return decode.ends(source, names)
        finally:
            source.close()

    before = facts(pg), ends()
    agent.start(streaming=False)
    status = agent.until_halted(60)
    assert status["reason"] in reasons, "halted for %s (%s), expected one of %s" % (
        status["reason"], status["detail"], reasons)
    assert status["next"], "no next step"
    assert status["range"] or not ranged, "no range: %s" % status
    assert not pg.psql("select 1 from pg_replication_slots where active"), "a halt lets go of the slot"
    observer.pause(2)  # long enough for a thing that should not happen
    assert (facts(pg), ends()) == before, "it touched something: %s -> %s" % (before, (facts(pg), ends()))
    epoch = status["epoch"]
    agent.stop()
    code, text = agent.command("slot", "accept")
    assert code == 0, "slot accept ended with %d: %s" % (code, text)
    agent.start()
    now = agent.status()["epoch"]
    assert now > epoch, "epoch %s after %s" % (now, epoch)
    pg.psql("insert into t values (999, 'after consent')", database="shop")
    world.until_delivered(pg, agent)
    assert agent.stop() == 0
    world.say("%s", status["reason"])


def stopped_agent(world, settings=None):
    """A pipeline that has delivered something and was stopped cleanly."""
    pg = world.postgres(settings=settings)
    pg.psql("create table t (id int primary key, v text)", database="shop")
    agent = world.agent(pg, ["public.t"]).start()
    pg.psql("insert into t select i, 'x' from generate_series(1, 100) i", database="shop")
    world.until_delivered(pg, agent)
    assert agent.stop() == 0
    return pg, agent


def missed(pg):
    """A change that only the log has."""
    pg.psql("insert into t select i, 'missed' from generate_series(101, 110) i", database="shop")


def slot_advanced(world):
    pg, agent = stopped_agent(world)
    missed(pg)
    pg.psql("select pg_replication_slot_advance('%s', pg_current_wal_lsn())" % world.slot, database="shop")
    halted(world, pg, agent, ["slot_ahead"])


def slot_advanced_under_a_long_transaction(world):
    """The same while an open write transaction keeps restart_lsn where it was."""
    pg, agent = stopped_agent(world)
    with pg.connect("shop") as sql:
        sql.execute("begin")
        sql.execute("insert into t values (500, 'long')")
        missed(pg)
        pg.psql("select pg_replication_slot_advance('%s', pg_current_wal_lsn())" % world.slot, database="shop")
        sql.execute("commit")
    halted(world, pg, agent, ["slot_ahead"])


def slot_dropped(world):
    pg, agent = stopped_agent(world)
    missed(pg)
    pg.psql("select pg_drop_replication_slot('%s')" % world.slot)
    halted(world, pg, agent, ["slot_missing"])


def slot_recreated(world):
    pg, agent = stopped_agent(world)
    missed(pg)
    pg.psql("select pg_drop_replication_slot('%s')" % world.slot)
    pg.psql("select pg_create_logical_replication_slot('%s', 'pgoutput')" % world.slot, database="shop")
    halted(world, pg, agent, ["slot_ahead"])


def other_cluster(world):
    _, agent = stopped_agent(world)
    other = world.postgres(name="-other")
    other.psql("create table t (id int primary key, v text)", database="shop")
    other.psql("create publication %s for table t" % world.slot, database="shop")
    other.psql("select pg_create_logical_replication_slot('%s', 'pgoutput')" % world.slot, database="shop")
    agent.configure(postgres={"url": other.url("shop")})
    halted(world, other, agent, ["other_cluster"], ranged=False)


def storage_restored(world):
    """The server comes back from an older copy of its storage."""
    pg, agent = stopped_agent(world)
    pg.stop()
    copy_tree(pg.data, pg.data + ".copy")
    pg.start()
    agent.start()
    missed(pg)
    world.until_delivered(pg, agent)
    world.until_confirmed(pg)
    assert agent.stop() == 0
    pg.stop()
    servers.shutil.rmtree(pg.data)
    servers.os.rename(pg.data + ".copy", pg.data)
    pg.start()
    halted(world, pg, agent, ["server_went_back", "history_differs"])


def table_republished(world):
    """A table leaves the publication for a while: what it missed is in no log that we get."""
    pg, agent = stopped_agent(world)
    pg.psql("alter publication %s drop table t" % world.slot, database="shop")
    missed(pg)
    pg.psql("alter publication %s add table t" % world.slot, database="shop")
    halted(world, pg, agent, ["table_republished"])


# -- order across producers


def old_bytes(world):
    """The last bytes of a killed producer arrive after its successor's: the last record of a key is still its last version."""
    late_bytes(world, 8)


def old_bytes_last(world):
    """The same with nothing written afterwards: no later record of ours shows the gap."""
    late_bytes(world, 7)


def restarted(_, __, agent):
    """Who goes on after a crash: the same program, started again."""
    agent.kill()
    return agent.start()


def late_bytes(world, last, successor=restarted):
    """Bytes of a producer that is gone land behind those of `successor(world, pg, agent)`: noticed, told and put right."""
    proxied = servers.free_port()
    kafka = servers.Kafka(world.name + "-kafka", proxied=proxied)
    kafka.wipe()
    kafka.start()
    world.ends(kafka)
    proxy = Proxy(proxied, kafka.inner)
    shared, world.kafka = world.kafka, kafka
    quarantine = world.length(10, 60)
    try:
        pg = world.postgres()
        pg.psql("create table t (id int primary key, v int)", database="shop")
        # The topic has to hold still while records wait: one partition, so that order is all there is.
        agent = world.agent(pg, ["public.t"], brokers="127.0.0.1:%d" % proxied, topics={"partitions": 1},
                            limits={"quarantine": "%ds" % quarantine})
        agent.start()
        pg.psql("insert into t select i, 0 from generate_series(1, 3) i", database="shop")

        def versions(first, last):
            for v in range(first, last + 1):
                pg.psql("update t set v = %d" % v, database="shop")

        versions(1, 3)
        world.until_delivered(pg, agent)
        world.until_confirmed(pg)  # the mark's own topic is planned too, and needs no connection that is held
        links = proxy.hold()
        versions(4, 5)
        world.until("bytes are held", lambda: proxy.held_bytes(links) > 500, 20)
        observer.pause(1)
        agent = successor(world, pg, agent)
        versions(6, 7)
        world.until("the new producer's records are there", lambda: agent.status()["in_flight_records"] == 0, 30)
        def story():
            found = world.events()["%s.public.t" % world.prefix]
            return [e.value["after"]["v"] for e in found if e.key == (1,)]

        before = story()
        released = proxy.release(links)
        world.until("%d old bytes have landed behind %s" % (released, before), lambda: len(story()) > len(before), 20)
        versions(8, last)
        world.until("foreign records are noticed in %s" % story(),
                    lambda: sum(agent.status()["foreign_writes"].values()) > 0, quarantine + 30)
        world.until_delivered(pg, agent, 120)
        world.until_confirmed(pg, 3 * quarantine + 60)
        assert agent.stop() == 0
        world.judge(pg, {"public.t": (0,)}, order=False)
        told = story()
        assert told.count(4) > 1 and told[-1] == last, told
        world.say("%d bytes released late; versions of a key: %s", released, told)
    finally:
        proxy.close()
        world.kafka = shared


def idle_tables(world):
    """Only another database writes: the slot follows within two status intervals all the same."""
    timeout = 9
    interval = min(STATUS_INTERVAL_MAX_SECONDS, timeout / 3)
    pg = world.postgres(settings={"wal_sender_timeout": "%ds" % timeout})
    pg.psql("create table t (id int primary key, v text)", database="shop")
    pg.psql("create database other")
    pg.psql("create table noise (id int primary key, v text)", database="other")
    agent = world.agent(pg, ["public.t"]).start()
    pg.psql("insert into t values (1, 'x')", database="shop")
    world.until_delivered(pg, agent)
    seen, worst, number = [], 0, 0
    began = time.monotonic()
    while time.monotonic() - began < world.length(20, 60):
        number += 1
        pg.psql("insert into noise select i, repeat('n', 500) from generate_series(%d, %d) i" % (
            number * 1000, number * 1000 + 200), database="other")
        seen.append((time.monotonic(), lsn(pg.psql("select pg_current_wal_lsn()"))))
        observer.pause(0.5)
        confirmed, now = world.confirmed(pg), time.monotonic()
        behind = [at for at, position in seen if position > confirmed]
        worst = max(worst, now - min(behind) if behind else 0)
    assert worst <= 2 * interval + 1, "the slot was %.1f s behind, the interval is %.1f s" % (worst, interval)
    assert agent.stop() == 0
    world.say("at most %.1f s behind, interval %.1f s", worst, interval)


SCENARIOS = [
    tpcb_15, tpcb_18, clean_restart, kill_agent, kill_broker, kafka_away, kafka_away_before_a_table,
    fast_shutdown, postgres_leaves, slot_advanced,
    slot_advanced_under_a_long_transaction, slot_dropped, slot_recreated, other_cluster, storage_restored,
    table_republished, old_bytes, old_bytes_last, idle_tables,
]
