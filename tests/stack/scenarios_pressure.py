"""Back-pressure is ordinary: a slow or silent broker costs time, and nothing else.

Rows of 100 bytes, 4 KiB, 64 KiB and one of almost 1 MiB go to a broker that takes 2 MB a second or is silent for a while.
They come from the stream, from the first copy and from backfills, under each budget and in each format.
"""
import threading

import disturb
import observer
from agent import lsn
from rebuild import disorder, duplicates, unequal
from scenarios_windows import windows, with_token

# What one client may produce a second while the broker is slow: a quota that managed Kafkas have.
SLOW_BYTES_PER_SECOND = 2_000_000
PAUSE_SECONDS, PAUSE_SHORT_SECONDS = 15, 5
# The largest value that, with its envelope, still fits a record of the producer's default limit (1,048,576 bytes).
TOP_BYTES = (1 << 20) - (16 << 10)
# One pass over a table is this many transactions. Progress can then be confirmed before the pass is over.
TRANSACTIONS = 8

SETUP = """
create table seed (bytes bytea);
alter table seed alter bytes set storage external;
insert into seed select string_agg(decode(md5(i::text), 'hex'), '' order by i) from generate_series(1, 65536) i;
create table small (id int primary key, n int not null default 0, v text);
create table medium (id int primary key, n int not null default 0, v text);
create table large (id int primary key, n int not null default 0, v text);
alter table small alter v set storage external;
alter table medium alter v set storage external;
alter table large alter v set storage external;
"""
# Hexadecimal digits of a piece of one megabyte. lz4 does not shrink them, so a row is as large on the wire as in its table.
PIECE = "(select encode(substr(bytes, 1 + (hashint4(%s) & 524287), %s / 2), 'hex') from seed)"

# docs/guarantees.md: what may come on top of an idle process and the budget. Compressed requests on their way to each
# broker (five of 1 MB), the read buffer and the row being encoded are of fixed size. The allocator keeps more where rows
# of 4 KiB make way for rows of 64 KiB: up to 37 MiB were seen with jemalloc, and up to 49 MiB with glibc's allocator.
ABOVE_BUDGET_MAX_KIB = 48 * 1024


def size_of(table):
    return {"small": "100", "medium": "4096", "large": "(case id when 1 then %d else 65536 end)" % TOP_BYTES}[table]


class Rows:
    """The three tables: how many rows each has, and writing them."""

    def __init__(self, pg, counts):
        self.pg, self.counts = pg, counts
        pg.psql(SETUP, database="shop")
        for table, count in counts.items():
            size = size_of(table)
            pg.psql("insert into %s select id, 0, %s from generate_series(1, %d) id" % (
                table, PIECE % ("id", size), count), database="shop")
        pg.psql("analyze", database="shop")

    @property
    def names(self):
        return ["public." + table for table in self.counts]

    @property
    def keys(self):
        return {name: (0,) for name in self.names}

    def update(self, table, transactions=range(TRANSACTIONS)):
        """Updates each row once over all transactions; how many rows. The large value changes too, so it is sent."""
        piece, count = PIECE % ("id + n + 1", size_of(table)), 0
        with self.pg.connect("shop") as sql:
            for part in transactions:
                where = "id %% %d = %d" % (TRANSACTIONS, part)
                count += sql.execute("update %s set n = n + 1, v = %s where %s" % (table, piece, where)).rowcount
        return count


class Progress(threading.Thread):
    """Reads the status ten times a second and notes each figure that went back, and each reconnect."""

    def __init__(self, agent):
        super().__init__(daemon=True)
        self.agent, self.over = agent, threading.Event()
        self.last, self.back, self.confirmed = {}, [], set()

    def run(self):
        while not self.over.wait(0.1):
            status = self.agent.status()
            if status:
                self.look(status)

    def look(self, status):
        positions = status.get("lsn") or {}
        self.confirmed.add(positions.get("confirmed"))
        figures = {"confirmed": lsn(positions.get("confirmed") or "0/0"),
                   "delivered": lsn(positions.get("delivered") or "0/0"),
                   "rows of the first copy": (status.get("copy") or {}).get("rows", 0)}
        for window in status.get("windows", []):
            figures["rows copied of " + window["table"]] = window["rows"]
        for name, now in figures.items():
            if now < self.last.get(name, 0):
                self.back.append("%s went from %d back to %d" % (name, self.last[name], now))
        broken = [error["message"] for error in status.get("errors", []) if error["reason"] == "stream_broke"]
        lost = max(status.get("reconnects", 0), len(broken))
        if lost > self.last.get("lost", 0):
            self.back.append("it lost its connection: %s" % (broken or status.get("reason")))
        self.last = {**figures, "lost": lost}

    def hold(self):
        """Nothing has gone back so far."""
        assert not self.back, "; ".join(self.back[:5])

    def kill(self):
        self.over.set()
        if self.is_alive():
            self.join()


