"""An instance's replies to `nats micro`."""

import json

import msgspec
from msgspec.structs import replace

from jet.discovery import Endpoint, Instance
from wire.processes import ProcessReport


def test_an_instance_answers_discovery_of_all_of_its_service_and_of_itself() -> None:
    subjects = Instance("exposure", []).subjects()
    own = json.loads(subjects["$SRV.PING"]())["id"]
    assert set(subjects) == {
        f"$SRV.{verb}{end}" for verb in ("PING", "INFO", "STATS") for end in ("", ".exposure", f".exposure.{own}")
    }


def test_stats_include_the_report_of_the_process() -> None:
    report = ProcessReport(process="maker-2", uptime=1.5, ready=False, waiting_for={"nats": "away"})
    stats = Instance("maker", [], lambda behind: replace(report, behind=behind + 3)).subjects()["$SRV.STATS.maker"]()
    found = msgspec.json.decode(msgspec.json.encode(json.loads(stats)["data"]), type=ProcessReport)
    assert found == replace(report, behind=found.behind)
    assert found.behind >= 3


def test_endpoints_are_listed_with_their_requests_and_refusals() -> None:
    endpoint = Endpoint("rpc-test", "rpc.test", num_requests=4)
    endpoint.record(0, None)
    endpoint.record(0, "unavailable")
    subjects = Instance("exposure", [endpoint]).subjects()
    info, stats = (json.loads(subjects[f"$SRV.{verb}.exposure"]()) for verb in ("INFO", "STATS"))
    assert info["type"] == "io.nats.micro.v1.info_response"
    assert info["endpoints"] == [{"name": "rpc-test", "subject": "rpc.test", "queue_group": "q", "metadata": {}}]
    assert stats["type"] == "io.nats.micro.v1.stats_response"
    (found,) = stats["endpoints"]
    assert (found["num_requests"], found["num_errors"], found["last_error"]) == (4, 1, "unavailable")
    assert found["average_processing_time"] == found["processing_time"] // 4 > 0
