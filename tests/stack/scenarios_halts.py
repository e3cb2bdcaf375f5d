"""Two replicas and a halt: it is found once, and both say so. Nothing is sent until the documented next step.

One scenario for each reason. They differ in the cause, in the next step, and in what is missing afterwards.
"""
import os
import signal
import time

import dist
import disturb
import observer
from rebuild import duplicates, unequal
from scenarios_operations import Pair
from scenarios_windows import copied

BIG, OTHER = "public.big", "public.other"
BIG_MAX_BYTES = 20_000
TABLES = {BIG: (0,), OTHER: (0,)}
# Changes of the other table that are committed just before the cause of the halt.
BEFORE = 100
# A halted replica reads the state every 5 s. Every third time it also asks the server, if a connect can prove the halt.
# Within these times each replica does so at least once more.
STATE_LOOK_SECONDS = 6
FOUND_ONCE = "no connect checks the cause again"
SECOND_LOOKS_SECONDS = 16
# A refused record is sent a second time before the halt, with everything that was not confirmed.
REPEATED_MAX = 2 * BEFORE


def found_once():
    """The halts that no later connect proves, by the table of the runbooks, which is written from the code."""
    with open(os.path.join(dist.TOP, "docs", "runbooks.md"), encoding="utf-8") as f:
        rows = [line.split("|") for line in f if line.startswith("| [`")]
    once = {cells[1].split("`")[1] for cells in rows if cells[2].strip() == FOUND_ONCE}
    assert "undeliverable" in once and "slot_missing" not in once, once
    return once


