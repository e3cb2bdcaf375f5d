#!/usr/bin/env python3
"""Rates, CPU, memory and latency of the program, beside pg_recvlogical on the same backlog.

    run.py [--rounds 3] [--scale 1.0]     --scale 0.1 for a look; only a full run is written to target/bench.json

Cases: `drain_small`, a backlog of 200,000 single-row transactions; `drain_large`, one transaction of 1,000,000 rows;
`latency`, 1,000 single-row transactions a second; `snapshot`, the first copy of 2,000,000 rows, whose yardstick is
`COPY ... TO STDOUT` by psql, thrown away; `masks`, one transaction of 400,000 rows read by three pipelines in turn, one
plain, one that masks every text (a SHA-256, stars, a cut), one that leaves columns and rows out: the ratio of their CPU per
row, each the least of its rounds, since what else runs on the machine only ever adds to it; `admin`, the CPU of 200 /status a
second and a scrape each second. The program is the release build with everything switched on that it
has by default (Avro, keys, headers, ledger, metrics, acks=all) and one librdkafka setting for all cases; the brokers are
the mock cluster, a process of its own with 6 partitions a topic. The yardstick is what the server can deliver at all:
pg_recvlogical over TCP into /dev/null, with a slot of its own made before the same backlog; the two take turns, and the
one that begins changes from round to round. Every figure is the median of the rounds.

Time runs from the start of streaming or copying (the program's own word, /status; for the yardstick the walsender's state,
or psql's start) until everything is acknowledged; CPU is that of the program alone over the same stretch; memory is its peak since it started.
"""
import argparse
import http.client
import json
import os
import statistics
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(os.path.dirname(HERE), "stack")]

import dist  # noqa: E402
import servers  # noqa: E402
from agent import Agent, lsn  # noqa: E402

# Ten columns as tables have them: a key, texts, numbers, times, a null and a truth.
TABLE = """
create table public.orders (
  id bigint primary key, customer text not null, amount numeric(12,2) not null, currency char(3) not null,
  quantity integer not null, placed_at timestamptz not null, due_at timestamp, note text, paid boolean not null, rate float8);
create sequence public.order_ids;
create procedure public.fill(n integer) language plpgsql as $$
begin
  for i in 1..n loop
    insert into public.orders select * from public.made(nextval('order_ids'));
    commit;
  end loop;
end $$;
"""
ROW = """
create function public.made(i bigint) returns public.orders language sql as $$
  select i, 'customer ' || i, (i % 100000) / 100.0, 'EUR', (i % 10)::integer, '2026-01-01 00:00:00+00'::timestamptz +
    i * interval '1 millisecond', '2026-02-01 00:00:00'::timestamp, null::text, i % 2 = 0, i / 3.0::float8 $$;
"""
SMALL_ROWS, LARGE_ROWS, COPY_ROWS = 200_000, 1_000_000, 2_000_000
LATENCY_RATE, LATENCY_SECONDS = 1_000, 20
MASKS_ROWS = 400_000
# More than in the other cases: a ratio near 1 is to be told from 1.1.
MASKS_ROUNDS = 7
# Each pipeline of `masks` by its name, with what it adds to the plain configuration.
MASKS = {
    "plain": {},
    "masked": {"masks": {
        "hash": {"columns": ["public.orders.customer"], "method": "hash", "salt": "of the bench"},
        "stars": {"columns": ["public.orders.currency"], "method": "stars", "length": 3},
        "cut": {"columns": ["public.orders.note"], "method": "truncate", "length": 8},
    }},
    "filtered": {"columns": {"exclude": ["public.orders.rate", "regex:public\\.orders\\.due_.*"]}},
}
# Each pipeline of `shapes`, likewise. Every row is an event of the outbox, and passes the condition.
SHAPES = {
    "plain": {},
    "unwrap": {"transform": [{"type": "unwrap"}]},
    "outbox": {"transform": [{"type": "outbox", "route": "currency", "event_key": "customer", "payload": "customer"}]},
    "condition": {"transform": [
        {"type": "filter", "condition": "op == 't' || op == 'd' || (after.quantity >= 0 && after.currency == 'EUR')"}]},
}
# The topic of the outbox: every row of the bench has this currency.
OUTBOX_TOPIC = "outbox.event.EUR"
# One row of ten is left out by the publication of `filtered`.
FILTER = "where (id % 10 <> 0)"
IDLE_SECONDS = 10
PARTITIONS = 6
# How often /metrics is asked for the end of a drain: fine against the second that a drain takes, and cheap for the program.
POLL_SECONDS = 0.05
YARDSTICK = "yardstick"
CASES = ("drain_small", "drain_large", "latency", "snapshot", "masks", "shapes", "admin")
# Far more often than anybody asks, and how long a stretch of asking or of quiet lasts.
STATUS_RATE, ADMIN_SECONDS = 200, 10


