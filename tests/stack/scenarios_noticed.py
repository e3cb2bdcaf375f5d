"""The table "what we notice" of docs/guarantees.md, statement by statement: told within seconds, and repaired as told.

Every case has a captured table of its own. The seconds run from the end of the statements to the first /status that
tells them. A halt's range has to hold the commits that were lost; the next step and a copy make the table equal its topic.
"""
import time

from agent import lsn
from scenarios_halts import token_file

SECONDS_MAX = 10.0
HERE = "select pg_current_wal_insert_lsn()::text"
GONE = ("publication_missing", "publication_changed", "publication_absent")


class Case:
    """Statements about one captured table `{t}`, and the code that tells them.

    `lost` is written between `before` and `after`, and does not arrive. `mend` runs before the consent. `copies` says that a
    copy of the table repairs a case that does not halt. The topic of a case with `differs` stays different."""

    def __init__(self, name, code, before, lost="", after="", mend="", table="", copies=False, differs=False):
        self.name, self.codes = name, code if isinstance(code, tuple) else (code,)
        self.before, self.lost, self.after, self.mend = before, lost, after, mend
        self.table = table or "create table {t} (id int primary key, v text)"
        self.copies, self.differs = copies, differs


ROW = "insert into {t} values (7, 'lost')"
OUT, IN = "alter publication {p} drop table {t}", "alter publication {p} add table {t}"
ALL = "alter publication {p} set (publish = 'insert, update, delete, truncate')"
ROOT = ("create table {t} (id int primary key, v text) partition by range (id);"
        "create table {t}_1 partition of {t} for values from (0) to (10);"
        "create table {t}_2 partition of {t} for values from (10) to (20)")
LATE = "create table {t}_late (id int primary key, v text); insert into {t}_late values (21, 'late'); analyze {t}_late;"
CASES = [
    Case("drop_and_add_table", "table_left", OUT, ROW, IN),
    Case("rename_and_back", "table_left", "alter table {t} rename to {t}_x", "insert into {t}_x values (7, 'lost')",
         "alter table {t}_x rename to {t}"),
    Case("set_schema_and_back", "table_left", "alter table {t} set schema beside", "insert into beside.{t} values (7, 'lost')",
         "alter table beside.{t} set schema public"),
    Case("load_and_swap", "table_swapped", "create table {t}_new (like {t} including all); insert into {t}_new values (1, 'a');"
         "begin; alter table {t} rename to {t}_old; alter table {t}_new rename to {t}; commit", ROW, mend=IN),
    Case("drop_and_create", "table_swapped", "drop table {t}; create table {t} (id int primary key, v text);"
         "insert into {t} values (1, 'again')", ROW, mend=IN),
    Case("publish_insert_only", "publication_altered", "alter publication {p} set (publish = 'insert')",
         "update {t} set v = 'lost'", ALL),
    Case("row_filter", "table_left", OUT + "; alter publication {p} add table {t} where (id > 100)", ROW,
         OUT + "; " + IN),
    Case("drop_publication", GONE, "drop publication {p}", ROW, mend="{publication}"),
    Case("rename_publication", ("publication_altered", *GONE), "alter publication {p} rename to other_name", ROW,
         "alter publication other_name rename to {p}"),
    Case("attach_partition", "partition_attached", LATE + "alter table {t} attach partition {t}_late for values from (20) to (30)",
         table=ROOT, copies=True),
    Case("detach_partition", "partition_left", "insert into {t} values (11, 'x')", after="alter table {t} detach partition {t}_2",
         table=ROOT, differs=True),
    Case("truncate_leaf", "partition_emptied", "insert into {t} values (11, 'x')", after="truncate {t}_2", table=ROOT, differs=True),
    Case("alter_type_using", "table_rewritten", "alter table {t} alter column v type int using length(v)", copies=True),
    Case("no_identity", "identity_lost", "alter table {t} drop constraint {t}_pkey", differs=True),
    Case("key_moved", "record_key_changed", "alter table {t} add column k int not null default 1;"
         "alter table {t} drop constraint {t}_pkey; alter table {t} add primary key (k); insert into {t} values (8, 'x', 8)",
         differs=True),
    Case("schema_and_back", "namespace_altered", "begin; alter schema apart rename to elsewhere; alter schema elsewhere rename to apart; commit",
         table="create table apart.{t} (id int primary key, v text)", differs=True),
    Case("publication_owner", "publication_extended", "alter publication {p} owner to somebody", differs=True),
]