class Halted:
    """Two replicas on their way into one halt."""

    def __init__(self, world, reason, settings=None, more="", **over):
        """`settings` are those of the topic of `big`, `more` is SQL that runs before the first start.

        `over` are settings of both replicas."""
        self.prepare(world, reason, settings, more)
        self.pair = Pair(world, self.pg, TABLES, admin={"token_file": token_file(self.pg)}, **over)
        self.sql("insert into big values (0); insert into other values (0, 'first')")
        self.confirmed()
        self.term = max(self.terms())

    def prepare(self, world, reason, settings=None, more=""):
        """The server with its tables, and a topic of one partition for each."""
        self.world, self.reason = world, reason
        self.pg = world.postgres()
        self.pg.psql("create table big (id int primary key, v text); create table other (id int primary key, v text);"
                     + more, database="shop")
        self.topics = {name: "%s.%s" % (world.prefix, name) for name in TABLES}
        disturb.create_topic(world.kafka, self.topics[BIG], 1, settings)
        disturb.create_topic(world.kafka, self.topics[OTHER], 1)

    def sql(self, text):
        self.pg.psql(text, database="shop")

    def before(self):
        """Writes changes that must arrive although the cause of the halt follows at once."""
        self.sql("insert into other select i, 'before' from generate_series(1, %d) i" % BEFORE)

    def delivered(self):
        self.world.until_delivered(self.pg, self.pair.active()[0])

    def confirmed(self):
        """The same, and the slot has passed it, so that nothing of it is repeated."""
        self.delivered()
        self.world.until_confirmed(self.pg)

    def terms(self):
        return {agent.status().get("term", 0) for agent in self.pair.both}

    def ends(self):
        """Topic to how many records it holds."""
        import decode

        source = decode.consumer(self.world.kafka.brokers)
        try:
            return decode.ends(source, sorted(self.topics.values()))
        finally:
            source.close()

    def both_say_so(self):
        """The status of each replica, once both are halted for the reason."""

        def told():
            found = [agent.status() for agent in self.pair.both]
            assert all(agent.alive() for agent in self.pair.both), "a replica ended"
            return all((s.get("phase"), s.get("reason")) == ("halted", self.reason) for s in found) and found

        found = self.world.until("both say that the stream has halted: " + self.reason, told, 60)
        assert all(s["next"] and s["needs_a_person"] for s in found), "no next step: %s" % [s["next"] for s in found]
        return found

    def quiet(self, seconds):
        """For so many seconds no record is sent, no term begins, and both replicas stay halted."""
        ends, terms, until = self.ends(), self.terms(), time.monotonic() + seconds
        while time.monotonic() < until:
            for agent in self.pair.both:
                status = agent.status()
                assert (status.get("phase"), status.get("reason")) == ("halted", self.reason), "%s: %s %s" % (
                    agent.name, status.get("phase"), status.get("reason"))
            observer.pause(0.2)
        assert (self.ends(), self.terms()) == (ends, terms), "records %s -> %s, terms %s -> %s" % (
            ends, self.ends(), terms, self.terms())

    def restart(self, **over):
        """Restarts both replicas, one after the other, with these settings."""
        for agent in self.pair.both:
            agent.stop()
            agent.configure(**over)
            agent.start(streaming=False)

    def restarted(self):
        """The same without a change; both are halted again."""
        self.restart()
        self.both_say_so()

    def command(self, *arguments):
        code, said = self.pair.both[0].command(*arguments)
        assert code == 0, "wellspring %s ended with %d: %s" % (" ".join(arguments), code, said)

    def halts(self, provoke):
        """Causes the halt and checks it; the status of each replica."""
        provoke()
        told = self.both_say_so()
        looks = STATE_LOOK_SECONDS if self.reason in found_once() else SECOND_LOOKS_SECONDS
        self.quiet(self.world.length(looks, 60))
        ends = self.ends()
        self.restarted()
        self.quiet(3)
        assert self.ends() == ends, "a restart sent something: %s -> %s" % (ends, self.ends())
        # One term for the connection that found the halt, one for a replica that took the slot before it knew.
        assert max(self.terms()) <= self.term + 2, "terms from %d to %s" % (self.term, self.terms())
        return told

    def halts_at_a_connect(self, *statements):
        """The same for a halt that a connect finds: the statements run while both replicas are stopped.

        `{publication}` stands for its name.
        """

        def provoke():
            self.before()
            self.delivered()
            self.pair.stop()
            for statement in statements:
                self.sql(statement.format(publication=self.world.slot))
            for agent in self.pair.both:
                agent.start(streaming=False)

        self.halts(provoke)

    def accepted(self, *statements):
        """These statements run, the loss is accepted, and the stream goes on without row 1 of `big`."""
        for statement in statements:
            self.sql(statement.format(publication=self.world.slot))
        self.command("slot", "accept")
        self.goes_on_without(BIG, 1)

    def copy_again(self):
        """`wellspring snapshot` copies both tables."""
        active = self.pair.active()[0]
        code, said = active.command("snapshot", *TABLES)
        assert code == 0, "wellspring snapshot ended with %d: %s" % (code, said)
        for table in TABLES:
            copied(self.world, active, table)

    def goes_on(self, copy=False):
        """One replica streams, the other waits for the slot, and later changes arrive. Returns all events.

        With `copy` the tables are copied again first, where a loss was accepted."""
        self.pair.settled()
        if copy:
            self.copy_again()
        self.sql("insert into big values (9999); insert into other values (9999, 'after')")
        self.delivered()
        terms = self.terms()
        self.pair.stop()
        events = self.world.events()
        again = duplicates(events[self.topics[OTHER]])
        assert again <= REPEATED_MAX, "%d records of the other table repeated" % again
        self.world.say("%d records repeated, term %d before the halt, %d after it", again, self.term, max(terms))
        return events

    def goes_on_equal(self, copy=False):
        """The same, and tables equal topics."""
        self.world.judge(self.pg, TABLES, events=self.goes_on(copy))

    def goes_on_without(self, table, *missing):
        """The same, and only these keys of the table are missing from its topic."""
        events = self.goes_on()
        with self.pg.connect("shop") as sql:
            want = {row[0] for row in sql.execute("select id from " + table)} - set(missing)
            others = {name: key for name, key in TABLES.items() if name != table}
            wrong = unequal(sql, events, self.world.prefix, others)
        have = {e.key[0] for e in events[self.topics[table]]}
        assert not wrong and have == want, "%s: missing %s, too many %s; %s" % (
            table, sorted(want - have)[:5], sorted(have - want)[:5], wrong)


