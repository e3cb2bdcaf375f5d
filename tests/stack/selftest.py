#!/usr/bin/env python3
"""Laws of the judges themselves: they must notice what they are there to notice. No server, no waiting."""
import socket
import sys
import unittest

import disturb
import observer
import proxy
import rebuild
import scenarios_pressure
from agent import lsn, merged, toml
from servers import HOST, free_port, wait_until


class Message:
    def __init__(self, offset, partition=0):
        self.where = ("p.public.t", partition, offset)

    def topic(self):
        return self.where[0]

    def partition(self):
        return self.where[1]

    def offset(self):
        return self.where[2]


def told(*positions, key=1):
    """Updates of one key at the given commit positions."""
    return [rebuild.Event((key,), {"op": "u", "before": None, "after": {"id": key, "v": p}}, (1, p, 0), Message(i))
            for i, p in enumerate(positions)]


class Order(unittest.TestCase):
    def test_a_replay_may_repeat_everything_from_where_it_begins(self):
        self.assertEqual(rebuild.disorder(told(1, 2, 3, 2, 3, 4)), [])
        self.assertEqual(rebuild.disorder(told(1, 2, 3, 2, 1, 2, 3, 4)), [])

    def test_a_replay_that_leaves_something_out_is_noticed(self):
        self.assertIn("left out (1, 3, 0)", rebuild.disorder(told(1, 2, 3, 2, 4))[0])
        self.assertIn("left out (1, 2, 0)", rebuild.disorder(told(1, 2, 3, 1, 3))[0])

    def test_a_first_arrival_out_of_order_is_noticed(self):
        self.assertIn("for the first time", rebuild.disorder(told(1, 3, 2))[0])


class Rows(unittest.TestCase):
    def test_the_last_record_of_a_key_wins(self):
        self.assertEqual(rebuild.keyed(told(1, 2, 3, 2)), {(1,): (1, 2)})

    def test_a_truncate_removes_what_came_before_it_in_any_partition(self):
        cut = rebuild.Event(None, {"op": "t", "before": None, "after": None}, (1, 2, 0), Message(0, 1))
        self.assertEqual(rebuild.keyed(told(1) + [cut] + told(3, key=2)), {(2,): (2, 3)})

    def test_a_bag_counts_rows_and_knows_replays(self):
        def event(position, op, before, after):
            return rebuild.Event(None, {"op": op, "before": before and {"v": before}, "after": after and {"v": after}},
                                 (1, position, 0), Message(position))

        events = [event(1, "c", None, "a"), event(2, "c", None, "a"), event(2, "c", None, "a"), event(3, "u", "a", "b")]
        self.assertEqual(rebuild.bag(events), {("a",): 1, ("b",): 1})


class Repeats(unittest.TestCase):
    def test_what_a_run_repeats_is_counted_for_that_run(self):
        events = told(1, 2, 3, 2, 3, 4, 3, 4)
        for event, run in zip(events, "aaabbbcc"):
            event.run = run
        self.assertEqual(rebuild.repeats(events), {"a": 0, "b": 2, "c": 2})


class Json(unittest.TestCase):
    def test_a_payload_is_read_with_and_without_its_schema_and_frame(self):
        reader = rebuild.JsonReader("nowhere")
        reader.schemas[7] = {}
        for data in (b'{"op": "c"}', b'{"schema": {}, "payload": {"op": "c"}}', b'\0\0\0\0\x07{"op": "c"}'):
            self.assertEqual(reader.fast(data), {"op": "c"})
        self.assertIsNone(reader.fast(None))


