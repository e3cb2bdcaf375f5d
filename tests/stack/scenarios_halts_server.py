"""Two replicas and a halt about the server, the slot or the state: found once, said by both, repaired by the next step.

As `scenarios_halts`. Where the next step is a consent, the tables are copied again afterwards and equal their topics.
"""
import os
import subprocess

import dist
import disturb
import servers
from scenarios_halts import BIG, ROW_1, SECOND_LOOKS_SECONDS, TABLES, Halted, token_file
from scenarios_operations import Pair
from scenarios_windows import copied
from world import copy_tree

# Of the first copy that is cut off: enough for both replicas to be seen, at this many rows a second.
UNFINISHED_ROWS, UNFINISHED_PER_SECOND = 12_000, 1_000
# After an unclean stop the slot stays back for so long, and a backfill waits for it.
BRIEF_HOLD = {"limits": {"quarantine": "2s"}}
# A segment of the log. A server that has begun so many more is ahead of one that was copied at the same time.
SEGMENTS_AHEAD = 3
NEXT_SEGMENT = "insert into noise values ('x'); select pg_switch_wal()"


# -- the slot


def two_replicas_halt_slot_lost(world):
    """The server discards log that the slot needs: one halt; a higher limit and `wellspring slot accept` go on."""
    it = Halted(world, "slot_lost", more="create table noise (v text)", **BRIEF_HOLD)

    def provoke():
        it.before()
        it.confirmed()
        it.pg.psql("alter system set max_slot_wal_keep_size = '1MB'")
        it.pg.psql("select pg_reload_conf()")
        # An open transaction keeps the slot back while the log grows.
        with it.pg.connect("shop") as sql:
            sql.execute("begin; insert into big values (-1)")
            world.until("the slot is lost", lost, 60)
            sql.execute("rollback")

    def lost():
        it.sql(NEXT_SEGMENT)
        it.sql("checkpoint")
        return it.pg.psql("select wal_status from pg_replication_slots where slot_name = '%s'" % world.slot) == "lost"

    it.halts(provoke)
    it.sql(ROW_1)
    it.pg.psql("alter system reset max_slot_wal_keep_size")
    it.pg.psql("select pg_reload_conf()")
    it.command("slot", "accept")
    it.goes_on_equal(copy=True)


