"""Backfills between real servers: a hot table under fire, kills during a copy, a table that joins.

The reader here is a consumer that knows Debezium's rules and no more: the newest record of a key is its row, a value that was
not sent stays as it was, and a row that moves takes along what was known of it.
"""
import os
import random
import re
import threading
import time

import decode
import observer
from rebuild import Reader, row_of, source_rows

UNSENT = "__debezium_unavailable_value"
PAUSE_MAX_SECONDS = 1.0


class Told:
    """A record as it lies in a topic of one partition."""

    def __init__(self, message, reader):
        headers = {name: value for name, value in message.headers() or [] if value is not None}
        key = reader.fast(message.key())
        self.key = tuple(key.values()) if key is not None else None
        self.value = reader.fast(message.value())
        self.run = headers.get("__debezium.context.runId")
        self.offset = message.offset()

    @property
    def op(self):
        return self.value["op"] if self.value is not None else None


def told(world, *tables):
    """The records of each table, read in one go."""
    reader = Reader(world.registry.url)
    found = {"%s.%s" % (world.prefix, table): [] for table in tables}
    for message in decode.read_all(world.kafka.brokers, world.prefix + ".", 300.0):
        if message.topic() in found:
            found[message.topic()].append(Told(message, reader))
    return list(found.values())


def rebuilt(records):
    """Key to row, following moves; a value that is nowhere is None."""
    rows, moving = {}, None
    for record in records:
        if record.value is None:
            continue
        if record.op == "t":
            rows.clear()
        elif record.op == "d":
            moving = (record.value["source"]["lsn"], rows.pop(record.key, None))
        else:
            row, known = list(row_of(record.value["after"])), rows.get(record.key)
            if record.op == "c" and moving and moving[0] == record.value["source"]["lsn"]:
                known = moving[1] or known
            moving = None
            for at, value in enumerate(row):
                if value == UNSENT:
                    row[at] = known[at] if known else None
            rows[record.key] = tuple(row)
    return rows


def out_of_time(records, version):
    """A copied row is what its run has told last of the key, if it has told anything. `version`: its column's name."""
    last, run = {}, None
    for record in records:
        if record.run != run:
            last, run = {}, record.run
        if record.value is None:
            continue
        if record.op == "t":
            last = {key: None for key in last}
        elif record.op == "r":
            now = record.value["after"][version]
            if record.key in last and last[record.key] != now:
                return "@%d: key %s copied with %s, told last %s" % (record.offset, record.key, now, last[record.key])
        else:
            after = record.value["after"]
            last[record.key] = after[version] if after is not None else None
    return None


def with_token(agent):
    path = os.path.join(agent.dir, "token")
    with open(path, "w", encoding="utf-8") as f:
        f.write("0123456789abcdef0123456789abcdef")
    agent.configure(admin={"token_file": path}, topics={"partitions": 1}, snapshot={"mode": "initial"})
    return agent


def windows(agent):
    return {window["table"]: window for window in agent.status().get("windows", [])}


def copied(world, agent, table, seconds=120.0):
    def done():
        window = windows(agent).get(table)
        assert not window or window["state"] != "failed", window
        return window and window["state"] == "done"

    world.until("%s is copied" % table, done, seconds)


def rolled_back(sql):
    """A session that is of use again: after an error within BEGIN it would refuse everything."""
    try:
        sql.execute("rollback")
        return sql
    except Exception:
        return None


