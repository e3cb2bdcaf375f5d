"""Failovers to a real standby that is behind: the agent goes on with nothing lost, or it names what was lost.

The standby keeps a copy of the slot (`postgres.failover`), and nothing makes the stream wait for it. The primary is
killed, and the standby is promoted. An independent reader compares the topics with the promoted server: each change that
Kafka has and the server lacks lies in the range of the halt, and no identity names two events.
"""
import os
import time

import disturb
import observer
import psycopg
import servers
from agent import lsn
from late import LateProxy
from rebuild import duplicates
from scenarios_windows import copied
from world import copy_tree

TABLE = "public.items"
ROWS, ROWS_EACH, PER_SECOND = 60, 3, 40
SETTINGS = {"hot_standby_feedback": "on", "sync_replication_slots": "on", "primary_slot_name": "standby",
            "wal_receiver_timeout": "120s", "wal_sender_timeout": "120s"}
# After an unclean stop the slot stays back for so long, and a backfill waits for it.
BRIEF_HOLD = {"limits": {"quarantine": "2s"}}
IN_STEP = ("select synced and not temporary and invalidation_reason is null and confirmed_flush_lsn >= '%s'"
           " from pg_replication_slots where slot_name = '%s'")


class Writer:
    """Transactions that update some rows, each with a number of its own. The table of the numbers is not captured."""

    def __init__(self):
        self.number, self.sql, self.at, self.load = 0, None, {}, None

    def start(self, pg):
        self.sql = pg.connect("shop")
        self.load = disturb.Paced(PER_SECOND, self.write)

    def write(self, _):
        self.number += 1
        ids = ",".join(str((self.number * 7 + step) % ROWS) for step in range(ROWS_EACH))
        try:
            self.sql.execute("begin; update items set v = %d where id in (%s); insert into marks values (%d); commit" % (
                self.number, ids, self.number))
            self.at[self.number] = time.monotonic()
        except psycopg.Error:
            self.load.over.set()  # the server is gone

    def stop(self):
        self.load.stop()
        self.sql.close()

    def some(self, pg, seconds):
        """Writes for a while."""
        self.start(pg)
        observer.pause(seconds)
        self.stop()


