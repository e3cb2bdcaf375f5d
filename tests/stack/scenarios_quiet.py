"""Statements that lose nothing, again and again under load: the agent halts for none, asks nobody, and tells nothing."""
import time

import disturb
import observer
import psycopg

TABLES = {"public.items": (0,), "public.lines": None}
SETUP = """
create role somebody superuser; create table items (id int primary key, v text, n int); create index items_v on items (v);
create table lines (id int, v text); alter table lines replica identity full; create index lines_id on lines (id);
create table other (id int primary key, v text); create schema beside; create sequence moved;
insert into items select g, 'first', 0 from generate_series(0, 499) g;
"""
PER_SECOND = 100
# Each pass adds two columns and drops them, and a table has at most 1600 with the dropped ones. 600 s make 400 passes.
PASS_SECONDS = 1.5
# A session that plans while another one drops a statistics object can fail so; the same transaction then passes.
RACE = psycopg.errors.InternalError_
# Each is run by itself. What one creates, another one drops, so that the list can be run again.
STATEMENTS = """
analyze
vacuum full items
cluster items using items_pkey
create index concurrently items_n on items (n)
reindex table concurrently items
drop index concurrently items_n
grant select on items to somebody
revoke select on items from somebody
comment on table items is 'quiet'
alter table items add column extra int
alter table items add column filled int not null default 7
alter table items owner to somebody
alter table items owner to postgres; alter table items owner to somebody
reindex table items
alter publication {publication} add table other
alter publication {publication} drop table other
vacuum (freeze) items
vacuum (freeze) pg_class
alter table items alter column v set statistics 200
alter table items alter column v set storage external
alter table items alter column v set storage extended
alter table other rename to moved_other
alter table moved_other rename to other
create table beside.u (id int primary key); drop table beside.u
create publication unrelated for table other
drop publication unrelated
create view seen as select id from items
drop view seen
create statistics items_s on id, v from items
drop statistics items_s
alter table items set (fillfactor = 70)
alter table items reset (fillfactor)
alter table items add constraint positive check (id >= 0)
alter table items drop constraint positive
create function nothing() returns trigger language plpgsql as 'begin return new; end'
create trigger quiet before insert on items for each row execute function nothing()
drop trigger quiet on items
drop function nothing()
alter table items enable row level security
alter table items disable row level security
alter table items cluster on items_pkey
alter table items set without cluster
alter table items drop column extra
alter table items drop column filled
vacuum full lines
vacuum full pg_publication_rel
refresh
""".strip().splitlines()
# `refresh` stands for what only some majors have.
SINCE = {19: ["repack items", "repack (concurrently) items"]}
# What the watch may say of such statements: nothing, not even a word.
FINDINGS = "wellspring_watch_findings_total"


class Load:
    """Inserts, updates and deletes in both tables."""

    def __init__(self, pg):
        self.sql, self.raced = pg.connect("shop"), 0
        self.paced = disturb.Paced(PER_SECOND, self.write)

    def write(self, number):
        try:
            self.transaction(number)
        except RACE as error:
            assert "cache lookup failed" in str(error), error
            self.sql.execute("rollback")
            self.raced += 1
            self.transaction(number)

    def transaction(self, number):
        at = number % 500
        self.sql.execute("begin; update items set v = 'v%d', n = %d where id = %d; delete from lines where id = %d;"
                         "insert into lines values (%d, 'l%d'); delete from items where id = %d;"
                         "insert into items (id, v, n) values (%d, 'new', %d); commit" % (
                             number, number, at, number - 200, number, number, (at + 250) % 500, (at + 250) % 500, number))

    def stop(self):
        rate = self.paced.stop()
        self.sql.close()
        return rate


def told(agent, before):
    """What the agent says beyond what it said before the statements."""
    status = agent.status()
    assert status["phase"] == "streaming" and not status["needs_a_person"], status
    return [warning for warning in status["warnings"] if warning not in before]


def quiet_statements(world):
    """Harmless statements again and again under load: no halt, nothing for a person, no word; tables equal topics."""
    pg = world.postgres(15)
    pg.psql(SETUP, database="shop")
    # In JSON, because a registry has an opinion on columns that come and go.
    world.format = "json"
    agent = world.agent(pg, list(TABLES), snapshot={"mode": "initial"}, events={"format": "json"})
    agent.start()
    world.until_delivered(pg, agent)
    before, load = agent.status()["warnings"], Load(pg)
    passes, began = 0, time.monotonic()
    ends = began + world.length(10, 600)
    with pg.connect("shop") as sql:
        while passes == 0 or time.monotonic() < ends:
            for statement in STATEMENTS:
                more = [text for major, texts in SINCE.items() if pg.major >= major for text in texts]
                for text in more if statement == "refresh" else [statement]:
                    sql.execute(text.format(publication=world.slot))
                    assert not told(agent, before), (text, told(agent, before))
            passes += 1
            assert not load.paced.failed, load.paced.failed
            observer.pause(max(0.0, began + passes * PASS_SECONDS - time.monotonic()))
    rate = load.stop()
    pg.psql("update items set n = n", database="shop")  # no event tells that columns are gone
    world.until_delivered(pg, agent, world.length(120, 900))
    assert not told(agent, before), told(agent, before)
    found = {name: count for name, count in agent.metrics().items() if name.startswith(FINDINGS) and count}
    assert not found and agent.status()["reconnects"] == 0, (found, agent.status()["reconnects"])
    # This one is told, so that a look has seen the others.
    pg.psql("alter publication %s owner to somebody" % world.slot, database="shop")
    world.until("a look", lambda: any("publication_extended" in w for w in told(agent, before)), 30)
    assert agent.stop() == 0
    world.say("Postgres %d: %d statements %d times at %.0f transactions a second, %d tried twice", pg.major,
              len(STATEMENTS), passes, rate, load.raced)
    world.judge(pg, TABLES, order=False)


SCENARIOS = [quiet_statements]