class Writers:
    """Sessions that write to few keys of public.hot until told to stop."""

    def __init__(self, pg, count, keys=24, whole=True):
        self.pg, self.keys, self.over, self.statements = pg, keys, threading.Event(), 0
        self.kinds = 100 if whole else 86  # of rows only, or of the whole table too
        self.threads = [threading.Thread(target=self.run, args=(n,), daemon=True) for n in range(count)]
        for thread in self.threads:
            thread.start()

    def run(self, number):
        luck, sql, at = random.Random(number), None, 0
        while not self.over.is_set():
            try:
                sql = sql or self.pg.connect("shop")
                at += 1
                self.one(sql, luck, "%d_%d" % (number, at))
                self.statements += 1
            except Exception:  # deadlocks, timeouts and duplicate keys are part of the game
                sql = None if sql is None or sql.broken else rolled_back(sql)

    def one(self, sql, luck, mark):
        key, other, n = luck.randrange(self.keys), luck.randrange(self.keys), "n = nextval('versions')"
        what = luck.randrange(self.kinds)
        if what < 25:
            sql.execute("insert into hot (id, small, big) values (%d, 'i', repeat(md5('%s'), 200)) on conflict do nothing"
                        % (key, mark))
        elif what < 45:
            sql.execute("update hot set %s, small = '%s' where id = %d" % (n, mark, key))
        elif what < 52:
            sql.execute("update hot set %s, big = repeat(md5('%s'), 200) where id = %d" % (n, mark, key))
        elif what < 70:
            sql.execute("update hot set id = %d, %s where id = %d and not exists (select from hot where id = %d)"
                        % (other, n, key, other))
        elif what < 78:
            sql.execute("delete from hot where id = %d" % key)
        elif what < 86:
            sql.execute("begin; update hot set %s where id = %d; savepoint a; delete from hot where id = %d; "
                        "rollback to a; select pg_sleep(0.005); commit" % (n, key, key))
        elif what < 92:
            name = "p" + mark
            sql.execute("begin; update hot set %s where id = %d; prepare transaction '%s'" % (n, key, name))
            time.sleep(luck.uniform(0, 0.05))
            sql.execute("%s prepared '%s'" % (luck.choice(["commit", "commit", "rollback"]), name))
        elif what < 93:
            sql.execute("set lock_timeout = 300; truncate hot")
        elif what < 94:
            sql.execute("set lock_timeout = 300")
            sql.execute("vacuum full hot")
        elif what < 95:
            sql.execute("set lock_timeout = 300; alter table hot alter small type %s" % luck.choice(["text", "varchar(40)"]))
        else:
            sql.execute("begin; update hot set %s where id = %d; select pg_sleep(0.02); rollback" % (n, key))

    def stop(self):
        self.over.set()
        for thread in self.threads:
            thread.join()

    kill = stop


def windows_under_fire(world):
    """A hot table is published while a writer is open, copied again and again under eight writers, commits delayed, kills."""
    settings = {"max_prepared_transactions": 50, "wal_sender_timeout": "10s", "deadlock_timeout": "50ms"}
    pg = world.postgres(settings=settings)
    pg.psql("""create sequence versions;
        create table calm (id int primary key);
        create table hot (id int primary key, n bigint not null default nextval('versions'), small text, big text);
        alter table hot alter big set storage external;
        insert into hot (id, small, big) select i, 's', repeat(md5(i::text), 200) from generate_series(1, 12) i""",
            database="shop")
    agent = with_token(world.agent(pg, ["public.calm"], limits={"quarantine": "1s"}, log={"level": "debug"})).start()
    writers = world.ends(Writers(pg, 8))
    open_writer = pg.connect("shop")
    open_writer.execute("begin; insert into hot (id, small, big) values (100, 'open', 'open')")
    agent.configure(tables={"include": ["public.calm", "public.hot"]})
    code, said = agent.command("reload")
    assert code == 0, said
    world.until("the open writer is waited for", lambda: "pid" in windows(agent).get("public.hot", {}).get("detail", ""), 30)
    open_writer.execute("insert into hot (id, small, big) values (101, 'open', 'open'); commit")
    luck, ends, copies, kills = random.Random(4), time.monotonic() + world.length(40, 600), 0, 0
    while time.monotonic() < ends:
        window = windows(agent).get("public.hot")
        if window is None or window["state"] == "done":
            code, _ = agent.command("snapshot", "public.hot")
            copies += code == 0
        what = luck.randrange(12)
        if what == 0:
            agent.kill()
            agent.start()
            kills += 1
        elif what in (1, 2):
            # Commits are in the log and decoded, and nobody sees them.
            pg.psql("alter system set synchronous_standby_names = 'nobody'")
            pg.psql("select pg_reload_conf()")
            observer.pause(luck.uniform(0.1, 1.0))
            if luck.randrange(2):
                agent.kill()
                agent.start()
                kills += 1
            pg.psql("alter system set synchronous_standby_names = ''")
            pg.psql("select pg_reload_conf()")
        observer.pause(0.3)
    pg.psql("alter system set synchronous_standby_names = ''")
    pg.psql("select pg_reload_conf()")
    writers.stop()
    for name in pg.psql("select gid from pg_prepared_xacts").split():
        pg.psql("commit prepared '%s'" % name, database="shop")
    if windows(agent).get("public.hot"):
        copied(world, agent, "public.hot", 180)
    world.until_delivered(pg, agent)
    assert agent.stop() == 0
    [records] = told(world, "public.hot")
    with pg.connect("shop") as sql:
        want = {(row[0],): row for row in source_rows(sql, "hot")}
    have = rebuilt(records)
    wrong = [key for key in want.keys() | have.keys() if want.get(key) != have.get(key)]
    short = [[str(v)[:30] for v in rows.get(wrong[0], ())] for rows in (want, have)] if wrong else None
    assert not wrong, "%d of %d keys differ, %s: expected, is %s" % (len(wrong), len(want), wrong[0], short)
    late = out_of_time(records, "n")
    assert not late, late
    rows = sum(record.op == "r" for record in records)
    with open(agent.log, encoding="utf-8") as log:
        ended = sum("a backfill is complete" in line for line in log)
    assert copies > 3 and rows > 20 and ended > 3, "%d copies, %d ended, %d rows" % (copies, ended, rows)
    world.say("%d records, %d copied in %d copies, %d ended, %d kills, %d statements, table equal", len(records), rows, copies,
              ended, kills, writers.statements)


