"""Copies of existing rows between real servers, while they are written to. As `scenarios`: a story with facts at its end."""
import os

import observer

# Tables with the places of their keys: a large one, ten small ones, partitions, one without a key, large values.
SMALL = ["public.small_%d" % n for n in range(10)]
TABLES = {"public.big": (0,), "public.parted": (0, 1), "public.keyless": None, "public.blobs": (0,),
          **{name: (0,) for name in SMALL}}

SETUP = """
create table public.big (id bigint primary key, a int, b int, c text, d text, e bigint, f int, g text, h boolean, i text);
insert into public.big select g, g % 7, 0, 'customer ' || g, null, g * 1000, 5, 'EUR', g % 2 = 0, md5(g::text)
  from generate_series(1, {big}) g;
create table public.parted (id int, part int, v text, primary key (id, part)) partition by list (part);
create table public.parted_1 partition of public.parted for values in (1);
create table public.parted_2 partition of public.parted for values in (2);
create table public.parted_3 (v text, part int not null, id int not null);
alter table public.parted attach partition public.parted_3 for values in (3);
insert into public.parted select g, g % 3 + 1, 'v' from generate_series(1, 30000) g;
create table public.keyless (n int, v text);
alter table public.keyless replica identity full;
insert into public.keyless select g % 1000, 'v' || g from generate_series(1, 20000) g;
create table public.blobs (id int primary key, n int, large text);
alter table public.blobs alter column large set storage external;
alter table public.blobs replica identity full;
insert into public.blobs select g, 0, repeat(md5(g::text), 31250) from generate_series(1, 12) g;
"""
LOAD = r"""
\set big random(1, {big})
\set id random(1, 30000)
\set small random(0, 9)
\set key random(1, 200)
\set blob random(1, 12)
\set what random(1, 100)
update public.big set b = b + 1, d = 'changed' where id = :big;
delete from public.big where id = :big + 1 and :what < 20;
insert into public.big values ({big} + nextval('public.ids'), 1, 2, 'new', null, 1, 2, 'EUR', true, 'x');
update public.parted set v = v || 'x' where id = :id;
insert into public.keyless values (:id, 'new');
delete from public.keyless where n = :key and v = 'v' || :key;
update public.small_{small} set v = v + 1 where id = :key;
update public.blobs set n = n + 1 where id = :blob and :what < 2;
"""


# A large value before and after an update is two of them.
LARGE = {"kafka": {"client": {"message.max.bytes": 4 << 20}},
         "topics": {"partitions": 3, "extra": {"max.message.bytes": 4 << 20}}}


def filled(world, big, settings=None):
    pg = world.postgres(settings=settings)
    pg.psql(SETUP.format(big=big), database="shop")
    pg.psql("create sequence public.ids", database="shop")
    for name in SMALL:
        pg.psql("create table %s (id int primary key, v int); insert into %s select g, 0 from generate_series(1, 200) g"
                % (name, name), database="shop")
    pg.psql("analyze", database="shop")
    return pg


def loaded(world, pg, big):
    """pgbench on every table, until it is told to stop."""
    scripts = []
    for number in range(10):
        path = os.path.join(world.agents[0].dir, "load-%d.sql" % number)
        with open(path, "w", encoding="utf-8") as f:
            f.write(LOAD.format(big=big, small=number))
        scripts += ["-f", path]
    return world.pgbench(pg, "-n", "-c", "2", "-T", "900", *scripts, background=True)


def copied(agent):
    """How many rows the first copy has sent; everything once it is over."""
    status = agent.status()
    copy = status.get("copy") or {}
    return float("inf") if status.get("phase") == "streaming" else copy.get("rows", 0)


def copy_under_writes(world):
    """A large table, ten small ones, partitions, one without key and large values are copied while pgbench writes."""
    big = world.length(200_000, 2_000_000)
    pg = filled(world, big)
    agent = world.agent(pg, TABLES, **LARGE, snapshot={"mode": "initial"})
    load = loaded(world, pg, big)
    observer.pause(2)
    agent.start(seconds=600)
    observer.pause(3)
    assert load.poll() is None, "pgbench ended before the copy"
    load.terminate()
    load.wait()
    world.until_delivered(pg, agent, 600)
    status = agent.status()
    peak = agent.memory_kib("VmHWM")
    assert agent.stop() == 0
    tables = status["copy"]["tables"]
    assert all(table["state"] == "copied" for table in tables.values()), tables
    events = world.judge(pg, TABLES)
    changes = {table: sum(e.value is not None and e.value["op"] in "cud" for e in events["%s.%s" % (world.prefix, table)])
               for table in TABLES}
    assert all(changes.values()), "tables that were not written to: %s" % changes
    assert tables["public.big"]["rows"] >= big * 9 // 10, tables["public.big"]
    marks = [e.value["source"]["snapshot"] for found in events.values() for e in found if e.value and e.value["op"] == "r"]
    assert marks.count("last") == 1 and marks.count("first") == 1, (marks.count("first"), marks.count("last"))
    assert marks.count("last_in_data_collection") + 1 == len(TABLES), marks.count("last_in_data_collection")
    assert len(marks) == sum(table["rows"] for table in tables.values())
    world.say("%d rows copied in %.0f s, %d changes, peak %d MiB", len(marks), status["copy"]["seconds"], sum(changes.values()),
              peak // 1024)


def copy_through_a_broker_crash(world):
    """kill -9 of the broker during the copy: it begins again under the same snapshot, and nothing is missing."""
    big = world.length(200_000, 1_000_000)
    pg = filled(world, big)
    agent = world.agent(pg, TABLES, **LARGE, snapshot={"mode": "initial", "rows_per_second": big // 10})
    load = loaded(world, pg, big)
    agent.start(streaming=False)
    agent.ready(lambda: copied(agent) > big // 5, 120)
    world.kafka.kill()
    observer.pause(2)
    world.kafka.start()
    agent.until_streaming(600)
    load.terminate()
    load.wait()
    world.until_delivered(pg, agent, 600)
    assert agent.stop() == 0
    world.judge(pg, TABLES)


def copy_of_a_killed_agent_is_told(world):
    """kill -9 of the program during the copy: the next start says so and skips nothing; with consent it begins anew."""
    big = 100_000
    pg = filled(world, big)
    agent = world.agent(pg, TABLES, **LARGE, snapshot={"mode": "initial_only", "rows_per_second": 20_000}, limits={"quarantine": "1s"})
    agent.start(streaming=False)
    agent.ready(lambda: copied(agent) > big // 5, 120)
    agent.kill()
    pg.psql("delete from public.big where id % 3 = 0", database="shop")
    agent.start(streaming=False)
    status = agent.until_halted()
    assert status["reason"] == "copy_unfinished", status
    agent.stop()
    agent.configure(snapshot={"mode": "when_needed", "rows_per_second": 1_000_000})
    agent.start(seconds=300)
    world.until_delivered(pg, agent)
    assert agent.stop() == 0
    world.say("halted: %s", status["detail"])


SCENARIOS = [copy_under_writes, copy_through_a_broker_crash, copy_of_a_killed_agent_is_told]
