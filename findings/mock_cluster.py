"""librdkafka's own mock cluster, driven by ctypes through the library that the confluent-kafka wheel carries.

The wheel's Python interface has no way to make a broker answer with an error or late; the C interface has.
"""
import ctypes
import glob
import os

import confluent_kafka

PRODUCE_KEY = 0 # Kafka's number of the Produce request


def load():
    """The library of the wheel, with the types of the functions that are used here."""
    packages = os.path.dirname(os.path.dirname(confluent_kafka.__file__))
    (path,) = glob.glob(os.path.join(packages, "confluent_kafka.libs", "librdkafka*.so*"))
    library = ctypes.CDLL(path)
    handle, number, text = ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p
    for name, result, arguments in (
        ("conf_new", handle, []),
        ("conf_set", number, [handle, text, text, text, ctypes.c_size_t]),
        ("new", handle, [number, handle, text, ctypes.c_size_t]),
        ("destroy", None, [handle]),
        ("mock_cluster_new", handle, [handle, number]),
        ("mock_cluster_destroy", None, [handle]),
        ("mock_cluster_bootstraps", text, [handle]),
        ("mock_topic_create", number, [handle, text, number, number]),
        ("mock_broker_set_rtt", number, [handle, ctypes.c_int32, number]),
    ):
        function = getattr(library, "rd_kafka_" + name)
        function.restype, function.argtypes = result, arguments
    return library


class MockCluster:
    """One broker with the topic `t` of one partition, in this process and on the loopback interface."""

    def __init__(self):
        self.library = load()
        settings = self.library.rd_kafka_conf_new()
        self.library.rd_kafka_conf_set(settings, b"log_level", b"0", None, 0)
        self.owner = self.library.rd_kafka_new(0, settings, None, 0)
        self.cluster = self.library.rd_kafka_mock_cluster_new(self.owner, 1)
        self.library.rd_kafka_mock_topic_create(self.cluster, b"t", 1, 1)
        self.bootstrap = self.library.rd_kafka_mock_cluster_bootstraps(self.cluster).decode()

    def answer_next_produce(self, code):
        """Makes the broker answer the next Produce request with this error code, and append nothing."""
        push = self.library.rd_kafka_mock_push_request_errors
        push.restype = None
        push(ctypes.c_void_p(self.cluster), ctypes.c_int16(PRODUCE_KEY), ctypes.c_size_t(1), ctypes.c_int(code))

    def answer_after(self, milliseconds):
        """Delays every answer of the broker; what a request asks for is done at once."""
        self.library.rd_kafka_mock_broker_set_rtt(self.cluster, 1, milliseconds)

    def close(self):
        self.library.rd_kafka_mock_cluster_destroy(self.cluster)
        self.library.rd_kafka_destroy(self.owner)

    def values(self, count):
        """The values in the log, as numbers in order of offset; waits for `count` of them at most 10 seconds."""
        consumer = confluent_kafka.Consumer({
            "bootstrap.servers": self.bootstrap, "group.id": "reader", "enable.partition.eof": True, "log_level": 0,
        })
        consumer.assign([confluent_kafka.TopicPartition("t", 0, 0)])
        found = []
        while (message := consumer.poll(10)) is not None:
            if message.error():
                if message.error().code() != confluent_kafka.KafkaError._PARTITION_EOF:
                    raise confluent_kafka.KafkaException(message.error())
                if len(found) >= count:
                    break
            else:
                found.append(int(message.value()))
        consumer.close()
        return found