class Going(unittest.TestCase):
    def look(self, *statuses):
        progress = scenarios_pressure.Progress(None)
        for status in statuses:
            progress.look(status)
        return progress.back

    def test_progress_that_goes_on_is_none_that_goes_back(self):
        first, second = ({"lsn": {"confirmed": at}, "copy": {"rows": 5}} for at in ("0/1", "0/2"))
        self.assertEqual(self.look(first, second), [])

    def test_rows_positions_and_connections_that_go_back_are_noticed(self):
        copy = self.look({"copy": {"rows": 5}}, {"copy": {"rows": 0}})
        self.assertEqual(copy, ["rows of the first copy went from 5 back to 0"])
        window = {"table": "t", "rows": 9}
        self.assertEqual(len(self.look({"windows": [window]}, {"windows": [{**window, "rows": 8}]})), 1)
        confirmed = self.look({"lsn": {"confirmed": "0/2"}}, {"lsn": {"confirmed": "0/1"}})
        self.assertIn("went from 2 back to 1", confirmed[0])
        self.assertIn("lost its connection", self.look({"reconnects": 0}, {"reconnects": 1})[0])
        broken = {"errors": [{"reason": "stream_broke", "message": "the queue is full"}]}
        self.assertIn("the queue is full", self.look(broken)[0])


class Pace(unittest.TestCase):
    def test_late_calls_are_made_up_for(self):
        calls = []

        def write(number):
            calls.append(number)
            if number == 0:
                observer.pause(0.1)

        load = disturb.Paced(200, write)
        wait_until("forty calls", lambda: len(calls) >= 40, 5)
        rate = load.stop()
        self.assertEqual(calls, list(range(len(calls))))
        self.assertLess(abs(rate - 200), 40)

    def test_an_error_of_the_load_is_told(self):
        load = disturb.Paced(100, lambda number: 1 // 0)
        wait_until("it ended", lambda: not load.thread.is_alive(), 5)
        self.assertRaises(ZeroDivisionError, load.stop)


class Watching(unittest.TestCase):
    def test_a_position_confirmed_before_its_record_was_in_kafka_is_noticed(self):
        watch = observer.Observer(None, "s", "b", "p")
        events = {"p.public.t": told(10, 20, 30)}
        watch.seen = {15: {("p.public.t", 0): 1}, 31: {("p.public.t", 0): 3}}
        self.assertEqual(watch.unsafe(events), [])
        watch.seen = {25: {("p.public.t", 0): 1}}
        self.assertEqual(len(watch.unsafe(events)), 1)


class Holding(unittest.TestCase):
    def test_held_bytes_arrive_whole_after_their_client_is_dead(self):
        with socket.create_server((HOST, 0)) as server:
            gate = proxy.Proxy(free_port(), server.getsockname()[1])
            client = socket.create_connection((HOST, gate.port))
            far, _ = server.accept()
            client.sendall(b"before ")
            self.assertEqual(far.recv(100), b"before ")
            links = gate.hold()
            client.sendall(b"late")
            client.close()
            wait_until("they are held", lambda: gate.held_bytes(links) == 4 and links[0].ended, 5)
            newer = socket.create_connection((HOST, gate.port))
            newer.sendall(b"new")
            other, _ = server.accept()
            self.assertEqual(other.recv(100), b"new")
            self.assertEqual(gate.release(links), 4)
            self.assertEqual(far.recv(100), b"late")
            self.assertEqual(far.recv(100), b"")
            for end in (far, other, newer):
                end.close()
            gate.close()


class Words(unittest.TestCase):
    def test_configuration_is_written_as_it_is_read(self):
        import tomllib

        settings = {"sink": "x", "kafka": {"brokers": ["a:1"], "client": {"linger.ms": "1"}}, "events": {"messages": True}}
        self.assertEqual(tomllib.loads(toml(settings)), settings)
        self.assertEqual(merged({"a": {"b": 1, "c": 2}}, {"a": {"b": 3}}), {"a": {"b": 3, "c": 2}})

    def test_a_position_is_read_as_postgres_prints_it(self):
        self.assertEqual(lsn("16/B374D848"), 0x16B374D848)


if __name__ == "__main__":
    sys.exit(not unittest.main(exit=False).result.wasSuccessful())
