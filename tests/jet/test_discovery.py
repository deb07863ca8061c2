"""What an instance tells `nats micro` of itself."""

import json

import msgspec
from msgspec.structs import replace

from jet.discovery import Endpoint, Instance
from wire.processes import ProcessReport


def test_an_instance_is_found_among_all_among_its_kind_and_by_its_id() -> None:
    subjects = Instance("exposure", []).subjects()
    own = json.loads(subjects["$SRV.PING"]())["id"]
    assert set(subjects) == {
        f"$SRV.{verb}{end}" for verb in ("PING", "INFO", "STATS") for end in ("", ".exposure", f".exposure.{own}")
    }


def test_its_stats_say_how_the_process_is() -> None:
    report = ProcessReport(process="maker-2", uptime=1.5, ready=False, waiting_for={"nats": "away"})
    stats = Instance("maker", [], lambda behind: replace(report, behind=behind + 3)).subjects()["$SRV.STATS.maker"]()
    told = msgspec.json.decode(msgspec.json.encode(json.loads(stats)["data"]), type=ProcessReport)
    assert told == replace(report, behind=told.behind)
    assert told.behind >= 3


def test_it_tells_its_endpoints_and_how_often_each_was_asked_and_refused() -> None:
    endpoint = Endpoint("rpc-test", "rpc.test", num_requests=4)
    endpoint.record(0, None)
    endpoint.record(0, "unavailable")
    subjects = Instance("exposure", [endpoint]).subjects()
    info, stats = (json.loads(subjects[f"$SRV.{verb}.exposure"]()) for verb in ("INFO", "STATS"))
    assert info["type"] == "io.nats.micro.v1.info_response"
    assert info["endpoints"] == [{"name": "rpc-test", "subject": "rpc.test", "queue_group": "q", "metadata": {}}]
    assert stats["type"] == "io.nats.micro.v1.stats_response"
    (told,) = stats["endpoints"]
    assert (told["num_requests"], told["num_errors"], told["last_error"]) == (4, 1, "unavailable")
    assert told["average_processing_time"] == told["processing_time"] // 4 > 0
