//! The broker killed, frozen, short of memory, resetting, refusing or losing: what had to go out goes out under one id, what
//! did not is told. The milder outages are in `broker.rs`.

use std::{collections::BTreeSet, time::Duration};

use reqwest::Method;
use serde_json::{Value, json};

use crate::common::{
    eventually,
    faults::Fault,
    invariants::{check, work},
    objects::{backfill, update},
    private::Private,
    proxy::{Mode, Proxy},
    worker::{QUEUE, Taken, second_copies},
    world::World,
};

/// Messages that the relay claims at a time, and keeps in flight.
const BATCH: usize = 200;

/// Makes that many objects whose rows no relay may claim before [`let_go`], so that all go out in one batch.
async fn create_held(world: &World, count: usize) {
    world
        .sql(
            "CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN NEW.claimed_until := now() + interval '1 hour'; RETURN NEW; END $$",
        )
        .await;
    world.sql("CREATE TRIGGER hold BEFORE INSERT ON sync_executions FOR EACH ROW EXECUTE FUNCTION hold()").await;
    for number in 0..count {
        world.create(&format!("sx-{number}"), if number % 2 == 0 { update() } else { backfill() }).await;
    }
    eventually("all rows", async || {
        (world.number("SELECT count(*) FROM sync_executions").await == i64::try_from(count).unwrap()).then_some(())
    })
    .await;
    world.sql("DROP TRIGGER hold ON sync_executions").await;
}

/// Lets the relay claim them, all at once.
async fn let_go(world: &World) {
    world.sql("UPDATE sync_executions SET claimed_until = NULL").await;
}

/// Of that many objects, has the first batch at the broker, whose confirms the proxy swallows.
async fn unconfirmed(world: &World, proxy: &Proxy, count: usize) {
    create_held(world, count).await;
    proxy.set(Mode::SwallowAnswers);
    let_go(world).await;
    eventually("the batch at the broker", async || {
        let queue: Value = serde_json::from_str(&world.manage(Method::GET, &format!("queues/{}/{QUEUE}", world.name), None).await).unwrap();
        (queue["messages"] == BATCH).then_some(())
    })
    .await;
}

/// The same, and has the relay claim the next batch.
async fn unconfirmed_and_next_claimed(world: &World, proxy: &Proxy, count: usize) {
    unconfirmed(world, proxy, count).await;
    eventually("two batches claimed", async || (usize::try_from(world.claimed().await).unwrap() == 2 * BATCH).then_some(())).await;
}

/// How many of these messages are of executions after the first batch.
fn never_on_its_way(taken: &[Taken]) -> usize {
    let executions: BTreeSet<i64> = taken.iter().map(Taken::execution).collect();
    let first: BTreeSet<i64> = executions.into_iter().take(BATCH).collect();
    taken.iter().filter(|message| !first.contains(&message.execution())).count()
}

#[tokio::test]
async fn a_broker_killed_with_a_whole_batch_unconfirmed_loses_none_of_it() {
    let private = Private::start("rabbitmq");
    let world = World::with(&private, "broker-killed").await;
    let (proxy, url) = Proxy::for_url(&world.rabbitmq_url).await;
    let controller = world.settings().with("RABBITMQ_URL", &url).start("controller");
    controller.logged("connected to the broker").await;
    unconfirmed(&world, &proxy, BATCH).await;
    private.stop("KILL");
    assert_eq!(world.unpublished().await, i64::try_from(BATCH).unwrap(), "nothing was confirmed");
    proxy.set(Mode::Pass);
    private.again();
    let mut worker = world.worker().await;
    let mut taken = work(&world, &mut worker, i64::try_from(BATCH).unwrap()).await;
    taken.extend(worker.take_rest().await);
    check(&world, BATCH, &taken).await;
    assert!(second_copies(&taken) <= BATCH, "one more copy each at most");
    Fault {
        row: "R1",
        fault: "broker killed with a whole batch unconfirmed",
        injected: "the proxy swallows the confirms of 200 messages, then SIGKILL, then a start with the same disk",
        asserted: "all 200 come to the worker, each under its one id, and end in row and object (I1–I5)",
    }
    .held(&format!("{BATCH} executions ended"), second_copies(&taken));
}

