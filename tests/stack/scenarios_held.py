"""The connection to Postgres is lost while records are still in the network: one producer ends before the next begins.

A proxy keeps the records that were sent. In the meantime the topic refuses them, the program is told to stop, or the
topic's limit is lowered.
"""
import contextlib

import disturb
import observer
import servers
from proxy import Proxy
from scenarios_stops import REPEATS, SAID_WHOLE
from scenarios_windows import with_token

KEYS = 100
# After a lost connection the program waits up to 30 s for answers of the broker. The rest is room for a busy machine.
SETTLED_MAX_SECONDS = 60
HOLD_SECONDS = 20
SHUTDOWN_SECONDS = 8


class Held:
    """A pipeline of one table whose last update was sent and lies in the proxy."""

    def __init__(self, world):
        self.world = world
        proxied = servers.free_port()
        self.kafka = servers.Kafka(world.name + "-kafka", proxied=proxied)
        self.kafka.wipe()
        self.kafka.start()
        world.ends(self.kafka)
        self.proxy = Proxy(proxied, self.kafka.inner)
        self.shared, world.kafka = world.kafka, self.kafka
        self.topic = world.prefix + ".public.t"
        self.pg = world.postgres()
        self.pg.psql("create table t (id int primary key, v text)", database="shop")
        disturb.create_topic(self.kafka, self.topic)
        self.agent = world.agent(self.pg, ["public.t"], brokers="%s:%d" % (servers.HOST, proxied),
                                 limits={"quarantine": "%ds" % HOLD_SECONDS, "shutdown": "%ds" % SHUTDOWN_SECONDS})
        with_token(self.agent).configure(snapshot={"mode": "no_data"})
        self.agent.start()
        self.pg.psql("insert into t select i, 'old' from generate_series(1, %d) i" % KEYS, database="shop")
        world.until_delivered(self.pg, self.agent)
        world.until_confirmed(self.pg)
        self.links = self.hold()

    def hold(self):
        """Writes an update whose records stay in the proxy; the connections that hold them."""
        every = self.proxy.hold()
        self.write("one")
        mark = self.topic.encode()

        def data():
            return [link for link in every if mark in bytes(link.bytes)]

        self.world.until("the update is held", data, 30)
        observer.pause(1)  # until all of its requests are there
        links = data()
        Proxy.release([link for link in every if link not in links])
        return links

    def write(self, value):
        self.pg.psql("update t set v = '%s'" % value, database="shop")

    def released(self):
        return Proxy.release(self.links)

    def records(self):
        """How many records the topic holds."""
        import decode

        source = decode.consumer(self.kafka.brokers)
        try:
            return sum(decode.ends(source, [self.topic]).values())
        finally:
            source.close()

    def newest(self):
        """The newest value of each key, as a consumer has them: value to how many keys."""
        rows = {e.key: e.value["after"]["v"] for e in self.world.events()[self.topic]}
        values = list(rows.values())
        return {value: values.count(value) for value in set(values)}

    def newest_wins(self, value, seconds):
        self.world.until("each key's newest record is '%s'" % value, lambda: self.newest() == {value: KEYS}, seconds)

    def close(self):
        self.proxy.close()
        self.world.kafka = self.shared


@contextlib.contextmanager
def held(world):
    """A pipeline whose last update is held, until the block ends."""
    it = Held(world)
    try:
        yield it
    finally:
        it.close()


def held_bytes_refused(world):
    """The topic refuses records of a lost connection: the program recovers by itself, and the update arrives."""
    with held(world) as it:
        disturb.set_topic(it.kafka, it.topic, message_timestamp_before_max_ms=0)
        disturb.end_walsender(it.pg, world.slot)
        observer.pause(2)
        it.released()
        observer.pause(2)  # the broker refuses them, and the first repetition too
        disturb.set_topic(it.kafka, it.topic, message_timestamp_before_max_ms=None)
        it.newest_wins("one", SETTLED_MAX_SECONDS + 30)
        world.until("it streams", lambda: it.agent.phase() == "streaming", 30)
        reconnects = it.agent.status()["reconnects"]
        observer.pause(world.length(5, 30))
        status = it.agent.status()
        now = (status["phase"], status["reconnects"])
        assert now == ("streaming", reconnects), "it does not come to rest: %s, %d reconnects, then %d: %s" % (
            status["phase"], reconnects, status["reconnects"], status["reason"])
        assert reconnects <= 10, "%d reconnects" % reconnects
        world.judge(it.pg, {"public.t": (0,)})
        world.say("%d reconnects", reconnects)


def held_bytes_and_a_stop(world):
    """SIGTERM after a lost connection with records unanswered is no clean stop: status 6, and the successor holds."""
    with held(world) as it:
        # Paused, so that the new connection sends nothing: all that is unanswered belongs to the one before.
        code, said = it.agent.command("pause")
        assert code == 0, said
        disturb.end_walsender(it.pg, world.slot)
        observer.pause(3)
        code = it.agent.stop(seconds=SETTLED_MAX_SECONDS + SHUTDOWN_SECONDS)
        words = last_words(it.agent)
        assert it.records() < 2 * KEYS, "nothing was held: %d records" % it.records()
        assert code == REPEATS, "exit status %d with records unanswered: %s" % (code, words)
        assert SAID_WHOLE not in words, "it says: " + words
        it.agent.start()
        assert holding(it.agent), "the successor confirms at once: " + str(it.agent.status())
        it.write("two")
        world.until_delivered(it.pg, it.agent)
        released = it.released()
        # The late records lie behind the newer ones until the hold ends.
        observer.pause(2)
        world.until("the confirm hold is over", lambda: not holding(it.agent), 4 * HOLD_SECONDS)
        it.newest_wins("two", 60)
        world.until_confirmed(it.pg, 3 * HOLD_SECONDS + 30)
        assert it.agent.stop() == 0
        world.judge(it.pg, {"public.t": (0,)}, order=False)
        world.say("%d bytes released late", released)


def held_bytes_and_a_lower_limit(world):
    """The topic takes less than before while records are held: never two producers at once, the newest values win."""
    with held(world) as it:
        disturb.set_topic(it.kafka, it.topic, max_message_bytes=500_000)
        disturb.end_walsender(it.pg, world.slot)
        world.until("the update is sent again", lambda: it.records() >= 2 * KEYS, SETTLED_MAX_SECONDS)
        alive = [link for link in it.links if not link.ended]
        assert not alive, "two producers at once: %d connections of the first are open" % len(alive)
        it.write("two")
        world.until("the newer update is there", lambda: it.records() >= 3 * KEYS, 60)
        released = it.released()
        observer.pause(2)
        it.newest_wins("two", 4 * HOLD_SECONDS)
        observer.pause(world.length(2, 3 * HOLD_SECONDS))
        world.until_delivered(it.pg, it.agent)
        world.until_confirmed(it.pg, 4 * HOLD_SECONDS)
        world.judge(it.pg, {"public.t": (0,)}, order=False)
        world.say("%d bytes released late", released)


def last_words(agent):
    """The last line that a program wrote."""
    return servers.tail(agent.log, 1).strip()


def holding(agent):
    """Whether confirmations are held, by the program's word."""
    return (agent.status().get("quarantine_until_ms") or 0) > 0


SCENARIOS = [held_bytes_refused, held_bytes_and_a_stop, held_bytes_and_a_lower_limit]
