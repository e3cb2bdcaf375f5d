"""Watches from outside whether Postgres was told to forget what Kafka does not hold.

Reads the slot's position first and Kafka's end offsets second, again and again; afterwards every record whose commit lies
below a position that was seen must have an offset below the ends that were seen with it.
"""
import bisect
import threading
import time

import decode
from agent import lsn

EVERY_SECONDS = 0.05


class Observer(threading.Thread):
    def __init__(self, pg, slot, brokers, prefix):
        super().__init__(daemon=True)
        self.pg, self.slot, self.brokers, self.prefix = pg, slot, brokers, prefix
        self.seen, self.done, self.looks = {}, threading.Event(), 0
        self.broken = None

    def run(self):
        source = decode.consumer(self.brokers)
        sql = None
        while not self.done.wait(EVERY_SECONDS):
            try:
                sql = sql or self.pg.connect()
                row = sql.execute("select confirmed_flush_lsn::text from pg_replication_slots where slot_name = %s",
                                  (self.slot,)).fetchone()
            except Exception:  # the server is away: there is nothing to see
                sql = None
                continue
            if not row or row[0] is None or lsn(row[0]) in self.seen:
                continue
            try:
                names = [t for t in decode.topics(source, self.prefix + ".") if not t.endswith(".wellspring-state")]
                ends = decode.ends(source, names)
            except Exception:  # the broker is away: the next look will do, the position stays
                continue
            self.seen[lsn(row[0])] = ends
            self.looks += 1
        source.close()

    def stop(self):
        self.done.set()
        self.join(timeout=60)

    def unsafe(self, events):
        """Confirmed commits that were not in Kafka at that moment, as sentences."""
        firsts = {}
        for found in events.values():
            known = set()
            for e in found:
                mark = (e.key, e.position, e.value is None, (e.value or {}).get("op"))
                if mark not in known:
                    known.add(mark)
                    firsts.setdefault((e.topic, e.partition), []).append((e.position[1], e.offset))
        out = []
        for at, pairs in firsts.items():
            pairs.sort()
            commits, highest, top = [p[0] for p in pairs], [], -1
            for _, offset in pairs:
                top = max(top, offset)
                highest.append(top)
            for position, ends in self.seen.items():
                below = bisect.bisect_left(commits, position)
                if below and highest[below - 1] >= ends.get(at, 0):
                    out.append("slot at %X while %s/%d ended at %d, before a commit's record at %d" % (
                        position, *at, ends.get(at, 0), highest[below - 1]))
        return out[:5]


def pause(seconds):
    """Lets a load run on for a while: a length of a test, never a wait for a fact."""
    time.sleep(seconds)