def windows_kills(world):
    """kill -9 every five seconds during a copy, writers on, rows deleted meanwhile: it ends, equal, without ghosts."""
    rows, workers = world.length(300_000, 900_000), 2
    pg = world.postgres()
    # The first copy reads them in this order: two are done when it is killed within the third, the others are not begun.
    tables = ["public.early", "public.soon", "public.hot", "public.later", "public.last"]
    pg.psql("""create sequence versions;
        create table hot (id int primary key, n bigint not null default nextval('versions'), small text, big text);
        insert into hot select i, i, 's', md5(i::text) from generate_series(1, %d) i""" % rows, database="shop")
    for table in tables:
        if table != "public.hot":
            pg.psql("create table %s (id int primary key, v text); insert into %s select i, 'v' from generate_series(1, 5000) i"
                    % (table, table), database="shop")
    pg.psql("analyze", database="shop")
    copy = {"mode": "initial", "rows_per_second": 15_000, "workers": workers, "order": tables}
    agent = with_token(world.agent(pg, tables, limits={"quarantine": "1s"}, log={"level": "debug"}))
    agent.configure(snapshot=copy)
    began_copy = time.monotonic()
    agent.start(streaming=False)

    def amid():
        tables = (agent.status().get("copy") or {}).get("tables", {})
        done = [name for name in ("public.early", "public.soon") if tables.get(name, {}).get("state") == "copied"]
        return len(done) == 2 and tables["public.hot"]["rows"] > 1000

    world.until("two tables are done and one is half done", amid, 60)
    writers = world.ends(Writers(pg, 2, keys=rows, whole=False))
    sql, kills, deleted = pg.connect("shop"), 0, 0

    def over():
        # What ended before a restart is not told of any more; what goes on is told before changes flow.
        status = agent.status()
        found = status.get("windows", [])
        assert not any(window["state"] == "failed" for window in found), found
        return status.get("phase") == "streaming" and all(window["state"] == "done" for window in found)

    while kills < 2 or not over():
        assert kills < 40, windows(agent)
        agent.kill()
        kills += 1
        for _ in range(50):
            deleted += sql.execute("delete from hot where id = %d" % random.randrange(rows)).rowcount
        agent.start()
        began = time.monotonic()
        while time.monotonic() < began + 5 and not over():
            observer.pause(0.2)
    took = time.monotonic() - began_copy
    writers.stop()
    world.until_delivered(pg, agent)
    assert agent.stop() == 0
    again, largest, records = set(), chunk_rows_max(agent), dict(zip(tables, told(world, *tables)))
    for table in tables:
        want, have = {(row[0],): row for row in source_rows(sql, table)}, rebuilt(records[table])
        ghosts, missing = have.keys() - want.keys(), want.keys() - have.keys()
        wrong = [key for key in want.keys() & have.keys() if want[key] != have[key]]
        assert not ghosts and not missing and not wrong, "%s: %d ghosts, %d missing, %d differ (%s)" % (
            table, len(ghosts), len(missing), len(wrong), (wrong or list(ghosts) or list(missing))[:3])
        kinds = {r.value["source"]["snapshot"] == "incremental" for r in records[table] if r.op == "r"}
        assert kinds, table + " was not copied"
        again |= {table} if len(kinds) == 2 else set()
    # The crash of the first copy: what was done is not copied again, and what was not is a table a worker at most.
    assert "public.hot" in again and len(again) <= workers, "copied again: %s" % sorted(again)
    # Later ones: a chunk a worker.
    repeated = [count for table in tables for count in repeated_by_run(records[table])]
    assert max(repeated, default=0) <= workers * largest, "rows repeated by each kill: %s, chunks up to %d" % (repeated, largest)
    late = out_of_time(records["public.hot"], "n")
    assert not late, late
    in_windows = sum(r.op == "r" and r.value["source"]["snapshot"] == "incremental" for r in records["public.hot"])
    assert in_windows > rows // 2 and kills >= world.length(3, 10) and deleted > 0, "%d rows of windows, %d kills" % (
        in_windows, kills)
    world.say("%d rows, %d records, %d kills in %d s, %d deleted, rows repeated by each kill %s of chunks up to %d, no ghosts",
              rows, len(records["public.hot"]), kills, took, deleted, [count for count in repeated if count], largest)


