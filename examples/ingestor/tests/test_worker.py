"""The worker as a process with a real RabbitMQ: what it takes, how it settles, how it ends."""

import aio_pika
import pytest
from broker import Broker
from process import Ingestor

from ingestor.worker import Finished

JULY_10 = {"mode": "backfill", "data_ini": "2025-07-10T12:00:00", "data_fim": "2025-07-10T18:00:00"}
BROKEN_DAY = {"mode": "backfill", "data_ini": "2025-07-20T00:00:00", "data_fim": "2025-07-21T00:00:00"}
SLOWLY = ("--delay-per-record", "0.05", "--progress-every", "1")


async def test_it_works_off_a_queue_that_others_declared_first(broker: Broker, ingestor: Ingestor):
    await broker.declare()
    await broker.publish(JULY_10 | {"request_id": "42"}, "uid/1")
    await ingestor.start("--once")
    assert await ingestor.end() == 0
    assert any("execution=42 message=uid/1 succeeded records=59" in line for line in ingestor.log)
    assert await broker.waiting() == 0


async def test_others_can_declare_the_queue_after_it(broker: Broker, ingestor: Ingestor):
    await ingestor.ready("--once")
    await broker.declare()
    await broker.publish({"mode": "update"})
    assert await ingestor.end() == 0
    assert any("execution=None" in line and "succeeded records=15" in line for line in ingestor.log)


async def test_a_queue_with_other_settings_is_named(broker: Broker, ingestor: Ingestor):
    async with broker.connection.channel() as channel:
        await channel.declare_queue(broker.queue, durable=True, arguments={"x-max-length": 5})
    await ingestor.start()
    assert await ingestor.end() == 1
    assert f"queue {broker.queue} exists with other settings" in "\n".join(ingestor.log)


@pytest.mark.parametrize("body", [BROKEN_DAY, {"mode": "sideways"}, b"not json"])
async def test_failed_work_is_rejected_without_requeue(broker: Broker, ingestor: Ingestor, body):
    await broker.dead_letter()
    await broker.publish(body, "uid/1")
    await ingestor.start("--once")
    assert await ingestor.end() == 0
    dead = await broker.take(broker.dead_queue)
    assert dead.message_id == "uid/1"
    assert dead.headers["x-death"][0]["reason"] == "rejected"  # type: ignore[index,call-overload]
    assert await broker.waiting() == 0


async def test_successful_work_is_acknowledged(broker: Broker, ingestor: Ingestor):
    await broker.dead_letter()
    await broker.publish({"mode": "update"}, "uid/1")
    await ingestor.start("--once")
    assert await ingestor.end() == 0
    assert await broker.waiting() == 0
    assert await broker.waiting(broker.dead_queue) == 0


async def test_the_second_message_waits_in_the_queue_while_the_first_is_in_hand(broker: Broker, ingestor: Ingestor):
    await broker.publish(JULY_10 | {"request_id": "1"}, "first/1")
    await broker.publish(JULY_10 | {"request_id": "2"}, "second/1")
    await ingestor.ready("--max-messages", "2", "--report", "amqp", *SLOWLY)
    start, progress = await broker.reports(2)
    assert (start.correlation_id, progress.correlation_id) == ("1", "1")
    assert await broker.waiting() == 1
    await ingestor.line("message=first/1 acknowledged")
    await ingestor.line("message=second/1 started")
    assert await ingestor.end() == 0
    assert await broker.waiting() == 0


async def test_a_copy_of_finished_work_is_dropped(broker: Broker, ingestor: Ingestor):
    for message_id in ("uid/1", "uid/1", "uid/2"):
        await broker.publish(JULY_10 | {"request_id": "42"}, message_id)
    await ingestor.start("--max-messages", "3")
    assert await ingestor.end() == 0
    text = "\n".join(ingestor.log)
    assert text.count("started") == 2
    assert text.count("message=uid/1 is a copy of finished work, dropped") == 1
    assert text.count("acknowledged") == 3
    assert await broker.waiting() == 0