class Bench:
    def __init__(self, options):
        self.options = options
        self.pg = servers.Postgres(15, "bench-postgres", {
            "synchronous_commit": "off", "shared_buffers": "256MB", "max_wal_size": "8GB", "autovacuum": "off",
            "checkpoint_timeout": "1h"})
        self.pg.wipe()
        self.pg.start()
        self.pg.psql("create database bench")
        self.pg.psql(TABLE.replace("create procedure", ROW + "create procedure"), database="bench")
        self.sql = self.pg.connect("bench")
        self.peers = servers.Peers("bench-peers", {"bench.public.orders": PARTITIONS, "bench.wellspring-state": 1})
        self.peers.start()
        self.agent = Agent("bench-agent", self.pg.url("bench"), self.peers.brokers, self.peers.url, "bench",
                           ["public.orders"], "bench_agent")
        self.agent.wipe()

    def close(self):
        for server in (self.agent, self.peers):
            server.kill()
        self.sql.close()
        self.pg.stop()
        self.pg.wipe()

    def backlog(self, fill):
        """Lets both slots see what `fill` writes while nobody reads; the position to reach."""
        self.agent.start()
        self.agent.stop()
        if not self.sql.execute("select 1 from pg_replication_slots where slot_name = %s", (YARDSTICK,)).fetchone():
            self.sql.execute("select pg_create_logical_replication_slot(%s, 'pgoutput')", (YARDSTICK,))
        else:
            self.sql.execute("select pg_replication_slot_advance(%s, pg_current_wal_lsn())", (YARDSTICK,))
        fill()
        self.sql.execute("checkpoint")
        target = self.sql.execute("select pg_current_wal_flush_lsn()::text").fetchone()[0]
        # A little behind the last commit, so that the yardstick has an end to reach.
        self.sql.execute("select pg_logical_emit_message(false, 'bench', 'end')")
        self.sql.execute("select pg_switch_wal()")
        return target

    def agent_drain(self, rows, target, agent=None):
        """(rows a second, CPU microseconds a row, peak MiB) of the program over the backlog."""
        agent = agent or self.agent
        agent.start(streaming=False)
        began = cpu_began = None
        deadline = time.monotonic() + 300
        while True:
            if began is None:
                status = agent.status()
                if status.get("phase") == "streaming":
                    began, cpu_began = status["since_ms"] / 1000, agent.cpu_seconds()
            elif agent.metric("wellspring_records_delivered_total") >= rows:
                break
            if time.monotonic() > deadline or not agent.alive():
                raise servers.Late("not drained: %s\n%s" % (json.dumps(agent.status()), servers.tail(agent.log)))
            time.sleep(POLL_SECONDS)
        now, cpu = time.time(), agent.cpu_seconds()
        servers.wait_until("all is delivered, by the program's word",
                           lambda: lsn(agent.status()["lsn"]["delivered"]) >= lsn(target), 30)
        peak = agent.memory_kib("VmHWM") / 1024
        agent.stop()
        return rows / (now - began), (cpu - cpu_began) * 1e6 / rows, peak

    def yardstick_drain(self, rows, target):
        command = [dist.client_tool("pg_recvlogical"), "-d", self.pg.url("bench"), "--slot", YARDSTICK, "--start", "-n",
                   "-f", "/dev/null", "--endpos", target, "-o", "proto_version=1",
                   "-o", "publication_names=bench_agent"]
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        active = "select 1 from pg_stat_replication where application_name = 'pg_recvlogical' and state <> 'startup'"
        began = time.monotonic()
        while child.poll() is None and not self.sql.execute(active).fetchone():
            began = time.monotonic()
        error = child.communicate(timeout=300)[1]
        took = time.monotonic() - began
        if child.returncode != 0:
            raise AssertionError(error.decode())
        return rows / took

    def drain(self, name, rows, fill):
        rounds = []
        for number in range(self.options.rounds):
            target = self.backlog(lambda: fill(rows))
            if number % 2 == 0:
                ours = self.agent_drain(rows, target)
                theirs = self.yardstick_drain(rows, target)
            else:
                theirs = self.yardstick_drain(rows, target)
                ours = self.agent_drain(rows, target)
            rounds.append((*ours, theirs))
            print("%-12s round %d: %8.0f rows/s, %.2f us/row, %5.1f MiB; pg_recvlogical %8.0f rows/s (%.2f times)" % (
                name, number + 1, *ours, theirs, ours[0] / theirs), flush=True)
        middle = [statistics.median(column) for column in zip(*rounds)]
        return {
            "rows_per_s": round(middle[0]), "cpu_us_per_row": round(middle[1], 3),
            "peak_rss_mib": round(max(r[2] for r in rounds), 1), "yardstick_rows_per_s": round(middle[3]),
            "rounds": len(rounds),
        }

    def masks(self, rows):
        """CPU microseconds a row of each pipeline of MASKS, and their ratios to the plain one."""
        self.sql.execute("create publication bench_filtered for table public.orders " + FILTER)
        return self.pipelines("masks", MASKS, rows)

    def shapes(self, rows):
        """The same of SHAPES."""
        return self.pipelines("shapes", SHAPES, rows)

    def pipelines(self, case, pipelines, rows):
        """The same of these pipelines, one after another over the same rows."""
        topics = {"%s.%s" % (name, topic): count
                  for name in pipelines for topic, count in (("public.orders", PARTITIONS), ("wellspring-state", 1))}
        peers = servers.Peers("bench-" + case, {**topics, OUTBOX_TOPIC: PARTITIONS})
        peers.start()
        agents = {name: Agent("bench-" + name, self.pg.url("bench"), peers.brokers, peers.url, name, ["public.orders"],
                              "bench_" + name, over) for name, over in pipelines.items()}
        costs = {name: [] for name in pipelines}
        try:
            for agent in agents.values():
                agent.wipe()
                agent.start()
                agent.stop()
            for number in range(MASKS_ROUNDS):
                self.sql.execute(
                    "insert into public.orders select m.id, m.customer, m.amount, m.currency, m.quantity, m.placed_at, m.due_at,"
                    " 'ring twice, order ' || m.id, m.paid, m.rate from (select nextval('order_ids') as i from"
                    " generate_series(1, %d)) s, lateral public.made(s.i) m" % rows)
                last = self.sql.execute("select last_value from order_ids").fetchone()[0]
                self.sql.execute("checkpoint")
                target = self.sql.execute("select pg_current_wal_flush_lsn()::text").fetchone()[0]
                self.sql.execute("select pg_switch_wal()")
                names = list(pipelines)
                for name in names[number % len(names):] + names[:number % len(names)]:
                    left_out = last // 10 - (last - rows) // 10 if name == "filtered" else 0
                    costs[name].append(self.agent_drain(rows - left_out, target, agents[name])[1])
                print("%-12s round %d: %s" % (case, number + 1, ", ".join(
                    "%s %.3f us/row" % (name, cost[-1]) for name, cost in costs.items())), flush=True)
        finally:
            for server in (*agents.values(), peers):
                server.kill()
        for name in pipelines:
            self.sql.execute("select pg_drop_replication_slot(%s)", ("bench_" + name,))
        least = {name: min(cost) for name, cost in costs.items()}
        out = {name + "_cpu_us_per_row": round(cost, 3) for name, cost in least.items()}
        for name in (name for name in pipelines if name != "plain"):
            out[name + "_ratio"] = round(least[name] / least["plain"], 3)
        return {**out, "rounds": MASKS_ROUNDS}

    def small(self, rows):
        self.sql.execute("call public.fill(%d)" % rows)

    def large(self, rows):
        self.sql.execute(
            "insert into public.orders select m.* from (select nextval('order_ids') as i from generate_series(1, %d)) s,"
            " lateral public.made(s.i) m" % rows)

    def copied(self, number, rows):
        """(rows a second, CPU microseconds a row, peak MiB) of a first copy by a pipeline of its own."""
        name = "copy%d" % number
        peers = servers.Peers("bench-" + name, {name + ".public.orders": PARTITIONS, name + ".wellspring-state": 1})
        peers.start()
        agent = Agent("bench-" + name, self.pg.url("bench"), peers.brokers, peers.url, name, ["public.orders"], name,
                      {"snapshot": {"mode": "initial"}})
        agent.wipe()
        try:
            agent.start(streaming=False)
            began = cpu_began = None
            deadline = time.monotonic() + 300
            while True:
                if began is None:
                    status = agent.status()
                    if status.get("phase") in ("snapshot", "streaming"):
                        began, cpu_began = status["since_ms"] / 1000, agent.cpu_seconds()
                elif agent.metric("wellspring_records_delivered_total") >= rows:
                    break
                if time.monotonic() > deadline or not agent.alive():
                    raise servers.Late("not copied: %s\n%s" % (json.dumps(agent.status()), servers.tail(agent.log)))
                time.sleep(POLL_SECONDS)
            now, cpu = time.time(), agent.cpu_seconds()
            agent.until_streaming()
            peak = agent.memory_kib("VmHWM") / 1024
            agent.stop()
        finally:
            agent.kill()
            peers.kill()
        self.sql.execute("select pg_drop_replication_slot(%s)", (name,))
        return rows / (now - began), (cpu - cpu_began) * 1e6 / rows, peak

    def yardstick_copy(self, rows):
        began = time.monotonic()
        with open(os.devnull, "wb") as nowhere:
            subprocess.run([dist.client_tool("psql"), "-XqAt", "-d", self.pg.url("bench"), "-c",
                            "copy public.orders to stdout"], stdout=nowhere, check=True)
        return rows / (time.monotonic() - began)

    def snapshot(self, rows):
        self.sql.execute("truncate public.orders")
        self.large(rows)
        self.sql.execute("vacuum analyze public.orders")
        self.sql.execute("checkpoint")
        rounds = []
        for number in range(self.options.rounds):
            if number % 2 == 0:
                ours = self.copied(number, rows)
                theirs = self.yardstick_copy(rows)
            else:
                theirs = self.yardstick_copy(rows)
                ours = self.copied(number, rows)
            rounds.append((*ours, theirs))
            print("%-12s round %d: %8.0f rows/s, %.2f us/row, %5.1f MiB; COPY %8.0f rows/s (%.2f of it)" % (
                "snapshot", number + 1, *ours, theirs, ours[0] / theirs), flush=True)
        middle = [statistics.median(column) for column in zip(*rounds)]
        return {
            "rows_per_s": round(middle[0]), "cpu_us_per_row": round(middle[1], 3),
            "peak_rss_mib": round(max(r[2] for r in rounds), 1), "yardstick_rows_per_s": round(middle[3]),
            "rounds": len(rounds),
        }

    def latency(self):
        """(p50, p99) in milliseconds from commit to acknowledgement at a steady rate, and the idle CPU in percent."""
        self.agent.start()
        at = self.agent.cpu_seconds()
        time.sleep(IDLE_SECONDS)
        idle = (self.agent.cpu_seconds() - at) / IDLE_SECONDS * 100
        script = os.path.join(self.agent.dir, "insert.sql")
        with open(script, "w", encoding="utf-8") as f:
            f.write("insert into public.orders select * from public.made(nextval('order_ids'));\n")

        def load(seconds):
            subprocess.run(
                [dist.client_tool("pgbench"), "-n", "-M", "prepared", "-c", "2", "-R", str(LATENCY_RATE), "-T",
                 str(int(seconds)), "-f", script, self.pg.url("bench")], check=True, capture_output=True,
                # An asynchronous commit reaches the walsender with the WAL writer's next round, 200 ms later at most.
                env={**os.environ, "PGOPTIONS": "-c synchronous_commit=on"})

        load(3)  # connections, plans and topics are there
        before = buckets(self.agent.metrics())
        load(max(3, LATENCY_SECONDS * self.options.scale))
        servers.wait_until("all is acknowledged", lambda: self.agent.status()["in_flight_records"] == 0)
        after = buckets(self.agent.metrics())
        self.agent.stop()
        counts = {edge: after[edge] - before.get(edge, 0) for edge in after}
        return quantile(counts, 0.5) * 1000, quantile(counts, 0.99) * 1000, idle


    def admin(self):
        """What asking costs, in percent of a core: (on kept connections, on a new one each), medians of interleaved windows."""
        self.agent.start()
        window = max(3, ADMIN_SECONDS * self.options.scale)

        def burned(ask):
            at, since = self.agent.cpu_seconds(), time.monotonic()
            ask(since + window)
            return (self.agent.cpu_seconds() - at) / (time.monotonic() - since) * 100

        def quiet(until):
            time.sleep(until - time.monotonic())

        kept, new = [], []
        Asker(self.agent.port, keep=True).until(time.monotonic() + 1)  # pages are in memory
        for _ in range(self.options.rounds):
            before = burned(quiet)
            kept.append(burned(Asker(self.agent.port, keep=True).until) - before)
            new.append(burned(Asker(self.agent.port, keep=False).until) - burned(quiet))
        self.agent.stop()
        return statistics.median(kept), statistics.median(new)