/// Raises an alarm at the broker until several tries were made, then lifts it.
async fn through_an_alarm(name: &'static str, raise: [&str; 2], lift: [&str; 2]) {
    const COUNT: usize = 20;
    let private = Private::start("rabbitmq");
    let world = World::with(&private, &format!("broker-{name}")).await;
    let controller = world.controller().await;
    controller.logged("connected to the broker").await;
    let api = world.api().await;
    world.create("before", update()).await;
    world.phase("before", "Queued").await;
    controller.logged("taking reports").await;
    let before = controller.holds();

    private.rabbitmqctl(&raise);
    for number in 0..COUNT {
        world.create(&format!("sx-{number}"), update()).await;
    }
    world.condition("sx-0", "Published", "False", "BrokerUnavailable").await;
    // Long enough for several tries.
    eventually("a third try", async || (controller.log().matches("executions wait").count() >= 2).then_some(())).await;
    let during = controller.holds();
    assert!(during.threads <= before.threads, "tries leave connections open: {before:?} {during:?}");
    assert_eq!(api.get("/sync/history").await["total_count"], COUNT + 1);
    private.rabbitmqctl(&lift);

    let mut worker = world.worker().await;
    let mut taken = work(&world, &mut worker, i64::try_from(COUNT + 1).unwrap()).await;
    taken.extend(worker.take_rest().await);
    check(&world, COUNT + 1, &taken).await;
    let copies = second_copies(&taken);
    assert!(copies <= COUNT, "{copies} copies of {COUNT} messages: a try leaves none behind");
    controller.ready().await;
    Fault {
        row: "R2",
        fault: &format!("{name} alarm at the broker"),
        injected: &format!("rabbitmqctl {} {} until three tries were made", raise[0], raise[1]),
        asserted: "the reason is on the objects, REST answers, no connection is left behind by a try, at most one more copy of what was under way (I1–I6)",
    }
    .held(&format!("{} threads before, {} during", before.threads, during.threads), copies);
}

#[tokio::test]
async fn a_broker_short_of_memory_is_told_and_gets_at_most_one_more_copy_of_what_was_under_way() {
    through_an_alarm("memory", ["set_vm_memory_high_watermark", "0"], ["set_vm_memory_high_watermark", "0.4"]).await;
}

#[tokio::test]
async fn a_broker_short_of_disk_is_told_and_gets_at_most_one_more_copy_of_what_was_under_way() {
    through_an_alarm("disk", ["set_disk_free_limit", "100000GB"], ["set_disk_free_limit", "50MB"]).await;
}

#[tokio::test]
async fn a_planned_end_with_confirms_outstanding_ends_in_time_and_the_next_one_goes_on() {
    const COUNT: usize = 1000;
    let world = World::new("broker-drain").await;
    let (proxy, url) = Proxy::for_url(&world.rabbitmq_url).await;
    let controller = world.settings().with("RABBITMQ_URL", &url).start("controller");
    controller.logged("connected to the broker").await;
    unconfirmed(&world, &proxy, COUNT).await;
    let (status, took) = controller.terminate().await;
    assert!(status.success(), "{status}");
    assert!(took < Duration::from_secs(30), "{took:?}: longer than a Pod is given to end");
    assert_eq!(world.unpublished().await, i64::try_from(COUNT).unwrap(), "nothing was confirmed");
    proxy.set(Mode::Pass);

    let _controller = world.controller().await;
    let mut worker = world.worker().await;
    let mut taken = work(&world, &mut worker, i64::try_from(COUNT).unwrap()).await;
    taken.extend(worker.take_rest().await);
    check(&world, COUNT, &taken).await;
    let copies = second_copies(&taken);
    assert!(copies <= BATCH, "{copies} copies: only of what was on its way");
    Fault {
        row: "C2",
        fault: "It is asked to end with a batch unconfirmed and more waiting",
        injected: "1,000 requests; the proxy swallows the confirms of the first 200; SIGTERM",
        asserted: "it ends within 30 s, with exit code 0; the next one publishes all, under the same ids (I1–I5)",
    }
    .held(&format!("ended after {} s", took.as_secs()), copies);
}