def two_replicas_halt_slot_foreign(world):
    """Somebody takes the slot's name for another plugin: one halt; another name of the slot goes on."""
    it = Halted(world, "slot_foreign", **BRIEF_HOLD)

    def provoke():
        it.before()
        it.confirmed()
        taken = "pg_drop_replication_slot('%s'); perform pg_create_logical_replication_slot('%s', 'test_decoding')"
        disturb.with_the_slot(it.pg, world.slot, taken % (world.slot, world.slot))

    it.halts(provoke)
    # It is foreign also while its owner reads it.
    owner = subprocess.Popen([dist.client_tool("pg_recvlogical"), "-d", it.pg.url("shop"), "-S", world.slot,
                              "--start", "-f", os.devnull], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    world.ends(owner)
    world.until("the owner reads its slot", lambda: world.walsender(it.pg) > 0, 30)
    it.restarted()
    it.quiet(SECOND_LOOKS_SECONDS)
    it.sql(ROW_1)
    world.slot += "_2"
    it.restart(postgres={"slot": world.slot})
    it.goes_on_equal(copy=True)


# -- the state


def two_replicas_halt_state_missing(world):
    """The state topic is made anew under two replicas: one halt; `wellspring slot accept` goes on from the slot."""
    it = Halted(world, "state_missing")

    def provoke():
        it.before()
        it.confirmed()
        name = world.prefix + ".wellspring-state"
        disturb.delete_topics(world.kafka, name)
        disturb.create_topic(world.kafka, name, 1, {"cleanup.policy": "compact"})
        disturb.end_walsender(it.pg, world.slot)

    it.halts(provoke)
    it.sql(ROW_1)
    it.command("slot", "accept")
    it.goes_on_equal()


def two_replicas_halt_state_unreadable(world):
    """A newer version's record in the state, two replicas: one halt; without the record the stream goes on."""
    it = Halted(world, "state_unreadable")
    key = "detached/%s/%s" % (world.slot, BIG)

    def provoke():
        it.before()
        it.confirmed()
        disturb.write_state(world.kafka, world.prefix, key, '{"format": 99}')
        disturb.end_walsender(it.pg, world.slot)

    it.halts(provoke)
    it.sql(ROW_1)
    disturb.write_state(world.kafka, world.prefix, key, None)
    it.goes_on_equal()


class Unfinished(Halted):
    """Two replicas of which one makes a first copy and has no stream after it."""

    def __init__(self, world):
        self.prepare(world, "copy_unfinished",
                     more="insert into big select i from generate_series(1, %d) i" % UNFINISHED_ROWS)
        self.pair = Pair(world, self.pg, TABLES, settles=False, admin={"token_file": token_file(self.pg)},
                         snapshot={"mode": "initial_only", "rows_per_second": UNFINISHED_PER_SECOND}, **BRIEF_HOLD)
        world.until("one copies, the other waits for the slot", self.copies, 60)
        self.term = max(self.terms())

    def copies(self):
        found = [agent.status() for agent in self.pair.both]
        rows = max((status.get("copy") or {}).get("rows", 0) for status in found)
        return rows > 100 and "standby" in [status.get("reason") for status in found]


def two_replicas_halt_copy_unfinished(world):
    """The replica that makes the only copy is killed: one halt; `snapshot.mode = "initial"` copies the rest."""
    it = Unfinished(world)

    def provoke():
        one, two = it.pair.both
        killed, other = (two, one) if one.status().get("reason") == "standby" else (one, two)
        killed.kill()
        other.until_halted()
        killed.start(streaming=False)

    it.halts(provoke)
    it.sql("delete from big where id % 3 = 0; insert into big values (-1)")
    it.restart(snapshot={"mode": "initial", "rows_per_second": None})
    it.pair.settled()
    copied(world, it.pair.active()[0], BIG)
    it.goes_on_equal()


# -- another server


def moved(pg, port):
    """Starts the server again at another port."""
    pg.stop()
    pg.port = pg.settings["port"] = port
    pg.start()


def two_replicas_halt_other_cluster(world):
    """Another cluster answers at the address of two replicas: one halt; the corrected address goes on."""
    it = Halted(world, "other_cluster")
    other = world.postgres(name="-other")
    other.psql("create table big (id int primary key, v text); create table other (id int primary key, v text);"
               "create publication %s for table big, other" % world.slot, database="shop")
    other.psql("select pg_create_logical_replication_slot('%s', 'pgoutput')" % world.slot, database="shop")
    address, free = it.pg.port, servers.free_port()

    def provoke():
        it.before()
        it.confirmed()
        moved(it.pg, free)
        moved(other, address)

    it.halts(provoke)
    it.sql(ROW_1)
    it.restart(postgres={"url": it.pg.url("shop")})
    it.goes_on_equal()


def two_replicas_halt_other_database(world):
    """Another database takes the name of the captured one: one halt; `wellspring slot accept` goes on there."""
    it = Halted(world, "other_database", **BRIEF_HOLD)

    def provoke():
        it.before()
        it.confirmed()
        it.pg.psql("alter database shop with allow_connections false")
        disturb.drop_slot(it.pg, world.slot, "postgres")
        it.pg.psql("select pg_terminate_backend(pid) from pg_stat_activity where datname = 'shop'")
        # The replica that stands by is refused as well, and waits.
        world.until("both are refused", lambda: {agent.status().get("reason") for agent in it.pair.both}
                    == {"postgres_settings"}, 30)
        it.pg.psql("create database copy template shop")
        it.pg.psql(ROW_1, database="copy")
        it.pg.psql("select pg_create_logical_replication_slot('%s', 'pgoutput')" % world.slot, database="copy")
        it.pg.psql("alter database shop rename to old; alter database copy rename to shop")

    it.halts(provoke)
    it.command("slot", "accept")
    it.goes_on_equal(copy=True)


# -- the server's own past


class Restored(Halted):
    """Two replicas whose server has changes that an older copy of its storage lacks."""

    def __init__(self, world, reason):
        super().__init__(world, reason, more="create table noise (v text)", **BRIEF_HOLD)
        self.copy()
        self.pair.settled()
        self.term = max(self.terms())

    @property
    def older(self):
        return self.pg.data + ".older"

    def copy(self):
        self.pg.stop()
        copy_tree(self.pg.data, self.older)
        self.pg.start()

    def newer(self):
        """Changes of each table that the copy lacks, delivered and confirmed."""
        self.sql("update big set v = 'newer'; update other set v = 'newer'")
        self.confirmed()

    def put(self, recovers=False):
        """The copy takes the server's place; with `recovers` it begins a timeline of its own."""
        self.pg.stop()
        os.rename(self.pg.data, self.pg.data + ".newer")
        os.rename(self.older, self.pg.data)
        if recovers:
            self.recovers()
        self.pg.start()

    def recovers(self):
        """The next start ends recovery at the end of the log, on a new timeline."""
        self.pg.settings.update(restore_command="false", recovery_target_timeline="current")
        with open(os.path.join(self.pg.data, "recovery.signal"), "w", encoding="utf-8"):
            pass

    def accepted_and_equal(self):
        self.sql(ROW_1)
        self.command("slot", "accept")
        self.goes_on_equal(copy=True)


def two_replicas_halt_server_went_back(world):
    """The server is restored from an older copy: one halt; `wellspring slot accept` and a copy repair it."""
    it = Restored(world, "server_went_back")

    def provoke():
        it.newer()
        it.put()

    it.halts(provoke)
    it.accepted_and_equal()


def two_replicas_halt_published_ahead(world):
    """A failover undoes commits that Kafka has: one halt; `wellspring slot accept` and a copy repair it."""
    it = Restored(world, "published_ahead")

    def provoke():
        it.newer()
        it.put(recovers=True)

    it.halts(provoke)
    it.accepted_and_equal()


def two_replicas_halt_timeline_unknown(world):
    """The server was promoted beside the timeline of the stream: one halt; `wellspring slot accept` repairs it."""
    it = Restored(world, "timeline_unknown")

    def provoke():
        # The stream goes on at timeline 2. The copy ends timeline 1 once more, at another place, and begins timeline 3.
        it.pg.stop()
        it.recovers()
        it.pg.start()
        it.pair.settled()
        it.newer()
        copy_tree(os.path.join(it.pg.data, "pg_wal", "00000002.history"), os.path.join(it.older, "pg_wal"))
        it.term = max(it.terms())
        it.put(recovers=True)

    it.halts(provoke)
    it.accepted_and_equal()


def two_replicas_halt_history_differs(world):
    """A restored server wrote on before two replicas came: one halt; at the right server `wellspring retry` goes on."""
    it = Restored(world, "history_differs")
    address, free = it.pg.port, servers.free_port()

    def provoke():
        it.newer()
        it.pg.stop()
        it.pg.port = it.pg.settings["port"] = free  # where no replica sees it
        it.put()
        it.sql("update big set v = 'elsewhere'")
        for _ in range(SEGMENTS_AHEAD):
            it.sql(NEXT_SEGMENT)
        moved(it.pg, address)

    it.halts(provoke)
    # The address was wrong: the newer server is the right one.
    it.pg.stop()
    os.rename(it.pg.data, it.older)
    os.rename(it.pg.data + ".newer", it.pg.data)
    it.pg.start()
    it.command("retry")
    # What the other server had sent lies between.
    world.judge(it.pg, TABLES, order=False, events=it.goes_on(copy=True))


SCENARIOS = [
    two_replicas_halt_slot_lost, two_replicas_halt_slot_foreign, two_replicas_halt_state_missing,
    two_replicas_halt_state_unreadable, two_replicas_halt_copy_unfinished, two_replicas_halt_other_cluster,
    two_replicas_halt_other_database, two_replicas_halt_server_went_back, two_replicas_halt_published_ahead,
    two_replicas_halt_timeline_unknown, two_replicas_halt_history_differs,
]
