#!/usr/bin/env python3
"""docs/getting-started.md followed to the letter: its SQL, its file and its commands, against real servers.

Only addresses are exchanged (the page says localhost and the usual ports), and the consumer of the last step by one that is
here. `ALTER SYSTEM` is followed by the restart that the page asks for.
"""
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "stack"))

from servers import HOST, Peers, Postgres, Process, built, free_port, http, wait_until  # noqa: E402

PAGE = os.path.join(TOP, "docs", "getting-started.md")


def blocks(page):
    """The page's code blocks in their order, as (language, text)."""
    return re.findall(r"^```(\w+)\n(.*?)^```$", page, re.M | re.S)


class Command(Process):
    """A command of the page, in the folder where its file is."""

    def __init__(self, folder, words):
        super().__init__("getting-started-" + words[1])
        self.dir, self.words = folder, words
        self.log = os.path.join(folder, words[1] + ".log")

    def start(self):
        self.launch([built("", "wellspring")] + self.words[1:])
        return self


def main():
    with open(PAGE, encoding="utf-8") as f:
        steps = blocks(f.read())
    kinds = [kind for kind, _ in steps]
    assert kinds == ["sql", "sql", "sql", "toml", "sh", "sh", "sh"], kinds
    system, role, publication, file, check, run, consume = (text for _, text in steps)
    folder = tempfile.mkdtemp(prefix="wsp-start-")
    pg = Postgres(15, "getting-started-postgres", {"wal_level": "replica"})
    pg.wipe()
    pg.start()
    peers = Peers("getting-started-peers", {"shop.public.orders": 1, "shop.wellspring-state": 1}).start()
    try:
        pg.psql("create database shop")
        pg.psql("create table orders (id int primary key, total numeric(12,2))", database="shop")
        pg.psql(system)
        pg.settings.pop("wal_level")  # what the page has set is not to be overwritten by the harness
        with open(os.path.join(pg.data, "postgresql.auto.conf"), encoding="utf-8") as f:
            assert "wal_level = 'logical'" in f.read()
        pg.stop()
        pg.settings["wal_level"] = "logical"
        pg.start()
        pg.psql(role, database="shop")
        pg.psql(publication, database="shop")

        port = free_port()
        text = file.replace("localhost:5432", "%s:%d" % (HOST, pg.port)).replace("localhost:9092", peers.brokers)
        text = text.replace("http://localhost:8081", peers.url)
        with open(os.path.join(folder, "wellspring.toml"), "w", encoding="utf-8") as f:
            f.write(text)
        with open(os.path.join(folder, "postgres-password"), "w", encoding="utf-8") as f:
            f.write("change-me\n")
        os.environ["WELLSPRING_ADMIN__LISTEN"] = "%s:%d" % (HOST, port)

        checking = Command(folder, check.split()).start()
        code = checking.ended(60)
        with open(checking.log, encoding="utf-8") as f:
            said = f.read()
        assert code == 0 and "0 to fix" in said.splitlines()[-1], said
        agent = Command(folder, run.split()).start()
        address = "http://%s:%d" % (HOST, port)
        wait_until("streaming", lambda: '"streaming"' in http(address + "/status")[1], 30)
        status, page = http(address + "/", headers={"Accept": "text/html"})
        assert status == 200 and "<title>wellspring</title>" in page
        pg.psql("insert into orders values (1, 9.50)", database="shop")

        topic = re.search(r"--topic (\S+)", consume).group(1)
        def delivered():
            tables = json.loads(http(address + "/status")[1])["tables"]
            return [t for t in tables.values() if t["topic"] == topic and t["changes"] == 1]
        wait_until("the change is counted under the page's topic", delivered, 30)
        wait_until("it is acknowledged", lambda: "wellspring_records_delivered_total 1\n" in http(address + "/metrics")[1], 30)
        assert agent.stop(signal.SIGINT) == 0
        with open(agent.log, encoding="utf-8") as f:
            assert "everything sent is delivered, recorded and confirmed" in f.read()
        slot = subprocess.run([built("", "wellspring"), "slot", "drop", "--yes"], cwd=folder, capture_output=True, text=True, check=False)
        assert slot.returncode == 0, slot.stderr
        print("getting started: %d steps of the page followed, one change delivered" % len(steps))
    finally:
        peers.kill()
        pg.kill()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