#[tokio::test]
async fn what_was_claimed_ahead_of_a_silent_broker_goes_out_once_when_the_broker_answers() {
    const COUNT: usize = 500;
    let world = World::new("broker-silent-backlog").await;
    let (proxy, url) = Proxy::for_url(&world.rabbitmq_url).await;
    let controller = world.settings().with("RABBITMQ_URL", &url).start("controller");
    controller.logged("connected to the broker").await;
    unconfirmed_and_next_claimed(&world, &proxy, COUNT).await;
    controller.logged("no confirm within 10 s").await;
    proxy.set(Mode::Pass);
    let mut worker = world.worker().await;
    let mut taken = work(&world, &mut worker, i64::try_from(COUNT).unwrap()).await;
    taken.extend(worker.take_rest().await);
    check(&world, COUNT, &taken).await;
    assert_eq!(never_on_its_way(&taken), COUNT - BATCH, "a second copy of what was only claimed");
}

#[tokio::test]
async fn killed_with_the_next_batch_claimed_it_sends_again_what_was_on_its_way_and_once_what_was_only_claimed() {
    const COUNT: usize = 500;
    let world = World::new("broker-killed-backlog").await;
    let (proxy, url) = Proxy::for_url(&world.rabbitmq_url).await;
    // The next one takes the lease at once: it is its own.
    let settings = world.settings().with("RABBITMQ_URL", &url).with("LEASE_IDENTITY", "same");
    let controller = settings.start("controller");
    controller.logged("connected to the broker").await;
    unconfirmed_and_next_claimed(&world, &proxy, COUNT).await;
    controller.kill().await;
    proxy.set(Mode::Pass);
    let _controller = settings.start("controller");
    eventually("all published", async || (world.unpublished().await == 0).then_some(())).await;
    let mut worker = world.worker().await;
    let mut taken = work(&world, &mut worker, i64::try_from(COUNT).unwrap()).await;
    taken.extend(worker.take_rest().await);
    check(&world, COUNT, &taken).await;
    assert_eq!(second_copies(&taken), BATCH);
    assert_eq!(never_on_its_way(&taken), COUNT - BATCH, "a second copy of what was only claimed");
}

#[tokio::test]
async fn a_connection_reset_between_publish_and_confirm_sends_again_under_the_same_id() {
    let world = World::new("broker-reset").await;
    let (proxy, url) = Proxy::for_url(&world.rabbitmq_url).await;
    let controller = world.settings().with("RABBITMQ_URL", &url).start("controller");
    controller.logged("connected to the broker").await;
    let mut worker = world.worker().await;
    proxy.set(Mode::SwallowAnswers);
    world.create("x", update()).await;
    let first = worker.take().await;
    assert_eq!(world.unpublished().await, 1);
    proxy.set(Mode::Pass);
    proxy.reset();
    let second = worker.take().await;
    assert_eq!((second.message_id(), &second.text), (first.message_id(), &first.text));
    let mut taken = vec![first, second];
    world.sql("UPDATE sync_executions SET status = 'success'").await;
    taken.extend(worker.take_rest().await);
    check(&world, 1, &taken).await;
    assert_eq!(taken.len(), 2);
    Fault {
        row: "R3",
        fault: "connection reset after the publish, before its confirm",
        injected: "the proxy swallows the confirm, then resets the connection (RST)",
        asserted: "published again with the same message id, once; one row (I1–I5)",
    }
    .held("published again once", second_copies(&taken));
}

#[tokio::test]
async fn a_channel_that_the_broker_closes_is_replaced_until_the_right_to_write_is_back() {
    let world = World::new("broker-forbidden").await;
    let (proxy, url) = Proxy::for_url(&world.rabbitmq_url).await;
    let controller = world.settings().with("RABBITMQ_URL", &url).start("controller");
    controller.logged("connected to the broker").await;
    let user = url::Url::parse(&world.rabbitmq_url).unwrap().username().to_owned();
    let permissions = format!("permissions/{}/{user}", world.name);
    world.manage(Method::PUT, &permissions, Some(json!({"configure": ".*", "write": "^$", "read": ".*"}))).await;
    // The broker remembers for each channel what it was allowed to do.
    proxy.reset();
    for number in 0..10 {
        world.create(&format!("sx-{number}"), update()).await;
    }
    let waiting = world.condition("sx-9", "Published", "False", "BrokerUnavailable").await;
    let told = waiting.conditions.iter().find(|condition| condition.type_ == "Published").unwrap().message.clone();
    assert!(told.contains("ACCESS_REFUSED") || told.contains("403"), "{told}");
    world.manage(Method::PUT, &permissions, Some(json!({"configure": ".*", "write": ".*", "read": ".*"}))).await;
    let mut worker = world.worker().await;
    let mut taken = work(&world, &mut worker, 10).await;
    taken.extend(worker.take_rest().await);
    check(&world, 10, &taken).await;
    assert_eq!(second_copies(&taken), 0, "what was refused is not on the queue");
    Fault {
        row: "R4",
        fault: "channel closed by the broker when it is published to (403 ACCESS_REFUSED)",
        injected: "the right to write taken from the broker's user and the connection reset; then the right given back",
        asserted: "the reason is on the objects, a new channel is opened, each message goes out once (I1–I5)",
    }
    .held("10 messages, each once", 0);
}

