"""What an instance tells `nats micro` of itself."""

import json

from jet.discovery import Endpoint, Instance


def test_an_instance_is_found_among_all_among_its_kind_and_by_its_id() -> None:
    subjects = Instance("exposure", []).subjects()
    own = json.loads(subjects["$SRV.PING"]())["id"]
    assert set(subjects) == {
        f"$SRV.{verb}{end}" for verb in ("PING", "INFO", "STATS") for end in ("", ".exposure", f".exposure.{own}")
    }


def test_it_tells_its_endpoints_and_how_often_each_was_asked_and_refused() -> None:
    endpoint = Endpoint("rpc-test", "rpc.test", num_requests=4)
    endpoint.answered(0, None)
    endpoint.answered(0, "unavailable")
    subjects = Instance("exposure", [endpoint]).subjects()
    info, stats = (json.loads(subjects[f"$SRV.{verb}.exposure"]()) for verb in ("INFO", "STATS"))
    assert info["type"] == "io.nats.micro.v1.info_response"
    assert info["endpoints"] == [{"name": "rpc-test", "subject": "rpc.test", "queue_group": "q", "metadata": {}}]
    assert stats["type"] == "io.nats.micro.v1.stats_response"
    (told,) = stats["endpoints"]
    assert (told["num_requests"], told["num_errors"], told["last_error"]) == (4, 1, "unavailable")
    assert told["average_processing_time"] == told["processing_time"] // 4 > 0
