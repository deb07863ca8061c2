"""The JetStream API of the simulated broker: streams, stored messages, consumers.

It replies independently of publishing: a reply may come before a message that was sent earlier is stored.
"""

import base64
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec

from simulation.consumer import Consumer
from simulation.stream import (
    BAD_REQUEST,
    NAME_TAKEN,
    NO_CLUSTER,
    NO_CONSUMER,
    NO_MESSAGE,
    NO_STREAM,
    Problem,
    Stored,
    Stream,
    encode_headers,
    is_exact,
)
from simulation.timestamps import isoformat, nanoseconds

if TYPE_CHECKING:
    from simulation.broker import Broker

API = "$JS.API."
_READS = ("STREAM.INFO.", "STREAM.MSG.GET.")
"""The requests to which a deposed leader still replies."""


class Api:
    """Handles a broker's API requests."""

    def __init__(self, broker: "Broker") -> None:
        self._broker = broker

    def handle(self, subject: str, reply: str, data: bytes, server: int) -> None:
        kind, _, rest = subject.partition(".")
        if kind == "CONSUMER" and rest.startswith("MSG.NEXT."):
            self._next(rest.removeprefix("MSG.NEXT."), reply, data, server)
            return
        answering = self._broker.cluster.answers(server, self._broker.world.now)
        if answering is None or (answering == self._broker.cluster.isolated and not subject.startswith(_READS)):
            return
        streams = self._broker.cluster.views if answering == self._broker.cluster.isolated else self._broker.streams
        body: dict[str, Any] = msgspec.json.decode(data) if data else {}
        answer: dict[str, Any] | Problem
        match subject.split("."):
            case ["STREAM", "INFO", name]:
                answer = self._stream_info(name, streams, answering, body.get("subjects_filter"))
            case ["STREAM", "MSG", "GET", name]:
                answer = self._get(name, body, streams)
            case ["STREAM", "NAMES"]:
                answer = {"streams": sorted(self._broker.streams) or None}
            case ["STREAM", "CREATE", name]:
                answer = self._create(name, body)
            case ["STREAM", "UPDATE", name]:
                answer = self._update(name, body)
            case ["STREAM", "DELETE", name]:
                answer = self._delete(name)
            case ["CONSUMER", "CREATE", name, consumer]:
                answer = self._create_consumer(name, consumer, body)
            case ["CONSUMER", "INFO", name, consumer]:
                found = self._broker.consumers.get(name, {}).get(consumer)
                answer = NO_CONSUMER if found is None else found.info()
            case ["CONSUMER", "DELETE", name, consumer]:
                answer = self._delete_consumer(name, consumer)
            case ["DIRECT", "GET", name, *tokens]:
                self._get_direct(name, ".".join(tokens), body, reply, answering)
                return
            case _:
                answer = BAD_REQUEST
        if reply:
            body = {"error": answer._asdict()} if isinstance(answer, Problem) else answer
            self._broker.route(reply, "", msgspec.json.encode(body), None, answering)

    def _stream_info(
        self,
        name: str,
        streams: Mapping[str, Stream] | None = None,
        answering: int = 0,
        pattern: str | None = None,
    ) -> dict[str, Any] | Problem:
        stream = (self._broker.streams if streams is None else streams).get(name)
        if stream is None:
            return NO_STREAM
        counts = stream.counts(pattern) if pattern is not None else {}
        return {
            "config": stream.config_json,
            "created": isoformat(stream.created),
            "state": {
                "messages": len(stream),
                "bytes": stream.bytes,
                "first_seq": stream.first_seq,
                "last_seq": stream.last_seq,
                "consumer_count": len(self._broker.consumers.get(name, ())),
                **({"subjects": counts} if counts else {}),
            },
            "total": len(counts),
            "cluster": {
                "leader": f"server-{answering}",
                "replicas": [
                    {"active": silence}
                    for silence in self._broker.cluster.silent_for(
                        answering, self._broker.world.now, self._broker.world.network.random()
                    )
                ],
            },
            "ts": isoformat(self._broker.now()),
        }

    def _find(self, stream: Stream, query: Mapping[str, Any]) -> Stored | Problem | None:
        match query:
            case {"last_by_subj": pattern}:
                return stream.get(stream.last_on(pattern))
            case {"next_by_subj": pattern, **rest}:
                matching = stream.matching((pattern,)) if is_exact(pattern) else stream.filter((pattern,))
                return stream.next(int(rest.get("seq", 1)), matching)
            case {"seq": seq} if seq > 0:
                return stream.get(seq)
        return BAD_REQUEST

    def _get(self, name: str, query: Mapping[str, Any], streams: Mapping[str, Stream]) -> dict[str, Any] | Problem:
        stream = streams.get(name)
        if stream is None:
            return NO_STREAM
        found = self._find(stream, query)
        if found is None:
            return NO_MESSAGE
        if isinstance(found, Problem):
            return found
        message = {
            "subject": found.subject,
            "seq": found.seq,
            "time": isoformat(found.time),
            "data": base64.b64encode(found.data).decode(),
            "hdrs": base64.b64encode(encode_headers(found.headers)).decode(),
        }
        return {"message": message}

    def _get_direct(self, name: str, subject: str, query: dict[str, Any], reply: str, server: int) -> None:
        """Send one stored message, or the last ones of several subjects, each as a message."""
        stream = self._broker.streams.get(name)
        if stream is None:
            self._broker.route(reply, "", b"", {"Status": "503"}, server)
            return
        if "multi_last" in query:
            matching = stream.matching(query["multi_last"])
            last = sorted(stream.last_of[own] for own in matching)
            for left, seq in zip(range(len(last) - 1, -1, -1), last, strict=True):
                self._send_direct(stream, stream.get(seq), reply, {"Nats-Num-Pending": str(left)}, server)
            ended = {"Status": "204", "Description": "EOB", "Nats-Num-Pending": "0"} if last else None
            self._broker.route(reply, "", b"", ended or {"Status": "404", "Description": "No Results"}, server)
            return
        found = self._find(stream, {"last_by_subj": subject} if subject else query)
        if isinstance(found, Problem):
            self._broker.route(reply, "", b"", {"Status": "408", "Description": "Empty Request"}, server)
        else:
            self._send_direct(stream, found, reply, {}, server)

    def _send_direct(self, stream: Stream, found: Stored | None, reply: str, more: dict[str, str], server: int) -> None:
        if found is None:
            self._broker.route(reply, "", b"", {"Status": "404", "Description": "Message Not Found"}, server)
            return
        self._broker.route(reply, "", found.data, {**copied(stream.name, found), **more}, server)

    def _create(self, name: str, config: dict[str, Any]) -> dict[str, Any] | Problem:
        config = _completed(name, config)
        if config["num_replicas"] > 1 and self._broker.cluster.servers == 1:
            return NO_CLUSTER
        known = self._broker.streams.get(name)
        if known is not None and known.config != config:
            return NAME_TAKEN
        if known is None:
            self._broker.streams[name] = Stream(config, self._broker.now())
            self._broker.stream_of.clear()
        return {**self._stream_info(name), "did_create": known is None}  # type: ignore[dict-item] # it is there

    def _update(self, name: str, config: dict[str, Any]) -> dict[str, Any] | Problem:
        stream = self._broker.streams.get(name)
        if stream is None:
            return NO_STREAM
        stream.configure(_completed(name, config))
        return self._stream_info(name)

    def _delete(self, name: str) -> dict[str, Any] | Problem:
        if name not in self._broker.streams:
            return NO_STREAM
        for consumer in self._broker.consumers.pop(name, {}).values():
            consumer.close(self._broker.send_to)
        del self._broker.streams[name]
        self._broker.stream_of.clear()
        return {"success": True}

    def _create_consumer(self, name: str, consumer_name: str, body: dict[str, Any]) -> dict[str, Any] | Problem:
        stream = self._broker.streams.get(name)
        if stream is None:
            return NO_STREAM
        consumers = self._broker.consumers.setdefault(name, {})
        consumer = consumers.get(consumer_name)
        if consumer is None:
            config = body["config"]
            since = 1
            if "opt_start_time" in config:
                since = stream.since(nanoseconds(datetime.fromisoformat(config["opt_start_time"])))
            near = [number for number in range(self._broker.cluster.servers) if number != self._broker.cluster.isolated]
            server = near[int(self._broker.world.network.random() * len(near))] if len(near) > 1 else near[0]
            consumer = Consumer(stream, consumer_name, config, self._broker.world.now, since, server)
            consumers[consumer_name] = consumer
            self._broker.after(consumer.inactive, self._expire_consumer, consumer, self._broker.life)
        return consumer.info()

    def _delete_consumer(self, name: str, consumer_name: str) -> dict[str, Any] | Problem:
        consumer = self._broker.consumers.get(name, {}).pop(consumer_name, None)
        if consumer is None:
            return NO_CONSUMER
        consumer.close(self._broker.send_to)
        return {"success": True}

    def _next(self, place: str, reply: str, data: bytes, server: int) -> None:
        name, _, consumer_name = place.rpartition(".")
        consumer = self._broker.consumers.get(name, {}).get(consumer_name)
        if consumer is None:
            self._broker.route(
                reply, "", b"", {"Status": "503", "Nats-Subject": f"{API}CONSUMER.MSG.NEXT.{place}"}, server
            )
            return
        if not self._broker.cluster.connected(server, consumer.server):
            return
        body = msgspec.json.decode(data)
        heartbeat = body.get("idle_heartbeat", 0) / 1e9
        consumer.pull(
            reply, int(body.get("batch", 1)), body.get("expires", 5e9) / 1e9, heartbeat, self._broker.world.now
        )
        self._broker.pump(consumer)
        if not consumer.ticking:
            self._tick(consumer)

    def _tick(self, consumer: Consumer) -> None:
        view = (
            self._broker.cluster.views.get(consumer.stream.name)
            if consumer.server == self._broker.cluster.isolated
            else None
        )
        self._broker.origin = consumer.server
        again = consumer.tick(self._broker.world.now, self._broker.send_to, (view or consumer.stream).last_seq)
        consumer.ticking = again is not None
        if again is not None:
            self._broker.after(max(0.0, again - self._broker.world.now), self._tick, consumer)

    def _expire_consumer(self, consumer: Consumer, life: int) -> None:
        """Delete a consumer that is inactive: its client has gone, or no longer subscribes to its inbox."""
        consumers = self._broker.consumers.get(consumer.stream.name, {})
        if consumers.get(consumer.name) is not consumer or life != self._broker.life:
            return
        idle = self._broker.world.now - consumer.requested_at
        if consumer.waiting and any(consumer.listeners(self._broker.exact)):
            idle = 0.0
        if idle >= consumer.inactive:
            del consumers[consumer.name]
            consumer.close(self._broker.send_to)
        else:
            self._broker.after(consumer.inactive - idle + 0.001, self._expire_consumer, consumer, life)


def copied(stream: str, found: Stored) -> dict[str, str]:
    """Return the headers with which a direct get returns a stored message."""
    return {
        **(found.headers or {}),
        "Nats-Stream": stream,
        "Nats-Subject": found.subject,
        "Nats-Sequence": str(found.seq),
        "Nats-Time-Stamp": isoformat(found.time),
    }


def _completed(name: str, config: dict[str, Any]) -> dict[str, Any]:
    """Return a stream's configuration with the broker's defaults."""
    return {
        "name": name,
        "retention": "limits",
        "max_consumers": -1,
        "max_msgs": -1,
        "max_bytes": -1,
        "max_age": 0,
        "max_msgs_per_subject": -1,
        "max_msg_size": -1,
        "discard": "old",
        "num_replicas": 1,
        "duplicate_window": 120_000_000_000,
        "allow_direct": False,
        "deny_delete": False,
        "deny_purge": False,
        "allow_rollup_hdrs": False,
        "allow_msg_ttl": False,
        "metadata": {},
        **config,
    }
