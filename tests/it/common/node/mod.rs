//! A node without a container runtime: it takes the Pods of one namespace as a kubelet does, and runs their containers' own
//! commands, with their environment, volumes, tokens, users and probes, as processes of this machine. What it does not do: images,
//! resource limits, a network for each Pod (each gets a loopback address instead).

mod container;
mod process;
mod volumes;

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use k8s_openapi::api::core::v1::{Binding, Container, ObjectReference, Pod, Probe};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, ListParams, ObjectMeta, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use tokio::{sync::Notify, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use self::{container::Data, process::Launch};

static COUNT: AtomicU32 = AtomicU32::new(0);

/// The name of the node.
const NAME: &str = "it-node";

/// Whether this process may do what only root may.
fn is_root() -> bool {
    std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/proc/self").unwrap()) == 0
}

/// The node, for one namespace; its Pods are killed when it is dropped.
pub struct Node {
    pods: Pods,
    task: JoinHandle<()>,
    directory: PathBuf,
}

type Pods = Arc<Mutex<HashMap<String, Arc<Running>>>>;

/// A Pod that runs, or ran.
#[derive(Debug)]
pub struct Running {
    /// Its name.
    pub name: String,
    /// Its address.
    pub address: String,
    directory: PathBuf,
    stop: Notify,
    restarts: Mutex<HashMap<String, u32>>,
    ready: Mutex<HashMap<String, bool>>,
    ended: Mutex<bool>,
}

impl Running {
    /// Everything that a container wrote.
    pub fn log(&self, container: &str) -> String {
        std::fs::read_to_string(self.directory.join(format!("{container}.log"))).unwrap_or_default()
    }

    /// How often a container had to be started again.
    pub fn restarts(&self) -> u32 {
        self.restarts.lock().unwrap().values().sum()
    }

    /// Whether it has ended and is gone.
    pub fn is_gone(&self) -> bool {
        *self.ended.lock().unwrap()
    }
}

/// What images hold: the program that a reference stands for.
pub type Images = HashMap<String, PathBuf>;

impl Node {
    /// Takes all Pods of `namespace`, those that are there and those to come. An image that is not in `images` cannot be pulled.
    pub fn start(client: &Client, server: &str, namespace: &str, images: Images) -> Self {
        let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("pods").join(namespace);
        let pods = Pods::default();
        let kubelet = Kubelet {
            client: client.clone(),
            api: Api::namespaced(client.clone(), namespace),
            server: url::Url::parse(server).unwrap(),
            namespace: namespace.to_owned(),
            directory: directory.clone(),
            images: Arc::new(images),
        };
        let task = tokio::spawn(kubelet.run(Arc::clone(&pods)));
        Self { pods, task, directory }
    }

    /// The Pods that run now, sorted by name.
    pub fn running(&self) -> Vec<Arc<Running>> {
        assert!(!self.task.is_finished(), "the node ended; its own words are above");
        let mut pods: Vec<_> = self.all().into_iter().filter(|pod| !pod.is_gone()).collect();
        pods.sort_by(|one, other| one.name.cmp(&other.name));
        pods
    }

    /// All Pods that ever ran.
    pub fn all(&self) -> Vec<Arc<Running>> {
        self.pods.lock().unwrap().values().cloned().collect()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.task.abort();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

#[derive(Clone)]
struct Kubelet {
    client: Client,
    api: Api<Pod>,
    server: url::Url,
    namespace: String,
    directory: PathBuf,
    images: Arc<Images>,
}

impl Kubelet {
    async fn run(self, pods: Pods) {
        let mut tasks = tokio::task::JoinSet::new();
        loop {
            let data = Arc::new(volumes::data(&self.client, &self.namespace).await);
            for pod in self.api.list(&ListParams::default()).await.unwrap() {
                let uid = pod.uid().unwrap();
                if pod.spec.as_ref().unwrap().node_name.is_none() {
                    self.bind(&pod).await;
                    continue;
                }
                let known = pods.lock().unwrap().get(&uid).cloned();
                match known {
                    Some(running) if pod.metadata.deletion_timestamp.is_some() => running.stop.notify_one(),
                    Some(running) if !running.is_gone() => refresh(&pod, &running, &data),
                    Some(_) => {}
                    None => {
                        let running = Arc::new(self.place(&pod));
                        pods.lock().unwrap().insert(uid, Arc::clone(&running));
                        tasks.spawn(self.clone().run_pod(pod, running, Arc::clone(&data)));
                    }
                }
            }
            while let Some(done) = tasks.try_join_next() {
                done.unwrap();
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn bind(&self, pod: &Pod) {
        let binding = Binding {
            metadata: ObjectMeta { name: pod.metadata.name.clone(), ..ObjectMeta::default() },
            target: ObjectReference { kind: Some("Node".to_owned()), name: Some(NAME.to_owned()), ..ObjectReference::default() },
        };
        // Deleted meanwhile is no error.
        let _ = self.api.create_subresource::<_, Value>("binding", &pod.name_any(), &PostParams::default(), &binding).await;
    }

    fn place(&self, pod: &Pod) -> Running {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let process = std::process::id();
        Running {
            name: pod.name_any(),
            address: format!("127.{}.{}.{}", 64 + process % 128, (process / 128) % 256, 1 + number % 254),
            directory: self.directory.join(pod.name_any()),
            stop: Notify::new(),
            restarts: Mutex::default(),
            ready: Mutex::default(),
            ended: Mutex::new(false),
        }
    }

    async fn run_pod(self, pod: Pod, running: Arc<Running>, data: Arc<Data>) {
        let spec = pod.spec.clone().unwrap();
        std::fs::create_dir_all(&running.directory).unwrap();
        assert_ne!(spec.automount_service_account_token, None, "the Pod says whether a token is mounted everywhere");
        let tokens = volumes::tokens(&self.client, &pod).await;
        volumes::write(&running.directory.join("volumes"), &pod, &data, &tokens, &running.address);
        std::fs::write(running.directory.join("tokens.json"), serde_json::to_vec(&tokens).unwrap()).unwrap();

        for container in spec.init_containers.iter().flatten() {
            let launch = self.launch(&pod, container, &data, &running);
            loop {
                let status = tokio::select! {
                    status = launch.run() => status,
                    () = running.stop.notified() => return self.gone(&running).await,
                };
                if status.success() {
                    break;
                }
                *running.restarts.lock().unwrap().entry(container.name.clone()).or_default() += 1;
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
        let grace = Duration::from_secs(spec.termination_grace_period_seconds.unwrap_or(30).unsigned_abs());
        let ending = CancellationToken::new();
        let mut containers = tokio::task::JoinSet::new();
        for container in spec.containers.clone() {
            let launch = self.launch(&pod, &container, &data, &running);
            containers.spawn(supervise(container, launch, Arc::clone(&running), ending.clone(), grace));
        }
        let mut shown = None;
        loop {
            tokio::select! {
                () = running.stop.notified() => break,
                () = tokio::time::sleep(Duration::from_millis(100)) => self.show(&spec.containers, &running, &mut shown).await,
            }
        }
        ending.cancel();
        while let Some(done) = containers.join_next().await {
            done.unwrap();
        }
        self.gone(&running).await;
    }

    fn launch(&self, pod: &Pod, container: &Container, data: &Data, running: &Running) -> Launch {
        let image = container.image.clone().unwrap();
        let program = self.images.get(&image).unwrap_or_else(|| panic!("the image {image} cannot be pulled")).clone();
        let mut environment = container::environment(pod, container, data, &running.address);
        environment.insert("KUBERNETES_SERVICE_HOST".to_owned(), self.server.host_str().unwrap().to_owned());
        environment.insert("KUBERNETES_SERVICE_PORT".to_owned(), self.server.port().unwrap().to_string());
        Launch {
            program,
            command: container::command(container),
            environment,
            mounts: volumes::mounts(&running.directory.join("volumes"), container),
            identity: container::identity(pod.spec.as_ref().unwrap().security_context.as_ref(), container.security_context.as_ref()),
            read_only_root: container.security_context.as_ref().and_then(|own| own.read_only_root_filesystem).unwrap_or_default(),
            root: running.directory.join(format!("{}.root", container.name)),
            log: running.directory.join(format!("{}.log", container.name)),
        }
    }

    /// Tells the API server how the Pod is, if that changed.
    async fn show(&self, containers: &[Container], running: &Running, shown: &mut Option<Value>) {
        let ready = running.ready.lock().unwrap().clone();
        let restarts = running.restarts.lock().unwrap().clone();
        let is = |name: &str| ready.get(name).copied().unwrap_or_default();
        let all = if containers.iter().all(|container| is(&container.name)) { "True" } else { "False" };
        let statuses: Vec<_> = containers
            .iter()
            .map(|container| {
                json!({"name": container.name, "image": container.image, "imageID": "", "ready": is(&container.name), "started": true,
                    "restartCount": restarts.get(&container.name).copied().unwrap_or_default(),
                    "state": {"running": {}}})
            })
            .collect();
        let conditions: Vec<_> = [("PodScheduled", "True"), ("Initialized", "True"), ("ContainersReady", all), ("Ready", all)]
            .map(|(kind, status)| json!({"type": kind, "status": status, "lastTransitionTime": k8s_openapi::jiff::Timestamp::now().to_string()}))
            .into();
        let key = json!([all, statuses]);
        if shown.as_ref() == Some(&key) {
            return;
        }
        let status = json!({"status": {"phase": "Running", "podIP": running.address, "podIPs": [{"ip": running.address}],
            "conditions": conditions, "containerStatuses": statuses}});
        // Not found: it is being deleted, which the list will tell.
        if self.api.patch_status(&running.name, &PatchParams::default(), &Patch::Merge(status)).await.is_ok() {
            *shown = Some(key);
        }
    }

    async fn gone(&self, running: &Running) {
        *running.ended.lock().unwrap() = true;
        let _ = self.api.delete(&running.name, &DeleteParams::default().grace_period(0)).await;
    }
}

/// What was rotated shows in the files; the tokens stay.
fn refresh(pod: &Pod, running: &Running, data: &Data) {
    if let Ok(tokens) = std::fs::read(running.directory.join("tokens.json")) {
        volumes::write(&running.directory.join("volumes"), pod, data, &serde_json::from_slice(&tokens).unwrap(), &running.address);
    }
}

/// Keeps a container running until the Pod ends, and tells whether it is ready.
async fn supervise(container: Container, launch: Launch, running: Arc<Running>, ending: CancellationToken, grace: Duration) {
    let asks =
        |probe: &Option<Probe>| probe.as_ref().map(|probe| (container::probe_url(&container, probe, &running.address), probe.clone()));
    let (startup, readiness, liveness) =
        (asks(&container.startup_probe), asks(&container.readiness_probe), asks(&container.liveness_probe));
    let set_ready = |ready| {
        running.ready.lock().unwrap().insert(container.name.clone(), ready);
    };
    loop {
        let mut child = launch.start();
        let mut started = startup.is_none();
        let mut failures = 0;
        loop {
            tokio::select! {
                _ = child.wait() => break,
                () = ending.cancelled() => {
                    set_ready(false);
                    return end(&container, child, grace).await;
                }
                () = tokio::time::sleep(Duration::from_millis(200)) => {}
            }
            if let (false, Some((url, _))) = (started, &startup) {
                started = succeeds(url).await;
                continue;
            }
            set_ready(match &readiness {
                Some((url, _)) => succeeds(url).await,
                None => true,
            });
            if let Some((url, probe)) = &liveness {
                failures = if succeeds(url).await { 0 } else { failures + 1 };
                if failures >= probe.failure_threshold.unwrap_or(3) {
                    child.start_kill().unwrap();
                }
            }
        }
        set_ready(false);
        *running.restarts.lock().unwrap().entry(container.name.clone()).or_default() += 1;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

async fn succeeds(url: &str) -> bool {
    let answer = reqwest::Client::new().get(url).timeout(Duration::from_secs(1)).send().await;
    answer.is_ok_and(|answer| answer.status().is_success())
}

/// The hook, then TERM, then KILL when the grace is over.
async fn end(container: &Container, mut child: tokio::process::Child, grace: Duration) {
    let hook = container.lifecycle.as_ref().and_then(|lifecycle| lifecycle.pre_stop.as_ref());
    let wait = hook.map_or(0, |hook| hook.sleep.as_ref().expect("only a sleep is known here").seconds);
    let in_time = tokio::time::timeout(grace, async {
        tokio::time::sleep(Duration::from_secs(wait.unsigned_abs())).await;
        if let Some(pid) = child.id() {
            let _ = tokio::process::Command::new("kill").args(["-s", "TERM", &pid.to_string()]).status().await;
        }
        child.wait().await.unwrap()
    })
    .await;
    if in_time.is_err() {
        child.kill().await.unwrap();
        panic!("{} did not end within its grace of {grace:?}", container.name);
    }
}

/// The program that images of this release hold.
pub fn program() -> PathBuf {
    Path::new(env!("CARGO_BIN_EXE_sync-operator")).to_owned()
}
