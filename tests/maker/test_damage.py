"""The store has lost changes of the kill switch, the last of which may have been a pause."""

import asyncio
from datetime import timedelta

import pytest

from jet.switch_log import KEY, STREAM
from jet.tail import Message
from maker.killswitch import SwitchState
from maker.switch import DAMAGED, Switch
from process.clock import utc_now
from support.broker import Broker, damage
from support.waiting import HANG, eventually


def quarantine(_: str, message: Message, why: str) -> None:
    raise AssertionError(f"{message} is quarantined: {why}")


def switch_on(broker: Broker) -> Switch:
    return Switch(broker.connection, utc_now, lambda: None, quarantine, timedelta(seconds=30))


async def change_switch(broker: Broker, *, paused: bool) -> None:
    switch = switch_on(broker)
    running = asyncio.create_task(switch.run())
    await eventually(lambda: switch.current)
    if paused:
        hold = switch.pause()
        await eventually(lambda: switch.seen.landed == hold.number)
    else:
        assert await eventually(switch.resume)
    running.cancel()


@pytest.mark.parametrize("killed", [False, True], ids=["with its index", "killed"])
@pytest.mark.parametrize("before", [[], [False]], ids=["the only change", "the last of two"])
async def test_makers_pause_until_the_switch_is_changed(own_broker: Broker, before: list[bool], killed: bool) -> None:
    for paused in [*before, True]:
        await change_switch(own_broker, paused=paused)
    own_broker.server.stop()
    damage(own_broker.server, STREAM, b'"paused":true', killed=killed)
    own_broker.server.start()
    switch = switch_on(own_broker)
    running = asyncio.create_task(switch.run())
    await eventually(lambda: switch.current)
    assert (switch.seen.state, switch.seen.by) == (SwitchState.PAUSED, DAMAGED)
    running.cancel()
    if not killed:  # `./qs repair` does this if the server itself cannot read a message
        ask = f'{{"filter": "{KEY}"}}'.encode()
        await own_broker.connection.request(f"$JS.API.STREAM.PURGE.{STREAM}", ask, timeout=HANG)
    await change_switch(own_broker, paused=False)
    switch = switch_on(own_broker)
    running = asyncio.create_task(switch.run())
    await eventually(lambda: switch.current)
    assert killed or switch.seen.state is SwitchState.QUOTING
    running.cancel()