class Noticed:
    def __init__(self, world):
        self.world, self.pg, self.seconds = world, world.postgres(15), {}
        self.accepted = set()  # `since_ms` of the halts that were accepted
        self.names = {case.name: "c_" + case.name for case in CASES}
        tables = [("apart." if "apart." in case.table else "public.") + self.names[case.name] for case in CASES]
        self.publication = "create publication %s for table %s with (publish_via_partition_root)" % (
            world.slot, ", ".join(tables))
        self.run("create schema beside; create schema apart; create role somebody superuser")
        for case in CASES:
            self.run(self.text(case.table, case))
        self.run(self.publication)
        self.agent = world.agent(self.pg, tables, limits={"quarantine": "1s"}, snapshot={"mode": "no_data"},
                                 events={"format": "json"}, admin={"token_file": token_file(self.pg)})
        world.format = "json"
        self.agent.start()
        for case in CASES:
            if "apart." not in case.table:
                self.run(self.text("insert into {t} values (1, 'first')", case))
        world.until_delivered(self.pg, self.agent)

    def text(self, sql, case):
        return sql.format(t=self.names[case.name], p=self.world.slot, publication=self.publication)

    def run(self, sql):
        """Each statement by itself, but for a transaction."""
        with self.pg.connect("shop") as session:
            for part in [sql] if "begin;" in sql else sql.split(";"):
                if part.strip():
                    session.execute(part)

    def told(self, case, known):
        status = self.agent.status()
        if status.get("phase") == "halted":
            assert status["reason"] in case.codes, status
            return status
        words = [w for w in status.get("warnings", []) if w not in known and w.split(":")[0] in case.codes]
        lost = "identity_lost" in case.codes and status.get("needs_a_person")
        return status if words or lost else None

    def judge(self, case):
        self.agent.until_streaming(60)
        known = self.agent.status()["warnings"]
        counted = self.agent.metrics()
        self.run(self.text(case.before, case))
        lost = self.write_lost(case)
        if case.after:
            self.run(self.text(case.after, case))
        at = time.monotonic()
        status = self.world.until("%s is told" % case.name, lambda: self.told(case, known), 60)
        self.seconds[case.name] = time.monotonic() - at
        assert self.seconds[case.name] <= SECONDS_MAX, "%s took %.1f s" % (case.name, self.seconds[case.name])
        if status["phase"] != "halted":
            grew = [n for n, v in self.agent.metrics().items() if n.startswith("wellspring_watch_findings") and v > counted.get(n, 0)]
            assert grew, "no metric counts %s" % case.name
        if lost:
            first, last = lsn(status["range"]["from"]), lsn(status["range"]["to"])
            # A look between the statements halts before the row is lost.
            # The stream itself tells a renamed table, at the commit of the row.
            assert last <= lost[0] or (first < lost[1] <= last), (case.name, lost, status["range"])
            code, said = self.agent.command("check")
            assert code != 0 and status["reason"] in said, (code, said)
        self.repair(case, status)

    def write_lost(self, case):
        """Writes what does not arrive; the positions around it."""
        if not case.lost:
            return None
        with self.pg.connect("shop") as session:
            first = session.execute(HERE).fetchone()[0]
            session.execute(self.text(case.lost, case))
            return lsn(first), lsn(session.execute(HERE).fetchone()[0])

    def repair(self, case, status):
        name = self.names[case.name]
        if case.mend:
            self.run(self.text(case.mend, case))
        if status["phase"] == "halted":
            self.accept(status)
        elif case.copies:
            code, said = self.agent.command("snapshot", "public." + name)
            assert code == 0, said
        target = lsn(self.pg.psql(HERE))
        self.pg.psql("select pg_logical_emit_message(false, 'world', 'mark'), pg_switch_wal()", database="shop")
        is_copied = status["phase"] == "halted" or case.copies
        self.world.until("%s is mended" % case.name, lambda: self.mended(target, "public." + name, is_copied), 120)

    def accept(self, status):
        """Accepts the halt of `status` once. An agent that has read the consent holds the slot, and `accept` refuses."""
        if status["since_ms"] in self.accepted:
            return
        code, said = self.agent.command("slot", "accept", "--copy")
        assert code == 0, said
        self.accepted.add(status["since_ms"])

    def mended(self, target, table, is_copied):
        """The stream has passed the target, and the copies have ended."""
        status = self.agent.status()
        if (status.get("phase"), status.get("reason")) == ("halted", "publication_absent"):
            # The WAL from before the new publication is judged when it comes, and needs a consent of its own.
            self.accept(status)
        if status.get("phase") != "streaming" or lsn(status["lsn"]["delivered"]) < target:
            return False
        states = {window["table"]: window["state"] for window in status["windows"]}
        return set(states.values()) <= {"done"} and (table in states or not is_copied)


def noticed(world):
    """Each statement of "what we notice" under a running agent: told within seconds, and repaired as the agent says."""
    it = Noticed(world)
    for case in CASES:
        it.judge(case)
    it.world.until_delivered(it.pg, it.agent)
    it.agent.stop()
    equal = {"public." + it.names[case.name]: (0,) for case in CASES if not case.differs}
    world.judge(it.pg, equal, order=False)
    world.say("Postgres %d, seconds until told: %s", it.pg.major,
              ", ".join("%s %.1f" % item for item in it.seconds.items()))


SCENARIOS = [noticed]