class Failover:
    """A primary, a standby that is `behind` by so many seconds, and an agent that knows both."""

    def __init__(self, world, behind):
        self.world, self.behind, self.writer = world, behind, Writer()
        self.primary = world.postgres(18, "-a", SETTINGS)
        self.primary.psql("create table items (id int primary key, v int); create table marks (n int primary key);"
                          "insert into items select i, 0 from generate_series(0, %d) i" % (ROWS - 1), database="shop")
        self.primary.psql("select pg_create_physical_replication_slot('standby')")
        self.proxy = world.ends(LateProxy(servers.free_port(), self.primary.port))
        self.standby = servers.Postgres(self.primary.major, world.name + "-postgres-b", SETTINGS)
        self.standby.wipe()
        world.clusters.append(self.standby)
        self.primary.stop()
        copy_tree(self.primary.data, self.standby.data)
        self.primary.start()
        self.standby.settings["primary_conninfo"] = "host=%s port=%d user=postgres dbname=shop" % (
            servers.HOST, self.proxy.port)
        with open(os.path.join(self.standby.data, "standby.signal"), "w", encoding="utf-8"):
            pass
        self.standby.start()
        hosts = "%s:%d,%s:%d" % (servers.HOST, self.standby.port, servers.HOST, self.primary.port)
        self.agent = world.agent(self.primary, [TABLE], **BRIEF_HOLD, postgres={
            "url": "postgresql://postgres@%s/shop?target_session_attrs=primary" % hosts, "failover": True})
        self.agent.start()
        world.until_delivered(self.primary, self.agent)
        confirmed = self.primary.psql(
            "select confirmed_flush_lsn from pg_replication_slots where slot_name = '%s'" % world.slot)
        servers.wait_until("the standby has the slot", lambda: self.in_step(confirmed), 120, every=0.5)
        self.proxy.seconds = behind

    def in_step(self, confirmed):
        # The copy of a slot becomes usable when the slot of the primary moves past it.
        self.primary.psql("select pg_log_standby_snapshot()")
        return self.standby.psql(IN_STEP % (confirmed, self.world.slot)) == "t"

    def crash(self, kills_agent, idle):
        """The primary dies under load, and with it what the standby has not received; then the standby is promoted."""
        self.writer.start(self.primary)
        observer.pause(self.behind + 3)
        if idle:
            self.writer.stop()
            observer.pause(self.behind + 2)
        self.term = self.agent.status()["term"]
        self.proxy.cut()  # to kill every process of a server takes a moment, in which more would arrive
        if kills_agent:
            self.agent.kill()
        disturb.crash(self.primary)
        if not idle:
            self.writer.stop()
        self.standby.psql("select pg_promote()")
        with self.standby.connect("shop") as sql:
            self.kept = {row[0] for row in sql.execute("select n from marks")}
        gone = [self.writer.at[n] for n in self.writer.at if n not in self.kept]
        self.last = self.writer.number
        self.world.say("%d of %d transactions undone", self.last - len(self.kept), self.last)
        if gone:
            self.world.say("standby %.2f s behind", max(self.writer.at.values()) - min(gone))

    def undone(self):
        """Position to what it changed, of each change that Kafka has from before the crash and the server lacks."""
        events = self.world.events()["%s.items" % (self.world.prefix + ".public")]
        return {e.position: e.value["after"]["v"] for e in events
                if e.value and e.value["op"] == "u" and 0 < e.value["after"]["v"] <= self.last
                and e.value["after"]["v"] not in self.kept}

    def settled(self):
        """The status once the agent streams or has halted."""

        def told():
            status = self.agent.status()
            streams = status.get("phase") == "streaming" and status["term"] > self.term
            return status if streams or status.get("phase") == "halted" else None

        found = []
        self.agent.ready(lambda: found.append(told()) or found[-1], 180)
        return found[-1]

    def judged(self, status):
        """Holds the outcome against what was really lost. Goes past a halt."""
        lost = self.undone()
        if status["phase"] == "streaming":
            assert not lost, "it goes on, and %d changes are undone: %s" % (len(lost), sorted(lost)[:3])
            self.world.say("goes on")
            return
        assert status["reason"] == "published_ahead" and status["needs_a_person"], status
        first, last = lsn(status["range"]["from"]), lsn(status["range"]["to"])
        outside = [position for position in lost if not first <= position[1] <= last]
        assert lost and not outside, "%d lost, outside of %s: %s" % (len(lost), status["range"], outside[:3])
        highest = max(position[1] for position in lost)
        self.world.say("halts: %d changes lost, the range ends %d bytes behind the last", len(lost), last - highest)
        code, said = self.agent.command("slot", "accept", "--copy")
        assert code == 0, said
        self.world.until("the agent goes on", lambda: self.agent.phase() == "streaming", 60)
        copied(self.world, self.agent, TABLE)

    def ends_equal(self):
        """The stream goes on at the promoted server; tables equal topics, and no identity names two events."""
        self.writer.some(self.standby, 2)
        self.world.until_delivered(self.standby, self.agent)
        assert self.agent.stop() == 0
        events = self.world.judge(self.standby, {TABLE: (0,)})
        found = events["%s.public.items" % self.world.prefix]
        names = {}
        for e in found:
            if e.value and e.value["op"] != "r":
                names.setdefault(e.position, set()).add((e.key, e.value["op"], e.value["after"]["v"]))
        twice = {position: what for position, what in names.items() if len(what) > 1}
        assert not twice, "an identity names two events: %s" % list(twice.items())[:3]
        self.world.say("%d repeated, %d identities", duplicates(found), len(names))


def failover(world, behind, kills_agent, later, idle=False):
    it = Failover(world, behind)
    it.crash(kills_agent, idle)
    if later:
        # The promoted server writes beyond every position of the old one.
        it.writer.some(it.standby, 2)
        it.standby.psql("select pg_switch_wal(), pg_logical_emit_message(false, 'world', 'mark')", database="shop")
        it.writer.some(it.standby, behind)
    if kills_agent:
        it.agent.start(streaming=False)
    it.judged(it.settled())
    it.ends_equal()


def scenario(name, text, *arguments, **more):
    def run(world):
        failover(world, *arguments, **more)

    run.__name__, run.__doc__ = "failover_behind_" + name, text
    return run


LAGS = {"50ms": 0.05, "2s": 2.0, "20s": 20.0}
SCENARIOS = [
    made for name, behind in LAGS.items() for made in (
        scenario(name, "A standby that is %s behind is promoted under a running agent." % name, behind, False, False),
        scenario(name + "_killed", "The agent dies with the primary; the standby was %s behind." % name, behind, True,
                 False),
        scenario(name + "_later", "The same, and the agent starts after the standby wrote past it all (%s)." % name,
                 behind, True, True),
    )
] + [scenario("2s_idle", "Nothing is written before the crash, so that nothing is lost, and the agent goes on.", 2.0,
              True, False, idle=True)]