class Asker:
    """Asks for /status at `STATUS_RATE` and for /metrics once a second, in step with the clock."""

    def __init__(self, port, keep):
        self.port, self.keep, self.connection = port, keep, None

    def get(self, path):
        if self.connection is None:
            self.connection = http.client.HTTPConnection(servers.HOST, self.port, timeout=10)
        self.connection.request("GET", path)
        answer = self.connection.getresponse()
        body = answer.read()
        assert answer.status == 200 and body, "%s: %d" % (path, answer.status)
        if not self.keep:
            self.connection.close()
            self.connection = None

    def until(self, end):
        """Asks until then; fails if the program, or we, cannot keep the rate."""
        began, asked = time.monotonic(), 0
        while (now := time.monotonic()) < end:
            due = int((now - began) * STATUS_RATE)
            while asked < due:
                if asked % STATUS_RATE == 0:
                    self.get("/metrics")
                self.get("/status")
                asked += 1
            time.sleep(1 / STATUS_RATE)
        wanted = (end - began) * STATUS_RATE
        assert asked > 0.9 * wanted, "asked %d times of %d" % (asked, wanted)


# The program's histogram of seconds from commit to acknowledgement.
LATENCY_METRIC = "wellspring_commit_to_ack_seconds"


def buckets(metrics):
    """Upper edge to cumulated count."""
    out = {}
    for name, count in metrics.items():
        if name.startswith(LATENCY_METRIC + "_bucket"):
            edge = name.split('le="')[1].split('"')[0]
            edge = float("inf") if edge == "+Inf" else float(edge)
            out[edge] = out.get(edge, 0) + count
    return out