def repeated_by_run(records):
    """For each run of the program: how many rows its windows copied that windows of earlier runs had copied."""
    before, now, run, out = set(), set(), None, []
    for record in records:
        if record.run != run:
            before, now, run = before | now, set(), record.run
            out.append(0)
        if record.op == "r" and record.value["source"]["snapshot"] == "incremental":
            out[-1] += record.key in before and record.key not in now
            now.add(record.key)
    return out


def chunk_rows_max(agent):
    """The most rows that any chunk had, by the agent's log."""
    with open(agent.log, encoding="utf-8") as log:
        read = [re.search(r"rows=(\d+)", line) for line in log if "a chunk of a backfill was read" in line]
    return max(int(found.group(1)) for found in read if found)


def windows_join(world):
    """A table joins a running program, and one is read again with a condition: the others stream without a pause."""
    pg = world.postgres()
    pg.psql("""create table steady (id bigserial primary key, v text);
        create table joins (id int primary key, v text);
        insert into joins select i, md5(i::text) from generate_series(1, %d) i; analyze""" % world.length(200_000, 1_000_000),
            database="shop")
    agent = with_token(world.agent(pg, ["public.steady"])).start()
    over, gaps, joined = threading.Event(), [0.0], []

    def write():
        with pg.connect("shop") as sql:
            while not over.is_set():
                sql.execute("insert into steady (v) values ('x')")
                time.sleep(0.005)

    def watch():
        seen, at = -1, time.monotonic()
        while not over.is_set():
            changes = agent.status().get("tables", {}).get("public.steady", {}).get("changes", 0)
            now = time.monotonic()
            if changes != seen:
                gaps.append(now - at if seen >= 0 else 0.0)
                seen, at = changes, now
            time.sleep(0.02)

    writer, watcher = threading.Thread(target=write, daemon=True), threading.Thread(target=watch, daemon=True)
    writer.start()
    world.until("changes flow", lambda: agent.status()["tables"]["public.steady"]["changes"] > 50)
    watcher.start()
    agent.configure(tables={"include": ["public.steady", "public.joins"]})
    code, said = agent.command("reload")
    assert code == 0, said
    copied(world, agent, "public.joins")
    joined.append(windows(agent)["public.joins"]["rows"])
    code, said = agent.command("snapshot", "public.joins", "--where", "id <= 100")
    assert code == 0, said
    world.until("a hundred rows are read again", lambda: windows(agent)["public.joins"]["rows"] == 100
                and windows(agent)["public.joins"]["state"] == "done")
    over.set()
    writer.join()
    watcher.join()
    world.until_delivered(pg, agent)
    assert agent.stop() == 0
    assert max(gaps) < PAUSE_MAX_SECONDS, "a pause of %.2f s" % max(gaps)
    world.judge(pg, {"public.steady": (0,), "public.joins": (0,)}, order=False)
    world.say("%d rows joined, longest pause %.2f s", joined[0], max(gaps))


SCENARIOS = [windows_under_fire, windows_kills, windows_join]
