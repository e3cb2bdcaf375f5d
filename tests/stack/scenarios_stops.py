"""A stop says the truth: its exit status and last words agree with what the next start repeats."""
import disturb
import servers
from rebuild import duplicates, unequal

WHOLE, REPEATS = 0, 6
SAID_WHOLE = "everything sent is delivered"
SHUTDOWN_SECONDS = 5
ROWS = 600_000


def stop_words(world):
    """SIGTERM idle, with Kafka silent, in a long transaction, in a first copy: exit status and words are true."""
    pg = world.postgres()
    pg.psql("create table t (id int primary key, v text)", database="shop")
    agent = stopping(world, pg, "stream", "no_data")
    for case, shutdown in ((idle, SHUTDOWN_SECONDS), (kafka_silent, SHUTDOWN_SECONDS), (in_a_transaction, 1)):
        # A stop lets an open transaction go on for half of this time, in which a fast machine sends much.
        agent.configure(limits={"shutdown": "%ds" % shutdown, "quarantine": "1s"})
        agent.start()
        case(world, pg, agent)
    in_a_first_copy(world, pg)


def idle(world, pg, agent):
    pg.psql("insert into t select i, 'x' from generate_series(1, 100) i", database="shop")
    world.until_delivered(pg, agent)
    stopped(world, agent, "idle", WHOLE)
    again(world, pg, agent, "idle", WHOLE)


def kafka_silent(world, pg, agent):
    pg.psql("insert into t values (101, 'its topic is known from here on')", database="shop")
    world.until_delivered(pg, agent)
    with disturb.paused(world.kafka):
        pg.psql("insert into t select i, 'x' from generate_series(102, 1101) i", database="shop")
        world.until("records are under way", lambda: agent.status()["in_flight_records"] >= 1000, 30)
        stopped(world, agent, "kafka silent", REPEATS)
    again(world, pg, agent, "kafka silent", REPEATS)


def in_a_transaction(world, pg, agent):
    rows, before = world.length(ROWS // 6, ROWS), topic_end(world)
    pg.psql("insert into t select 10000 + i, repeat('x', 200) from generate_series(1, %d) i" % rows, database="shop")
    world.until("the transaction is under way", lambda: topic_end(world) > before + 1000, 60)
    stopped(world, agent, "in a transaction", REPEATS)
    assert topic_end(world) < before + rows, "the transaction was over before the stop"
    again(world, pg, agent, "in a transaction", REPEATS)


def in_a_first_copy(world, pg):
    world.prefix, world.slot = world.prefix + "_copy", world.slot + "_copy"
    agent = stopping(world, pg, "copy", "initial")
    agent.configure(snapshot={"rows_per_second": 20_000})
    agent.start(streaming=False)
    world.until("rows are copied", lambda: (agent.status().get("copy") or {}).get("rows", 0) > 20_000, 60)
    stopped(world, agent, "in a first copy", REPEATS)
    agent.configure(snapshot={"rows_per_second": 10_000_000})
    again(world, pg, agent, "in a first copy", REPEATS)


def stopping(world, pg, name, mode):
    return world.agent(pg, ["public.t"], name, snapshot={"mode": mode},
                       limits={"shutdown": "%ds" % SHUTDOWN_SECONDS, "quarantine": "1s"})


def stopped(world, agent, case, status):
    """Stops the program, which must end with this exit status and with words that fit it."""
    code = agent.stop(seconds=SHUTDOWN_SECONDS + 30)
    words = servers.tail(agent.log, 1).strip()
    assert code == status, "%s: exit status %s, %d is right; it says: %s" % (case, code, status, words)
    assert (SAID_WHOLE in words) == (status == WHOLE), "%s: status %d, and it says: %s" % (case, code, words)
    assert ("the next start" in words) == (status == REPEATS), "%s: status %d, and it says: %s" % (case, code, words)
    world.say("%s: %d", case, code)


def again(world, pg, agent, case, status):
    """At the next start everything arrives. After a stop with status 0 nothing is repeated."""
    agent.start(seconds=120)
    world.until_delivered(pg, agent, 300)
    world.until("copies are over", lambda: all(w["state"] == "done" for w in agent.status().get("windows", [])), 300)
    world.until_confirmed(pg, 60)
    assert agent.stop(seconds=60) == WHOLE, "%s: the stop after the next start" % case
    events = world.events()
    with pg.connect("shop") as sql:
        wrong = unequal(sql, events, world.prefix, {"public.t": (0,)})
    assert not wrong, case + ": " + "\n".join(wrong)
    repeated = sum(duplicates(found) for found in events.values())
    assert status != WHOLE or repeated == 0, "%s: status 0, and %d records came again" % (case, repeated)


def topic_end(world):
    """How many records the table's topic holds."""
    import decode

    source = decode.consumer(world.kafka.brokers)
    try:
        name = world.prefix + ".public.t"
        return sum(decode.ends(source, [name] if name in decode.topics(source, name) else []).values())
    finally:
        source.close()


SCENARIOS = [stop_words]
