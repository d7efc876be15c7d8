"""Without a majority of the metadata: clean refusals at once, no wrong answer, and service again later."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from botocore.exceptions import ClientError

from lab.process import wait_until

# A request waits for a failover before it is refused, but not for ever.
REFUSAL_SECONDS_MAX = 30


def refused_by(cluster, gateway, bucket, key):
    """A gateway refuses everything at once, says why, and goes on running."""
    impatient = cluster.s3(gateway.endpoint, retries={"total_max_attempts": 1})
    with ThreadPoolExecutor(4) as pool:
        waiting = [
            pool.submit(refusal, impatient.put_object, Bucket=bucket, Key=key, Body=b"other"),
            pool.submit(refusal, impatient.get_object, Bucket=bucket, Key=key),
            pool.submit(refusal, impatient.list_objects_v2, Bucket=bucket),
            pool.submit(refusal, impatient.delete_object, Bucket=bucket, Key=key),
        ]
        waits = [one.result() for one in waiting]
    assert max(waits) < REFUSAL_SECONDS_MAX, waits
    wait_until(
        lambda: gateway.ready()[0] == 503 and "META_NO_QUORUM" in gateway.reasons(), 20,
        lambda: f"{gateway} says why it isn't ready: {gateway.ready()}",
    )
    assert gateway.alive()


def refusal(call, **arguments):
    """Asserts that the call is refused as it must be, and returns how long that took."""
    began = time.monotonic()
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    answer = caught.value.response
    status, headers = (answer["ResponseMetadata"][name] for name in ("HTTPStatusCode", "HTTPHeaders"))
    assert status == 503, answer
    assert answer["Error"]["Code"] in ("ServiceUnavailable", "SlowDown"), answer
    assert int(headers["retry-after"]) > 0, headers
    return time.monotonic() - began


def test_without_a_majority_requests_are_refused_and_later_served_again(cluster, drill):
    with drill(cluster, errors_max=None) as load:
        # Away from the load: what is there stays as it is.
        bucket, key = load.bucket, "still/here"
        cluster.s3().put_object(Bucket=bucket, Key=key, Body=b"stone")
        lost = [cluster.leader(), cluster.followers()[0]]
        for process in lost:
            process.kill()
        with ThreadPoolExecutor(len(cluster.gateways)) as pool:
            asked = [pool.submit(refused_by, cluster, gateway, bucket, key) for gateway in cluster.gateways]
            for one in asked:
                one.result()
        for process in lost:
            process.start()
        wait_until(lambda: all(g.ready()[0] == 200 for g in cluster.gateways), 30, "there is service again")
        found = cluster.s3().get_object(Bucket=bucket, Key=key)["Body"].read()
        assert found == b"stone", "a refused write took place" if found == b"other" else found
        cluster.s3().delete_object(Bucket=bucket, Key=key)