def quantile(counts, q):
    """By linear interpolation inside its bucket, as Prometheus does it."""
    edges = sorted(counts)
    total = counts[edges[-1]] if edges else 0
    if not total:
        raise AssertionError("no sample in " + LATENCY_METRIC)
    low, below = 0.0, 0.0
    for edge in edges:
        if counts[edge] >= q * total:
            if edge == float("inf"):
                return low
            return low + (edge - low) * (q * total - below) / (counts[edge] - below)
        low, below = edge, counts[edge]
    return low


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--only", default=",".join(CASES))
    options = parser.parse_args()
    os.environ.setdefault("WELLSPRING_PROFILE", "release")
    only = options.only.split(",")
    bench = Bench(options)
    out, idle = {}, None
    try:
        if "drain_small" in only:
            out["drain_small"] = bench.drain("drain_small", int(SMALL_ROWS * options.scale), bench.small)
        if "drain_large" in only:
            out["drain_large"] = bench.drain("drain_large", int(LARGE_ROWS * options.scale), bench.large)
        if "latency" in only:
            p50, p99, idle = bench.latency()
            out["latency"] = {"p50_ms": round(p50, 2), "p99_ms": round(p99, 2)}
        if "snapshot" in only:
            out["snapshot"] = bench.snapshot(int(COPY_ROWS * options.scale))
        if "masks" in only:
            out["masks"] = bench.masks(int(MASKS_ROWS * options.scale))
        if "shapes" in only:
            out["shapes"] = bench.shapes(int(MASKS_ROWS * options.scale))
        if "admin" in only:
            kept, new = bench.admin()
            out["admin"] = {"kept_percent": round(kept, 2), "new_percent": round(new, 2)}
    finally:
        bench.close()
    print("\n%-12s %12s %12s %10s %14s %8s" % ("case", "rows/s", "us CPU/row", "peak MiB", "yardstick", "times"))
    for name in ("drain_small", "drain_large", "snapshot"):
        if name in out:
            c = out[name]
            print("%-12s %12d %12.2f %10.1f %14d %8.2f" % (
                name, c["rows_per_s"], c["cpu_us_per_row"], c["peak_rss_mib"], c["yardstick_rows_per_s"],
                c["rows_per_s"] / c["yardstick_rows_per_s"]))
    if "latency" in out:
        print("%-12s p50 %.2f ms, p99 %.2f ms at %d tx/s; idle %.2f %% CPU" % (
            "latency", out["latency"]["p50_ms"], out["latency"]["p99_ms"], LATENCY_RATE, idle))
    if "masks" in out:
        m = out["masks"]
        print("%-12s plain %.2f, masked %.2f, filtered %.2f us CPU/row: %.3f and %.3f times the plain" % (
            "masks", m["plain_cpu_us_per_row"], m["masked_cpu_us_per_row"], m["filtered_cpu_us_per_row"], m["masked_ratio"],
            m["filtered_ratio"]))
    if "shapes" in out:
        s = out["shapes"]
        print("%-12s plain %.2f us CPU/row; %s times that" % ("shapes", s["plain_cpu_us_per_row"], ", ".join(
            "%s %.3f" % (name, s[name + "_ratio"]) for name in SHAPES if name != "plain")))
    if "admin" in out:
        print("%-12s %d /status and 1 /metrics a second: %.2f %% of a core on a kept connection, %.2f %% on a new one each" % (
            "admin", STATUS_RATE, out["admin"]["kept_percent"], out["admin"]["new_percent"]))
    if options.scale == 1.0 and set(out) == set(CASES):
        path = os.path.join(dist.TOP, "target", "bench.json")
        with open(path, "w", encoding="utf-8") as f:
            json.dump(out, f, indent=1)
            f.write("\n")
        print("written: target/bench.json")
    return 0


if __name__ == "__main__":
    sys.exit(main())
