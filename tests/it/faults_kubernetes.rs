//! Rows K1 to K10 of the fault matrix that take the API server, its time or a right away. Those that make it answer wrongly are
//! in `faults_kubernetes_answers.rs`.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use futures::StreamExt;
use k8s_openapi::api::coordination::v1::Lease;
use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams, WatchEvent, WatchParams},
};
use reqwest::Method;
use serde_json::{Value, json};
use sync_operator::crd::SyncExecutionStatus;

use crate::common::{
    account::Account,
    eventually,
    faults::Fault,
    invariants::{check, work},
    objects::update,
    private::Private,
    proxy::Mode,
    worker::second_copies,
    world::World,
};

#[tokio::test]
async fn a_frozen_api_server_holds_up_nothing_but_what_needs_it() {
    let private = Private::start("apiserver");
    let world = World::with(&private, "k1-frozen").await;
    let (controller, api, mut worker) = (world.controller().await, world.api().await, world.worker().await);
    world.create("before", update()).await;
    worker.take().await;
    world.phase("before", "Queued").await;

    private.stop("STOP");
    let asked = Instant::now();
    let (code, problem) = api.call(Method::POST, "/sync/force", Some(json!({"mode": "update"}))).await;
    assert_eq!(code, 503, "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains("Kubernetes"), "{problem}");
    assert!(asked.elapsed() < Duration::from_secs(15), "{:?}", asked.elapsed());
    assert_eq!(world.sql("UPDATE sync_executions SET status = 'success', records_processed = 5").await, 1);
    assert_eq!(api.get("/sync/status").await["records_processed"], 5);
    controller.logged("leadership ended").await;

    private.stop("CONT");
    let thawed = Instant::now();
    world.phase("before", "Succeeded").await;
    world.create("after", update()).await;
    // The request that was answered 503 was taken after all, or it was not.
    let after = world.phase("after", "Queued").await.execution_id.unwrap().parse::<i64>().unwrap();
    while worker.take().await.execution() != after {}
    Fault {
        row: "K1",
        fault: "API server frozen for longer than the lease",
        injected: "SIGSTOP and SIGCONT on kube-apiserver",
        asserted: "/sync/force says 503 within its deadline, reports are taken and read (I7); after the thaw all is shown and recorded (I5)",
    }
    .held(&format!("all was served {} s after the thaw", thawed.elapsed().as_secs()), 0);
}

#[tokio::test]
async fn a_watch_that_is_too_old_to_go_on_lists_anew_and_records_nothing_twice() {
    let private = Private::start("apiserver");
    let world = World::with(&private, "k3").await;
    let (proxy, kubeconfig) = world.kubeconfig_by_proxy().await;
    // The term outlives the outage, so it is the watch that has to find its way.
    let settings = world.settings().with("KUBECONFIG", kubeconfig.display()).with("LEASE_DURATION_SECONDS", 300);
    let (controller, mut worker) = (settings.start("controller"), world.worker().await);
    controller.ready().await;
    for name in ["kept", "deleted"] {
        world.create(name, update()).await;
        world.phase(name, "Queued").await;
    }

    proxy.set(Mode::Refuse);
    proxy.cut();
    world.create("unseen", update()).await;
    world.create("made-and-deleted", update()).await;
    world.delete("made-and-deleted").await;
    world.delete("deleted").await;
    compact(private.port("etcd")).await;
    private.stop("TERM");
    private.again();
    proxy.set(Mode::Pass);

    controller.logged("too old resource version").await;
    world.phase("unseen", "Queued").await;
    let taken = worker.take_many(3).await;
    world.sql("UPDATE sync_executions SET status = 'success'").await;
    for name in ["kept", "unseen"] {
        world.phase(name, "Succeeded").await;
    }
    assert!(worker.take_within(Duration::from_millis(500)).await.is_none());
    assert_eq!(world.number("SELECT count(*) FROM sync_executions WHERE name IN ('kept', 'deleted', 'unseen')").await, 3, "I1");
    assert_eq!(world.number("SELECT count(*) FROM sync_executions").await, 3, "what came and went unseen left no trace");
    assert!(!controller.log().contains("leadership ended"), "the same term found its way");
    Fault {
        row: "K3",
        fault: "410 Gone: the watch goes on from a version that is compacted away",
        injected: "the proxy cuts the watch; meanwhile objects come and go, etcd is compacted, kube-apiserver is started again",
        asserted: "listed anew in the same term; one row per object (I1), no message twice, every end shown (I5)",
    }
    .held("410 seen, listed anew", second_copies(&taken));
}

/// Compacts etcd up to now, by its JSON gateway.
async fn compact(port: u16) {
    let etcd = async |path: &str, body: Value| {
        let answer = reqwest::Client::new().post(format!("http://127.0.0.1:{port}/v3/kv/{path}")).json(&body).send().await.unwrap();
        assert!(answer.status().is_success(), "{path}: {}", answer.status());
        answer.json::<Value>().await.unwrap()
    };
    let now = etcd("range", json!({"key": "AA=="})).await["header"]["revision"].clone();
    etcd("compaction", json!({"revision": now, "physical": true})).await;
}

#[tokio::test]
async fn what_happens_while_the_operator_is_paused_is_seen_as_it_is_in_the_end() {
    let world = World::new("k5").await;
    // The term outlives the pause.
    let controller = world.settings().with("LEASE_DURATION_SECONDS", 300).start("controller");
    let mut worker = world.worker().await;
    controller.ready().await;
    world.create("patched", update()).await;
    worker.take().await;
    world.phase("patched", "Queued").await;

    controller.signal("STOP");
    world.create("ghost", update()).await;
    world.delete("ghost").await;
    for ttl in [3600, 0] {
        let patch = Patch::Merge(json!({"spec": {"ttlSecondsAfterFinished": ttl}}));
        world.objects().patch("patched", &PatchParams::default(), &patch).await.unwrap();
    }
    world.sql("UPDATE sync_executions SET status = 'success' WHERE name = 'patched'").await;
    controller.signal("CONT");
    eventually("the last time to live to count", async || world.objects().get_opt("patched").await.unwrap().is_none().then_some(())).await;

    world.create("after", update()).await;
    world.phase("after", "Queued").await;
    world.sql("UPDATE sync_executions SET status = 'success' WHERE name = 'after'").await;
    world.phase("after", "Succeeded").await;
    let rows = world.number("SELECT count(*) FROM sync_executions WHERE name = 'ghost'").await;
    assert!(rows <= 1, "I1: {rows} rows");
    let unsettled = "SELECT count(*) FROM sync_executions WHERE name = 'ghost' AND status = 'running' AND published_at IS NULL";
    eventually("what was recorded of it to be settled", async || (world.number(unsettled).await == 0).then_some(())).await;
    let published = world.number("SELECT count(*) FROM sync_executions WHERE name = 'ghost' AND published_at IS NOT NULL").await;
    let taken = worker.take_many(1 + usize::try_from(published).unwrap()).await;
    assert!(worker.take_within(Duration::from_millis(500)).await.is_none(), "no message without a record of it");
    assert!(!controller.log().contains("leadership ended"), "the same term");
    Fault {
        row: "K5",
        fault: "objects created and deleted, or changed twice, while the operator is paused",
        injected: "SIGSTOP and SIGCONT on the operator",
        asserted: "the last change counts; what came and went has at most one row, cancelled or published and so recorded (I1, I2)",
    }
    .held(&format!("{rows} rows and {published} messages of what came and went"), second_copies(&taken));
}

#[tokio::test]
async fn somebody_who_rewrites_every_object_all_the_time_causes_no_writes() {
    let world = World::new("k6").await;
    let (controller, mut worker) = (world.controller().await, world.worker().await);
    let shown = statuses(&world).await;
    let names: Vec<String> = (0..5).map(|number| format!("sx-{number}")).collect();
    for name in &names {
        world.create(name, update()).await;
    }
    let annotate = async {
        let mut number = 0;
        loop {
            for name in &names {
                let patch = Patch::Merge(json!({"metadata": {"annotations": {"rewritten": number.to_string()}}}));
                world.objects().patch(name, &PatchParams::default(), &patch).await.unwrap();
            }
            number += 1;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let live = async {
        let taken = work(&world, &mut worker, 5).await;
        check(&world, 5, &taken).await;
        // It goes on after all is shown.
        tokio::time::sleep(Duration::from_secs(2)).await;
        taken
    };
    let taken = tokio::select! {
        taken = live => taken,
        () = annotate => unreachable!(),
    };
    let written = controller.metric(r#"sync_operator_status_writes_total{outcome="written"}"#).await;
    let (events, changes) = eventually("the watch to have seen every write", async || {
        let shown = shown.lock().unwrap();
        let changes: u32 = shown.values().map(|seen| seen.changes).sum();
        (f64::from(changes) >= written).then(|| (shown.values().map(|seen| seen.events).sum::<u32>(), changes))
    })
    .await;
    assert!(f64::from(changes) - written < 0.5, "{written} writes, of which {changes} changed something");
    assert!(changes <= 15, "{changes} status writes for 5 objects");
    assert!(events > 4 * changes, "{events} events: it was a storm");
    Fault {
        row: "K6",
        fault: "each object is rewritten by somebody 20 times a second",
        injected: "merge patches of an annotation",
        asserted: "every end is shown (I5); at most three status writes per object, each of which changed something",
    }
    .held(&format!("{changes} status writes for 5 objects, among {events} events of the watch"), second_copies(&taken));
}

/// What a watch of the test saw of one object.
#[derive(Default)]
struct Shown {
    events: u32,
    changes: u32,
    last: Option<SyncExecutionStatus>,
}

/// What is shown from now on, as the API server tells it.
async fn statuses(world: &World) -> Arc<Mutex<HashMap<String, Shown>>> {
    let shown: Arc<Mutex<HashMap<String, Shown>>> = Arc::default();
    let mut events = world.objects().watch(&WatchParams::default(), "0").await.unwrap().boxed();
    tokio::spawn({
        let shown = Arc::clone(&shown);
        async move {
            while let Some(Ok(event)) = events.next().await {
                let (WatchEvent::Added(object) | WatchEvent::Modified(object)) = event else { continue };
                let mut shown = shown.lock().unwrap();
                let seen = shown.entry(object.name_any()).or_default();
                seen.events += 1;
                if seen.last.is_some() && seen.last != object.status {
                    seen.changes += 1;
                }
                seen.last = object.status;
            }
        }
    });
    shown
}

#[tokio::test]
async fn an_api_server_that_turns_writes_away_costs_neither_the_lease_nor_a_message() {
    let world = World::new("k7").await;
    let account = Account::new(&world);
    account.may_serve(&world.name);
    let tight = TightLevel::for_statuses_of(&world);
    let controller = world.settings().with("KUBECONFIG", account.kubeconfig()).start("controller");
    controller.ready().await;
    let mut worker = world.worker().await;
    let created = (0..100).map(|number| {
        let world = &world;
        async move { world.create(&format!("sx-{number}"), update()).await }
    });
    futures::future::join_all(created).await;
    let taken = work(&world, &mut worker, 100).await;
    let rejected = eventually("writes to be turned away", async || {
        let rejected = tight.rejected().await;
        (rejected > 0.0).then_some(rejected)
    })
    .await;
    tight.lift();
    check(&world, 100, &taken).await;
    assert_eq!(second_copies(&taken), 0);
    assert!(!controller.log().contains("leadership ended"));
    let leases = Api::<Lease>::namespaced(world.client.clone(), &world.name).list(&kube::api::ListParams::default()).await.unwrap();
    assert_eq!(leases.items[0].spec.as_ref().unwrap().lease_transitions.unwrap_or_default(), 0, "one term");
    Fault {
        row: "K7",
        fault: "429: the API server turns status writes away",
        injected: "API Priority and Fairness: our own account in a level of one seat without a queue",
        asserted: "one term of leadership, every message goes out once (I2, I3), every end is shown (I5)",
    }
    .held(&format!("at least {rejected} writes were answered 429 for 100 objects"), 0);
}

/// A priority level in which only one of the account's status writes is served at a time, and no other waits.
struct TightLevel<'a> {
    world: &'a World,
}

impl<'a> TightLevel<'a> {
    fn for_statuses_of(world: &'a World) -> Self {
        let version = "flowcontrol.apiserver.k8s.io/v1";
        let limited = json!({
            "nominalConcurrencyShares": 0, "lendablePercent": 0, "borrowingLimitPercent": 0, "limitResponse": {"type": "Reject"},
        });
        let rules = json!([{
            "subjects": [{"kind": "ServiceAccount", "serviceAccount": {"name": "controller", "namespace": world.name}}],
            "resourceRules": [{"verbs": ["*"], "apiGroups": ["sync.pncp.io"], "resources": ["syncexecutions/status"], "namespaces": ["*"]}],
        }]);
        let spec = json!({
            "matchingPrecedence": 100, "priorityLevelConfiguration": {"name": world.name},
            "distinguisherMethod": {"type": "ByUser"}, "rules": rules,
        });
        for (kind, spec) in [("PriorityLevelConfiguration", json!({"type": "Limited", "limited": limited})), ("FlowSchema", spec)] {
            let object = json!({"apiVersion": version, "kind": kind, "metadata": {"name": world.name}, "spec": spec});
            let done = world.kubectl(&["apply", "-f", "-"], Some(&object));
            assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        }
        Self { world }
    }

    /// How many were turned away, as the API server counts them.
    async fn rejected(&self) -> f64 {
        let request = axum::http::Request::get("/metrics").body(Vec::new()).unwrap();
        let text = self.world.client.request_text(request).await.unwrap();
        let ours = format!("flow_schema=\"{}\"", self.world.name);
        let lines = text.lines().filter(|line| line.starts_with("apiserver_flowcontrol_rejected_requests_total{") && line.contains(&ours));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    fn lift(&self) {
        for kind in ["flowschema", "prioritylevelconfiguration"] {
            self.world.kubectl_succeeds(&["delete", kind, &self.world.name]);
        }
    }
}

#[tokio::test]
async fn without_the_right_to_write_statuses_work_goes_on_and_is_shown_when_the_right_is_back() {
    let world = World::new("k10").await;
    let account = Account::new(&world);
    account.may_serve(&world.name);
    let controller = world.settings().with("KUBECONFIG", account.kubeconfig()).start("controller");
    controller.ready().await;
    let mut worker = world.worker().await;
    world.create("before", update()).await;
    worker.take().await;
    world.phase("before", "Queued").await;

    account.may_not_write_statuses(&world.name);
    eventually("the right to be gone", async || (!account.may("patch", "syncexecutions/status")).then_some(())).await;
    let revoked = Instant::now();
    world.sql("UPDATE sync_executions SET status = 'success', records_processed = 7").await;
    world.create("during", update()).await;
    worker.take().await;
    let failed = r#"sync_operator_status_writes_total{outcome="error"}"#;
    eventually("the metric to tell", async || (controller.metric(failed).await >= 4.0).then_some(())).await;
    controller.logged("forbidden").await;
    let (writes, seconds) = (controller.metric(failed).await, revoked.elapsed().as_secs_f64());
    assert!(writes <= 2.0 * (seconds / 2.0 + 2.0), "{writes} tries for two objects in {seconds} s");
    assert_eq!(world.phase("before", "Queued").await.records_processed, None);

    account.may_serve(&world.name);
    assert_eq!(world.phase("before", "Succeeded").await.records_processed, Some(7));
    world.phase("during", "Queued").await;
    Fault {
        row: "K10",
        fault: "the right to write statuses is revoked, then given again",
        injected: "RBAC",
        asserted: "requests are recorded and published all the same (I2); log and metric tell, tries are spaced; all is shown afterwards (I5)",
    }
    .held(&format!("{writes} refused writes in {seconds:.0} s"), 0);
}