class Case:
    """One run: rows go through one place under one budget, while the broker is slow or is silent for a while."""

    def __init__(self, world, rows, place, memory, broker):
        """`broker` is "slow", or the tables amid which the broker is silent for a while."""
        self.world, self.rows, self.place, self.memory = world, rows, place, memory
        self.slow, self.pauses = broker == "slow", () if broker == "slow" else broker
        self.pause = world.length(PAUSE_SHORT_SECONDS, PAUSE_SECONDS)
        world.cases = getattr(world, "cases", 0) + 1
        world.prefix = "%s_%d" % (world.name.replace("-", "_"), world.cases)
        world.slot = "ws_" + world.prefix
        self.name = "%s, broker %s, %s" % (place, "slow" if self.slow else "paused", memory)

    def run(self):
        world, pg = self.world, self.rows.pg
        agent = world.agent(pg, self.rows.names, "agent-%d" % world.cases, events={"format": world.format},
                            limits={"memory": self.memory}, snapshot={"order": self.rows.names})
        with_token(agent)
        agent.configure(topics={"partitions": 3}, snapshot={"mode": "initial" if self.place == "copy" else "no_data"})
        self.updated = {}
        try:
            if self.slow:
                with disturb.slowed(world.kafka, SLOW_BYTES_PER_SECOND):
                    self.through(agent)
            else:
                self.through(agent)
        except Exception:
            world.say("failed in: %s", self.name)
            raise
        self.judge(agent)

    def through(self, agent):
        self.progress = self.world.ends(Progress(agent))
        agent.start(streaming=False)
        # An agent in one of these phases for the first time has read no rows yet.
        agent.ready(lambda: agent.phase() in ("snapshot", "streaming"), 60)
        self.idle = agent.memory_kib()
        self.progress.start()
        {"copy": self.copy, "stream": self.stream, "windows": self.windows}[self.place](agent)
        self.delivered(agent)
        self.progress.kill()
        self.progress.hold()
        self.peak = agent.memory_kib("VmHWM")
        assert agent.stop() == 0, "%s: a clean stop ends with 0" % self.name

    def amid(self, name, begun):
        """If this case asks for a silent broker amid the table: it is silent from the moment that `begun` holds."""
        if name in self.pauses:
            self.until("rows are under way", begun, 120)
            disturb.pause(self.world.kafka, self.pause)

    def until(self, what, condition, seconds):
        """Waits for a condition. A figure that goes back in the meantime is an error at once."""
        self.world.until(what, lambda: self.progress.hold() or condition(), seconds)

    def delivered(self, agent):
        self.world.until_delivered(self.rows.pg, agent, 600, self.progress.hold)

    def copy(self, agent):
        def rows(table):
            return ((agent.status().get("copy") or {}).get("tables", {}).get(table) or {}).get("rows", 0)

        for name in self.rows.names:
            self.amid(name, lambda: rows(name) > 0)
        self.until("the copy is over", lambda: agent.phase() == "streaming", 600)

    def stream(self, agent):
        agent.until_streaming()
        # A silent broker keeps the program from planning a table, and then no rows are under way. So each table is
        # planned first; the second wait is for the message by which the first one marked its end.
        self.updated = {table: self.rows.update(table, [1]) for table in self.rows.counts}
        self.delivered(agent)
        self.delivered(agent)
        for name, table in zip(self.rows.names, self.rows.counts):
            if name in self.pauses:
                with disturb.paused(self.world.kafka):
                    self.updated[table] += self.rows.update(table)
                    self.until("the budget is full", lambda: self.full(agent, table), 120)
                    observer.pause(self.pause)
            else:
                self.updated[table] += self.rows.update(table)
        self.delivered(agent)

    def full(self, agent, table):
        """The budget is used up, or holds every row of the table."""
        status = agent.status()
        return (status.get("in_flight_records", 0) >= self.rows.counts[table]
                or status.get("in_flight_bytes", 0) >= 0.8 * status.get("budget_bytes", float("inf")))

    def windows(self, agent):
        agent.until_streaming()
        tables = list(self.rows.counts)
        # A transaction is 4 to 5 MB at full length: the writer stays below what the slow broker takes.
        writer = disturb.Paced(self.world.length(1, 0.2), lambda number: self.rows.update(tables[number % 3], [number % TRANSACTIONS]))
        self.world.ends(writer)
        for name in self.rows.names:
            code, said = agent.command("snapshot", name)
            assert code == 0, said
            self.amid(name, lambda: windows(agent).get(name, {}).get("rows", 0) > 0)

        def ended():
            found = [windows(agent).get(name, {}) for name in self.rows.names]
            assert not any(window.get("state") == "failed" for window in found), found
            return all(window.get("state") == "done" for window in found)

        self.until("all tables are copied", ended, 600)
        writer.stop()

    def judge(self, agent):
        world, progress = self.world, self.progress
        budget = agent_budget_kib(self.memory)
        assert self.peak <= self.idle + budget + ABOVE_BUDGET_MAX_KIB, "%s: idle %d KiB, peak %d KiB, budget %d KiB" % (
            self.name, self.idle, self.peak, budget)
        events = world.events()
        with self.rows.pg.connect("shop") as sql:
            wrong = unequal(sql, events, world.prefix, self.rows.keys)
        if self.place != "windows":
            for found in events.values():
                wrong += disorder(found)
        assert not wrong, self.name + ": " + "\n".join(wrong)
        op, records = ("u" if self.updated else "r"), 0
        for name, count in zip(self.rows.names, (self.updated or self.rows.counts).values()):
            found = events["%s.%s" % (world.prefix, name)]
            again = duplicates(found)
            assert again == 0, "%s: %d of %d records of %s came twice" % (self.name, again, len(found), name)
            told = sum(e.value["op"] == op for e in found)
            assert told == count, "%s: %d records for %d rows of %s" % (self.name, told, count, name)
            records += len(found)
        if self.place == "stream" and self.slow:
            moves = len(progress.confirmed) - 1
            assert moves >= TRANSACTIONS, "%s: confirmed moved %d times" % (self.name, moves)
        world.say("%s: %d records, %d MiB over idle", self.name, records, (self.peak - self.idle) // 1024)
        self.clean(agent)

    def clean(self, agent):
        """Removes slot, publication and topics, for the next case. A case that failed keeps them."""
        pg = self.rows.pg
        disturb.drop_slot(pg, self.world.slot)
        pg.psql("drop publication if exists %s" % self.world.slot, database="shop")
        disturb.delete_topics(self.world.kafka, self.world.prefix + ".")
        self.world.agents.remove(agent)


def agent_budget_kib(memory):
    number, unit = int(memory[:-3]), memory[-3:]
    return number * {"MiB": 1024, "GiB": 1024 * 1024}[unit]


# More rows than the 100,000 records that a producer's queue takes by default, for a budget that bytes never fill.
MANY = {"small": 150_000, "medium": 10_000, "large": 500}
EACH = ("public.small", "public.medium", "public.large")
FULL = [(place, memory, broker) for place in ("stream", "copy", "windows") for memory in ("16MiB", "32MiB", "1GiB")
        for broker in ("slow", EACH)]


def pressure(world, wire, short_rows, *short):
    world.format = wire
    rows = Rows(world.postgres(), world.length(short_rows, MANY))
    for place, memory, broker in world.length(short, FULL):
        Case(world, rows, place, memory, broker).run()


def pressure_avro(world):
    """Avro: a slow or silent broker costs no reconnect, no repeated event and no progress."""
    pressure(world, "avro", {"small": 10_000, "medium": 6_000, "large": 50}, ("stream", "16MiB", "slow"))


def pressure_json(world):
    """The same as JSON."""
    pressure(world, "json", {"small": 5_000, "medium": 6_000, "large": 50}, ("copy", "16MiB", ("public.medium",)),
             ("windows", "16MiB", "slow"))


def pressure_json_schema(world):
    """The same as JSON with a schema in the registry."""
    pressure(world, "json-schema", {"small": 120_000, "medium": 100, "large": 5}, ("stream", "1GiB", ("public.small",)))


SCENARIOS = [pressure_avro, pressure_json, pressure_json_schema]