async def test_a_copy_of_failed_work_is_rejected_too(broker: Broker, ingestor: Ingestor):
    await broker.dead_letter()
    await broker.publish(BROKEN_DAY, "uid/1")
    await broker.publish(BROKEN_DAY, "uid/1")
    await ingestor.start("--max-messages", "2")
    assert await ingestor.end() == 0
    assert "\n".join(ingestor.log).count("started") == 1
    assert [(await broker.take(broker.dead_queue)).message_id for _ in range(2)] == ["uid/1", "uid/1"]


def test_only_so_many_ends_are_remembered_and_none_without_an_id():
    finished = Finished(limit=2)
    finished.add(None, True)
    finished.add("a", True)
    finished.add("b", False)
    finished.add("c", True)
    assert [finished.get(each) for each in (None, "", "a", "b", "c")] == [None, None, None, False, True]


async def test_sigterm_ends_after_the_message_in_hand(broker: Broker, ingestor: Ingestor):
    await broker.publish(JULY_10 | {"request_id": "1"}, "first/1")
    await broker.publish(JULY_10 | {"request_id": "2"}, "second/1")
    await ingestor.ready(*SLOWLY)
    await ingestor.line("message=first/1 started")
    ingestor.terminate()
    assert await ingestor.end() == 0
    text = "\n".join(ingestor.log)
    assert "message=first/1 acknowledged" in text
    assert "second/1" not in text
    assert await broker.waiting() == 1


async def test_sigterm_ends_an_idle_worker(broker: Broker, ingestor: Ingestor):
    await ingestor.ready()
    ingestor.terminate()
    assert await ingestor.end() == 0


async def test_a_second_sigterm_ends_at_once_and_the_message_stays(broker: Broker, ingestor: Ingestor):
    await broker.publish(JULY_10, "first/1")
    await ingestor.ready("--delay-per-record", "60")
    await ingestor.line("message=first/1 started")
    ingestor.terminate()
    await ingestor.line("stopping after the message in hand")
    ingestor.terminate()
    assert await ingestor.end() == -15
    message = await broker.take(broker.queue)
    assert (message.message_id, message.redelivered) == ("first/1", True)


async def test_a_lost_connection_comes_back_and_the_work_is_not_done_twice(broker: Broker, ingestor: Ingestor):
    await broker.publish(JULY_10 | {"request_id": "42"}, "uid/1")
    # Slow enough that the broker lists the connection, which it does with some delay.
    await ingestor.ready("--report", "amqp", "--delay-per-record", "0.2", "--max-messages", "2")
    await ingestor.line("message=uid/1 started")
    await broker.cut(f"ingestor {broker.queue}")
    await ingestor.line("lost the broker")
    await ingestor.line("the broker is back")
    await ingestor.line("message=uid/1 could not be settled: its connection is gone, it comes again")
    await ingestor.line("message=uid/1 is a copy of finished work, dropped")
    assert await ingestor.end() == 0
    assert await broker.waiting() == 0
    assert "\n".join(ingestor.log).count("started") == 1


async def test_no_password_is_logged(broker: Broker, ingestor: Ingestor):
    ingestor.env["LOG_LEVEL"] = "debug"
    await broker.publish({"mode": "update"})
    await ingestor.start("--once")
    assert await ingestor.end() == 0
    password = aio_pika.connection.make_url(ingestor.env["RABBITMQ_URL"]).password
    assert password and f":{password}@" not in "\n".join(ingestor.log)


async def test_a_broker_that_is_not_there_is_said_without_the_password():
    ingestor = Ingestor({"RABBITMQ_URL": "amqp://user:s3cret@127.0.0.1:1/"})
    await ingestor.start()
    assert await ingestor.end() == 1
    text = "\n".join(ingestor.log)
    assert "gave up: " in text and "s3cret" not in text
