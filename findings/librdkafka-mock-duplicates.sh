#!/usr/bin/env bash
# librdkafka's mock cluster writes the repeated batch of an idempotent producer twice; it only checks transactional
# ones.
#
# Package:   librdkafka 2.16.0 (in the PyPI wheel confluent-kafka 2.16.1).
# Expected:  the mock cluster keeps the last sequence numbers of each producer id, as a broker does. If the answer to
#            a batch is lost, the idempotent producer sends the batch again, and the log has every record once.
# Seen:      with `enable.idempotence` alone the log has the ten records twice, at new offsets, and the producer
#            reports ten deliveries without an error. With a `transactional.id` the same story gives ten records: the
#            mock's check of sequence numbers starts with the transactional id, and returns at once if there is none.
# Matters:   a test of "no duplicates" against the mock cluster fails although the program is right. A test that
#            expects a gap or a repeated batch to be refused shows nothing, because the mock refuses no sequence of a
#            producer without a transactional id. Both need a real broker.
# Known:     the code is rd_kafka_mock_validate_records in rdkafka_mock.c. We found no report.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
python_packages confluent-kafka==2.16.1
status=0
PYTHONPATH=$(dirname "$0") PYTHONDONTWRITEBYTECODE=1 "$PYTHON" - <<'PYTHON' || status=$?
import sys, time
from confluent_kafka import Producer, libversion
from mock_cluster import MockCluster

def story(**settings):
    """What the log holds and how many deliveries are reported when the first answer to a batch comes too late."""
    cluster, delivered = MockCluster(), []
    producer = Producer({
        "bootstrap.servers": cluster.bootstrap, "enable.idempotence": True, "linger.ms": 100, "log_level": 0,
        "socket.timeout.ms": 1000, **settings,
    })
    transactional = "transactional.id" in settings
    if transactional:
        producer.init_transactions(30)
        producer.begin_transaction()
    producer.produce("t", "0") # connection, producer id and partition are known after this one
    if producer.flush(30) != 0:
        sys.exit("the first record was not delivered")
    cluster.answer_after(30_000)
    for number in range(1, 11):
        producer.produce("t", str(number), on_delivery=lambda error, _: delivered.append(error))
    # The request is timed out after one second, looked for once a second. After four the broker answers at once again.
    end = time.monotonic() + 4
    while time.monotonic() < end:
        producer.poll(0.1)
    cluster.answer_after(0)
    producer.flush(60)
    if transactional:
        producer.commit_transaction(30)
    values = cluster.values(11)
    cluster.close()
    return values, delivered

print("librdkafka", libversion()[0])
plain, plain_delivered = story()
print("idempotent:    log", plain, "reports", len(plain_delivered), "errors", sum(map(bool, plain_delivered)))
within, within_delivered = story(**{"transactional.id": "one"})
print("transactional: log", within, "reports", len(within_delivered), "errors", sum(map(bool, within_delivered)))
once = list(range(11))
as_stated = (
    plain_delivered == within_delivered == [None] * 10
    and plain[:11] == once and len(plain) > 11 and set(plain[11:]) == set(once[1:])
    and within == once
)
sys.exit(0 if as_stated else 3)
PYTHON
verdict "$status"
