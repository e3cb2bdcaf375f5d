#!/usr/bin/env bash
# librdkafka reports a record as delivered that the broker refused, if the next request of the partition is accepted.
#
# Package:   librdkafka 2.16.0 (in the PyPI wheel confluent-kafka 2.16.1), an idempotent producer with acks=all.
# Expected:  the broker refuses the first request of a producer to a partition with UNKNOWN_TOPIC_OR_PARTITION, which
#            says that nothing was appended. The record is sent again or reported as failed.
# Seen:      a second request is on its way meanwhile, and the broker accepts it. The library concludes that the first
#            record was appended as well, and reports a delivery without an offset. The record is in no log.
# Matters:   the conclusion is right for a request that was lost on the way. It is wrong for one that was refused,
#            because a broker accepts any sequence number from a producer that is new to a partition (KIP-360). With
#            Kafka 4.3.1 on a busy machine the first two records of a new topic vanished so: the leader was in the
#            metadata before the log was made. A program that confirms a position by such a report loses changes. It has
#            to count a success without an offset as a failure.
# Known:     the code is rd_kafka_dr_implicit_ack. We found no report of a loss.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
python_packages confluent-kafka==2.16.1
status=0
PYTHONPATH=$(dirname "$0") PYTHONDONTWRITEBYTECODE=1 "$PYTHON" - <<'PYTHON' || status=$?
import sys, time
from confluent_kafka import KafkaError, Producer, libversion
from mock_cluster import MockCluster

def poll(producer, seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        producer.poll(0.05)

cluster, reports = MockCluster(), []
producer = Producer({
    "bootstrap.servers": cluster.bootstrap, "enable.idempotence": True, "acks": "all", "linger.ms": 1, "log_level": 0,
})
def reported(error, message):
    reports.append((int(message.value()), error.name() if error else "delivered", message.offset()))

producer.list_topics("t", 10)
poll(producer, 2)  # the producer gets its id
cluster.answer_after(1000)
cluster.answer_next_produce(KafkaError.UNKNOWN_TOPIC_OR_PART)
producer.produce("t", "0", on_delivery=reported)
poll(producer, 0.3)
producer.produce("t", "1", on_delivery=reported)
if producer.flush(30) != 0:
    sys.exit("the records were not reported")
cluster.answer_after(0)
log = cluster.values(1)
cluster.close()
print("librdkafka", libversion()[0])
print("reports (value, outcome, offset):", sorted(reports, key=lambda report: report[0]))
print("log:", log)
lost = sorted(reports, key=lambda report: report[0]) == [(0, "delivered", None), (1, "delivered", 0)] and log == [1]
sys.exit(0 if lost else 3)
PYTHON
verdict "$status"
