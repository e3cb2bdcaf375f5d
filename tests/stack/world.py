"""What a scenario stands on: servers of its own, the program between them, and waits that explain themselves."""
import json
import os
import subprocess

import dist
import servers
from agent import Agent, lsn
from rebuild import READERS, disorder, unequal
from servers import wait_until

# TPC-B's tables with the places of their keys; history has none.
TPCB = {"public.pgbench_accounts": (0,), "public.pgbench_branches": (0,), "public.pgbench_tellers": (0,),
        "public.pgbench_history": None}


class World:
    """Kafka and registry shared by all scenarios of a run; Postgres, prefix, slot and agent are the scenario's own."""

    def __init__(self, name, kafka, registry, full, major=None):
        self.name, self.kafka, self.registry, self.full = name, kafka, registry, full
        self.major = major  # of Postgres, instead of the scenario's own
        self.prefix = name.replace("-", "_")
        self.slot = "ws_" + self.prefix
        self.clusters, self.agents, self.others = [], [], []
        self.said = []
        self.format = "avro"  # of the events that are read back

    def say(self, text, *values):
        """A fact for the summary line."""
        self.said.append(text % values if values else text)

    def length(self, short, full):
        """A length by how much time there is."""
        return full if self.full else short

    # -- what a scenario asks for

    def postgres(self, major=15, name="", settings=None, database="shop"):
        cluster = servers.Postgres(self.major or major, "%s-postgres%s" % (self.name, name), settings)
        cluster.wipe()
        cluster.start()
        cluster.psql('create database "%s"' % database)
        self.clusters.append(cluster)
        return cluster

    def agent(self, pg, tables, name="agent", database="shop", brokers=None, **over):
        settings = {"events": {"identity_headers": True}, "topics": {"partitions": 3}}
        agent = Agent("%s-%s" % (self.name, name), pg.url(database), brokers or self.kafka.brokers, self.registry.url,
                      self.prefix, tables, self.slot, settings)
        agent.wipe()
        agent.configure(**over)
        self.agents.append(agent)
        return agent

    def ends(self, thing):
        """`thing.kill()` when the scenario is over."""
        self.others.append(thing)
        return thing

    # -- waits

    def until(self, what, condition, seconds=60.0):
        return wait_until(what, condition, seconds)

    def until_delivered(self, pg, agent, seconds=120.0, hold=lambda: None):
        """Everything the server has written so far is in Kafka, by the agent's word. `hold` is called at each look."""
        target = lsn(pg.psql("select pg_current_wal_lsn()"))
        pg.psql("select pg_logical_emit_message(false, 'world', 'mark'), pg_switch_wal()", database="shop")

        def there():
            hold()
            status = agent.status()
            return bool(status) and lsn(status["lsn"]["delivered"]) >= target

        agent.ready(there, seconds)

    def until_confirmed(self, pg, seconds=60.0):
        """The slot has passed everything the server has written so far."""
        target = lsn(pg.psql("select pg_current_wal_lsn()"))
        self.until("the slot has passed %X" % target, lambda: self.confirmed(pg) >= target, seconds)

    def confirmed(self, pg):
        return lsn(pg.psql("select coalesce(confirmed_flush_lsn, '0/0') from pg_replication_slots where slot_name = '%s'"
                           % self.slot) or "0/0")

    def walsender(self, pg):
        """The process that serves the slot; 0 if there is none."""
        return int(pg.psql("select active_pid from pg_replication_slots where slot_name = '%s'" % self.slot) or 0)

    # -- load and judgement

    def pgbench(self, pg, *arguments, database="shop", background=False):
        command = [dist.client_tool("pgbench"), *arguments, pg.url(database)]
        if background:
            child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            self.others.append(child)
            return child
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def tpcb_tables(self, pg, scale=1):
        self.pgbench(pg, "-i", "-I", "dtp", "-s", str(scale), "-q")
        pg.psql("alter table pgbench_history replica identity full", database="shop")

    def events(self):
        return READERS[self.format](self.registry.url).events(self.kafka.brokers, self.prefix)

    def judge(self, pg, tables, order=True, events=None):
        """Tables equal topics, and every key's order was kept; the events."""
        events = events if events is not None else self.events()
        with pg.connect("shop") as sql:
            wrong = unequal(sql, events, self.prefix, tables)
        if order:
            for found in events.values():
                wrong += disorder(found)
        assert not wrong, "\n".join(wrong)
        self.say("%d records, tables equal%s", sum(len(v) for v in events.values()), ", order kept" if order else "")
        return events

    # -- the end

    def explain(self):
        """What to look at when it went wrong."""
        out = []
        for agent in self.agents:
            out.append("--- %s (%s)\n%s" % (agent.name, agent.log, servers.tail(agent.log, 60)))
            if agent.alive():
                out.append("--- its status\n" + json.dumps(agent.status(), indent=1))
        for pg in self.clusters:
            if pg.alive():
                row = pg.psql("select row_to_json(s) from pg_replication_slots s", check=False)
                out.append("--- slots of %s\n%s" % (pg.name, row))
            out.append("--- %s\n%s" % (pg.log, servers.tail(pg.log, 15)))
        return "\n".join(out)

    def close(self, keep):
        for thing in self.others:
            thing.kill()
        for agent in self.agents:
            agent.kill()
        for pg in self.clusters:
            pg.kill()
            if not keep:
                pg.wipe()


def process_state(pid):
    """R, S, T and so on; empty when it is gone."""
    try:
        with open("/proc/%d/stat" % pid, encoding="utf-8") as f:
            return f.read().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def copy_tree(source, target):
    subprocess.run(["cp", "-a", source, target], check=True)


__all__ = ["TPCB", "World", "copy_tree", "os", "process_state"]