def token_file(pg):
    path = os.path.join(pg.dir, "token")
    with open(path, "w", encoding="utf-8") as f:
        f.write("0123456789abcdef0123456789abcdef")
    os.chmod(path, 0o600)
    return path


def two_replicas_halt_record_too_large(world):
    """A record that its topic does not take, two replicas: one halt; a higher limit of the topic lifts it."""
    it = Halted(world, "record_too_large", {"max.message.bytes": str(BIG_MAX_BYTES)})

    def provoke():
        it.before()
        it.sql("insert into big values (1, (select string_agg(md5(i::text), '') from generate_series(1, 2000) i));"
               "insert into other values (1000, 'behind it')")

    it.halts(provoke)
    disturb.set_topic(world.kafka, it.topics[BIG], max_message_bytes=1_000_000)
    it.goes_on_equal()


def two_replicas_halt_row_unencodable(world):
    """A value without a form in its schema, two replicas: one halt; `wellspring skip` leaves out that one change."""
    it = Halted(world, "row_unencodable", more="alter table big add n numeric not null default 0")

    def provoke():
        it.before()
        it.sql("insert into big values (1, 'v', 'NaN'); insert into other values (1000, 'behind it')")

    at = next(s["stands_at"] for s in it.halts(provoke) if s["stands_at"])
    place = ["--commit", at["commit_lsn"], "--ordinal", str(at["ordinal"])]
    it.command("skip", at["table"], *place, "--by", "a test", "--why", "it tests halts")
    it.goes_on_without(BIG, 1)


def two_replicas_halt_undeliverable(world):
    """A record that the broker refuses for good, two replicas: one halt; `wellspring retry` lifts it."""
    it = Halted(world, "undeliverable")

    def provoke():
        it.before()
        # Every time stamp is too old for it.
        disturb.set_topic(world.kafka, it.topics[BIG], message_timestamp_before_max_ms=0)
        it.sql("insert into big values (1); insert into other values (1000, 'behind it')")

    it.halts(provoke)
    disturb.set_topic(world.kafka, it.topics[BIG], message_timestamp_before_max_ms=None)
    it.command("retry")
    it.goes_on_equal()


def two_replicas_halt_offsets_went_back(world):
    """A topic is made anew under the stream, two replicas: one halt; `wellspring slot accept` lifts it."""
    it = Halted(world, "offsets_went_back")

    def provoke():
        it.sql("insert into big select i from generate_series(1, 20) i")
        it.confirmed()
        it.before()
        disturb.delete_topics(world.kafka, it.topics[BIG])
        disturb.create_topic(world.kafka, it.topics[BIG], 1)
        it.sql("insert into big values (100)")

    it.halts(provoke)
    it.command("slot", "accept")
    it.goes_on_without(BIG, *range(21))


def two_replicas_halt_slot_missing(world):
    """The slot is dropped under two replicas: one halt; `wellspring slot accept` makes a new one and goes on."""
    it = Halted(world, "slot_missing")
    it.halts(lambda: disturb.drop_slot(it.pg, world.slot))
    it.sql("insert into other values (1, 'while there is no slot')")
    it.command("slot", "accept")
    it.goes_on_without(OTHER, 1)


ROW_1 = "insert into big values (1)"


def two_replicas_halt_table_republished(world):
    """A table leaves the publication for a moment, two replicas: one halt; `wellspring slot accept` lifts it."""
    it = Halted(world, "table_republished")
    it.halts_at_a_connect("alter publication {publication} drop table big", ROW_1,
                          "alter publication {publication} add table big")
    it.accepted()


def two_replicas_halt_table_left(world):
    """A table leaves the publication for a moment under two replicas: one halt; `wellspring slot accept` lifts it."""
    it = Halted(world, "table_left")

    def provoke():
        it.before()
        it.delivered()
        it.sql("alter publication %s drop table big" % world.slot)
        it.sql(ROW_1)
        it.sql("alter publication %s add table big" % world.slot)

    it.halts(provoke)
    it.command("slot", "accept")
    it.goes_on_without(BIG, 1)


