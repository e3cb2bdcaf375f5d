#!/usr/bin/env bash
# librdkafka invents offsets 0, 1, 2 … in the delivery reports of a batch whose offset the broker did not tell.
#
# Package:   librdkafka 2.16.0 (in the PyPI wheel confluent-kafka 2.16.1).
# Expected:  where the broker's answer has no offset (base offset -1), each report of the batch says that the offset
#            is unknown: RD_KAFKA_OFFSET_INVALID, in Python None. A broker answers so for every refused batch, and
#            with DUPLICATE_SEQUENCE_NUMBER, which librdkafka reports as success.
# Seen:      the library counts up from -1. Only the first message of the batch has no offset; the second gets 0, the
#            third 1, and so on. These are valid offsets of other records, of a partition that already has 100.
# Matters:   a CDC program notes the offset of a delivered record to find the record again or to compare positions
#            after a crash. Here it notes the offset of another record, and its offsets go back from 99 to 0. It has
#            to look at the error code before the offset, and has to take an offset that goes back as unknown, even
#            after a success.
# Known:     rd_kafka_msgq_set_metadata increments the base offset without a check. franz-go had the same fault and
#            mended it (twmb/franz-go pull request 846, 2024). We found no report for librdkafka.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
python_packages confluent-kafka==2.16.1
status=0
PYTHONPATH=$(dirname "$0") PYTHONDONTWRITEBYTECODE=1 "$PYTHON" - <<'PYTHON' || status=$?
import sys
from confluent_kafka import KafkaError, Producer, libversion
from mock_cluster import MockCluster

def reports_after(code):
    """Error and offset of ten messages in one batch that the broker answers with `code`; 100 records precede them."""
    cluster, reports = MockCluster(), []
    producer = Producer({
        "bootstrap.servers": cluster.bootstrap, "enable.idempotence": True, "linger.ms": 200, "log_level": 0,
    })
    for number in range(100):
        producer.produce("t", str(number))
    if producer.flush(30) != 0:
        sys.exit("the first records were not delivered")
    cluster.answer_next_produce(code)
    for number in range(100, 110):
        producer.produce("t", str(number), on_delivery=lambda error, message: reports.append(
            (error.name() if error else "delivered", message.offset())
        ))
    producer.flush(30)
    cluster.close()
    return reports

print("librdkafka", libversion()[0])
as_stated = True
for code, outcome in (
    (KafkaError.MSG_SIZE_TOO_LARGE, "MSG_SIZE_TOO_LARGE"),
    (KafkaError.DUPLICATE_SEQUENCE_NUMBER, "delivered"),
):
    reports = reports_after(code)
    print(f"answer {code}: {sorted({error for error, _ in reports})}, offsets {[offset for _, offset in reports]}")
    as_stated = as_stated and reports == [(outcome, None)] + [(outcome, offset) for offset in range(9)]
sys.exit(0 if as_stated else 3)
PYTHON
verdict "$status"
