#!/usr/bin/env python3
"""Laws of the judges themselves: they must notice what they are there to notice. No server, no waiting."""
import socket
import sys
import unittest

import observer
import proxy
import rebuild
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
