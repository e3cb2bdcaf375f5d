"""Disturbs servers from outside: quotas, pauses, kills with all children, topics that change. It judges nothing."""
import contextlib
import os
import signal
import time

import dist
import observer
from servers import wait_until


# -- Kafka as a whole


def quota(kafka, bytes_per_second=None):
    """Limits what each client may produce; None lifts it. Kafka's own tool is used: confluent-kafka has no call."""
    change = "--add-config" if bytes_per_second else "--delete-config"
    setting = "producer_byte_rate" + ("=%d" % bytes_per_second if bytes_per_second else "")
    dist.run(*kafka._java("128m", "kafka.admin.ConfigCommand", "--bootstrap-server", kafka.brokers, "--alter",
                          "--entity-type", "clients", "--entity-default", change, setting))


@contextlib.contextmanager
def slowed(kafka, bytes_per_second):
    """The broker takes this many bytes a second from each client until the block ends."""
    quota(kafka, bytes_per_second)
    try:
        yield
    finally:
        quota(kafka)


@contextlib.contextmanager
def paused(kafka):
    """The broker keeps its connections and answers nothing until the block ends."""
    kafka.send(signal.SIGSTOP)
    try:
        yield
    finally:
        kafka.send(signal.SIGCONT)


def pause(kafka, seconds):
    """The broker answers nothing for this long."""
    with paused(kafka):
        observer.pause(seconds)


# -- topics


def admin(kafka):
    from confluent_kafka.admin import AdminClient

    return AdminClient({"bootstrap.servers": kafka.brokers, "log_level": 2})


def create_topic(kafka, name, partitions=1, settings=None):
    from confluent_kafka.admin import NewTopic

    client = admin(kafka)  # has to live until the answer is there
    made = client.create_topics([NewTopic(name, partitions, 1, config=settings or {})])
    made[name].result(30)


def delete_topics(kafka, prefix):
    """Deletes the topics whose names begin with `prefix`, and waits until they are gone."""
    client = admin(kafka)

    def left():
        return [name for name in client.list_topics(timeout=10).topics if name.startswith(prefix)]

    if left():
        for answer in client.delete_topics(left()).values():
            answer.result(30)
    wait_until("topics %s* are gone" % prefix, lambda: not left(), 30)


def set_topic(kafka, name, **settings):
    """Changes settings of a topic; underscores stand for dots, and a None goes back to the broker's default."""
    from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource

    client, entries = admin(kafka), []
    for key, value in settings.items():
        change = AlterConfigOpType.DELETE if value is None else AlterConfigOpType.SET
        text = None if value is None else str(value)
        entries.append(ConfigEntry(key.replace("_", "."), text, incremental_operation=change))
    resource = ConfigResource(ConfigResource.Type.TOPIC, name, incremental_configs=entries)
    client.incremental_alter_configs([resource])[resource].result(30)


def write_state(kafka, prefix, key, value):
    """Writes a record to the state topic of a pipeline; a None removes the key."""
    from confluent_kafka import Producer

    failed = []
    producer = Producer({"bootstrap.servers": kafka.brokers, "log_level": 2})
    producer.produce(prefix + ".wellspring-state", value, key, on_delivery=lambda error, _: failed.append(error))
    assert producer.flush(30) == 0 and failed == [None], "%s is not written: %s" % (key, failed)


# -- Postgres


def children(pid):
    """The processes whose parent is `pid`."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open("/proc/%s/stat" % name, encoding="utf-8") as f:
                    parent = int(f.read().rpartition(")")[2].split()[1])
            except OSError:
                continue  # it ended while we looked
            if parent == pid:
                found.append(int(name))
    return found


def crash(pg):
    """kill -9 of the server and of each of its processes; the data directory can be started again."""
    pg.send(signal.SIGSTOP)  # forks no more
    family = children(pg.pid)
    for pid in family + [pg.pid]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    pg.ended()

    def gone():
        return not any(os.path.exists("/proc/%d" % pid) for pid in family)

    wait_until("the processes of %s are gone" % pg.name, gone, 30)
    # This file still says "ready", and `start` believes it.
    with contextlib.suppress(FileNotFoundError):
        os.remove(os.path.join(pg.data, "postmaster.pid"))


def end_walsender(pg, slot):
    """The server ends the session that holds the slot."""
    pg.psql("select pg_terminate_backend(active_pid) from pg_replication_slots"
            " where slot_name = '%s' and active" % slot)


def drop_slot(pg, slot, database="shop"):
    """Drops a slot although agents connect to it."""
    with_the_slot(pg, slot, "pg_drop_replication_slot('%s')" % slot, database)


def advance_slot(pg, slot):
    """Moves a slot to the end of the WAL although agents connect to it."""
    with_the_slot(pg, slot, "pg_replication_slot_advance('%s', pg_current_wal_lsn())" % slot)


def with_the_slot(pg, slot, call, database="shop"):
    """Makes a call that needs a free slot: the agents' sessions are ended until nobody holds it."""
    pg.psql("""do $$ begin
        for i in 1 .. 500 loop
            perform pg_terminate_backend(active_pid) from pg_replication_slots where slot_name = '%s' and active;
            begin
                perform %s;
                return;
            exception when object_in_use then
                perform pg_sleep(0.02);
            end;
        end loop;
        raise 'the slot is held all the time';
    end $$""" % (slot, call), database=database)


# -- load


class Paced:
    """Calls `write(number)` so many times a second in a thread of its own until it is told to stop.

    Late calls are made up for, so that the mean rate holds. An error ends the load, and `stop` raises it.
    """

    def __init__(self, per_second, write):
        import threading

        self.per_second, self.write = per_second, write
        self.over, self.count, self.failed = threading.Event(), 0, None
        self.began = self.ended = time.monotonic()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        try:
            while not self.over.is_set():
                due = self.began + self.count / self.per_second
                if not self.over.wait(max(0.0, due - time.monotonic())):
                    self.write(self.count)
                    self.count += 1
        except Exception as error:  # told by whoever stops it
            self.failed = error
        self.ended = time.monotonic()

    def kill(self):
        self.over.set()
        self.thread.join()

    def stop(self):
        """Ends the load; its mean rate in calls a second."""
        self.kill()
        if self.failed:
            raise self.failed
        return self.count / max(self.ended - self.began, 0.001)