def two_replicas_halt_table_swapped(world):
    """Another table takes a captured name under two replicas: one halt; swapped back and accepted, the stream goes on."""
    it = Halted(world, "table_swapped")

    def provoke():
        it.before()
        it.delivered()
        it.sql("create table big_new (like big including all);"
               "begin; alter table big rename to big_old; alter table big_new rename to big; commit")
        it.sql(ROW_1)

    it.halts(provoke)
    it.accepted("begin; drop table big; alter table big_old rename to big; commit")


def two_replicas_halt_publication_altered(world):
    """Inserts are not published for a moment under two replicas: one halt; `wellspring slot accept` lifts it."""
    it = Halted(world, "publication_altered")

    def provoke():
        it.before()
        it.delivered()
        it.sql("alter publication %s set (publish = 'update, delete, truncate')" % world.slot)
        it.sql(ROW_1)
        it.sql("alter publication %s set (publish = 'insert, update, delete, truncate')" % world.slot)

    it.halts(provoke)
    it.accepted()


def two_replicas_halt_publication_absent(world):
    """The publication had another name for a moment: one halt of two replicas; `wellspring slot accept` goes on."""
    it = Halted(world, "publication_absent")
    it.halts_at_a_connect("alter publication {publication} rename to other_name", ROW_1,
                          "alter publication other_name rename to {publication}")
    it.accepted()


def two_replicas_halt_table_not_published(world):
    """A captured table leaves the publication under two replicas: one halt; added and accepted, the stream goes on."""
    it = Halted(world, "table_not_published")
    it.halts_at_a_connect("alter publication {publication} drop table big", ROW_1)
    it.accepted("alter publication {publication} add table big")


def two_replicas_halt_table_recreated(world):
    """A table is dropped and made anew under two replicas: one halt; `wellspring slot accept` lifts it."""
    it = Halted(world, "table_recreated")
    it.halts_at_a_connect("begin; drop table big; create table big (id int primary key, v text);"
                          "insert into big values (0), (1); alter publication {publication} add table big; commit")
    it.accepted()


def two_replicas_halt_publication_missing(world):
    """The publication is dropped under two replicas: one halt; made again and accepted, the stream goes on."""
    it = Halted(world, "publication_missing")
    it.halts_at_a_connect("drop publication {publication}")
    it.accepted(ROW_1, "create publication {publication} for table big, other")


def two_replicas_halt_publication_changed(world):
    """The publication is made anew under two replicas: one halt; `wellspring slot accept` lifts it."""
    it = Halted(world, "publication_changed")
    it.halts_at_a_connect("begin; drop publication {publication};"
                          "create publication {publication} for table big, other; commit")
    it.accepted(ROW_1)


def two_replicas_halt_slot_ahead(world):
    """Somebody moves the slot of two replicas: one halt; `wellspring slot accept` lifts it."""
    it = Halted(world, "slot_ahead", more="create table noise (v text)")

    def provoke():
        it.before()
        it.delivered()
        # Both stand still meanwhile: an agent that runs could confirm the noise before the slot is moved over it.
        for agent in it.pair.both:
            agent.send(signal.SIGSTOP)
        it.sql("insert into noise values ('moves the log')")
        disturb.advance_slot(it.pg, world.slot)
        for agent in it.pair.both:
            agent.send(signal.SIGCONT)

    it.halts(provoke)
    it.command("slot", "accept")
    it.goes_on_equal()


SCENARIOS = [
    two_replicas_halt_record_too_large, two_replicas_halt_row_unencodable, two_replicas_halt_undeliverable,
    two_replicas_halt_offsets_went_back, two_replicas_halt_slot_missing, two_replicas_halt_table_left,
    two_replicas_halt_table_republished, two_replicas_halt_table_not_published, two_replicas_halt_table_recreated,
    two_replicas_halt_table_swapped, two_replicas_halt_publication_missing, two_replicas_halt_publication_changed,
    two_replicas_halt_publication_altered, two_replicas_halt_publication_absent, two_replicas_halt_slot_ahead,
]