#[tokio::test]
async fn of_two_hundred_in_flight_exactly_those_that_were_returned_are_told_and_go_out_again() {
    let world = World::new("broker-returned").await;
    let (proxy, url) = Proxy::for_url(&world.rabbitmq_url).await;
    let controller = world.settings().with("RABBITMQ_URL", &url).start("controller");
    controller.logged("connected to the broker").await;
    create_held(&world, BATCH).await;
    let queue = format!("queues/{}/{QUEUE}", world.name);
    world.manage(Method::DELETE, &queue, None).await;
    // The queue is missing for the first part of the batch, and there for the second.
    proxy.set(Mode::Limit(30_000));
    let_go(&world).await;
    // A returned message is sent back whole.
    proxy.answered(5_000).await;
    let mut worker = world.worker().await;
    proxy.set(Mode::Pass);
    eventually("the outcome of the batch", async || {
        let told = world.number("SELECT count(*) FROM sync_executions WHERE published_at IS NOT NULL OR publish_problem IS NOT NULL").await;
        (told == i64::try_from(BATCH).unwrap()).then_some(())
    })
    .await;
    let mut taken = work(&world, &mut worker, i64::try_from(BATCH).unwrap()).await;
    taken.extend(worker.take_rest().await);
    check(&world, BATCH, &taken).await;
    assert_eq!(second_copies(&taken), 0, "a return told of the wrong row would lose one message and send another twice");
    let unroutable = controller.metric(r#"sync_operator_publishes_total{outcome="Unroutable"}"#).await;
    assert!(unroutable > 0.0 && unroutable < 200.0, "{unroutable} of the batch were returned");
    Fault {
        row: "R7",
        fault: "queue missing for a part of 200 messages in flight",
        injected: "queue deleted; the proxy keeps the second part of the batch back until the queue is there again",
        asserted: "exactly the returned ones are told as Unroutable and go out again: none lost, none twice (I1–I5)",
    }
    .held(&format!("{unroutable} of {BATCH} returned"), 0);
}

#[tokio::test]
async fn a_frozen_broker_is_left_after_the_deadline_and_taken_up_again_without_a_leak() {
    let private = Private::start("rabbitmq");
    let world = World::with(&private, "broker-frozen").await;
    let controller = world.controller().await;
    controller.logged("connected to the broker").await;
    world.create("before", update()).await;
    world.phase("before", "Queued").await;
    controller.logged("taking reports").await;
    let before = controller.holds();
    private.stop("STOP");
    world.create("during", update()).await;
    world.condition("during", "Published", "False", "BrokerUnavailable").await;
    eventually("two more tries", async || (controller.log().matches("executions wait").count() >= 2).then_some(())).await;
    let during = controller.holds();
    private.stop("CONT");
    let mut worker = world.worker().await;
    let mut taken = work(&world, &mut worker, 2).await;
    taken.extend(worker.take_rest().await);
    check(&world, 2, &taken).await;
    controller.ready().await;
    assert!(during.threads <= before.threads, "tries leave connections open: {before:?} {during:?}");
    let after = eventually("no more threads than before", async || {
        let now = controller.holds();
        (now.threads <= before.threads).then_some(now)
    })
    .await;
    Fault {
        row: "R9",
        fault: "broker frozen",
        injected: "SIGSTOP of the broker until three tries were made, then SIGCONT",
        asserted: "the deadline fires, the reason is on the object, no try leaves a connection, all goes out afterwards (I1–I6)",
    }
    .held(&format!("{} threads before, {} during, {} after", before.threads, during.threads, after.threads), second_copies(&taken));
}
