//! The cluster of the user's kubeconfig: the flags that choose it as kubectl's do, and calls with a deadline.

use std::{future::Future, path::PathBuf, time::Duration};

use clap::Args;
use kube::{
    Api, Client, Config,
    api::ListParams,
    config::{KubeConfigOptions, Kubeconfig, KubeconfigError, NamedCluster, NamedContext},
};
use secrecy::SecretString;
use sync_operator::crd::SyncExecution;
use tokio::time::timeout;

use crate::{age, failure::Failure, report::redact};

/// Deadline for opening a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Seconds after which a watch is begun anew: a connection that died in silence is noticed then.
pub const WATCH_SECONDS: u32 = 60;
/// Objects per page of a list.
const PAGE: u32 = 500;

/// Which cluster, and as whom: the flags of kubectl, which mean what they mean there.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Cluster options (as kubectl's)")]
pub struct ClusterFlags {
    /// Kubeconfig file to use instead of KUBECONFIG and ~/.kube/config.
    #[arg(long, global = true, value_name = "FILE", value_hint = clap::ValueHint::FilePath, hide_short_help = true)]
    kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig to use.
    #[arg(long, global = true, value_name = "NAME", hide_short_help = true)]
    context: Option<String>,
    /// Cluster of the kubeconfig to use.
    #[arg(long, global = true, value_name = "NAME", hide_short_help = true)]
    cluster: Option<String>,
    /// User of the kubeconfig to use.
    #[arg(long, global = true, value_name = "NAME", hide_short_help = true)]
    user: Option<String>,
    /// Namespace; that of the context if not given.
    #[arg(short, long, global = true)]
    namespace: Option<String>,
    /// Address of the API server.
    #[arg(short, long, global = true, value_name = "URL", hide_short_help = true)]
    server: Option<String>,
    /// Bearer token to log in with.
    #[arg(long, global = true, hide_short_help = true)]
    token: Option<SecretString>,
    /// User to act as.
    #[arg(long = "as", global = true, value_name = "USER", hide_short_help = true)]
    act_as: Option<String>,
    /// Group to act as; can be repeated.
    #[arg(long, global = true, value_name = "GROUP", hide_short_help = true)]
    as_group: Vec<String>,
    /// File with the certificate of the authority that signed the server's.
    #[arg(long, global = true, value_name = "FILE", value_hint = clap::ValueHint::FilePath, hide_short_help = true)]
    certificate_authority: Option<PathBuf>,
    /// Do not check the server's certificate. The connection is then not secure.
    #[arg(long, global = true, hide_short_help = true)]
    insecure_skip_tls_verify: bool,
    /// Longest time for one call to the API server.
    #[arg(long, global = true, value_name = "DURATION", default_value = "30s", value_parser = age::parse_positive, hide_short_help = true)]
    pub request_timeout: Duration,
}

/// A cluster, and the namespace that is meant.
pub struct Cluster {
    /// The client.
    pub client: Client,
    /// The namespace.
    pub namespace: String,
    /// The API server's address, for messages.
    pub server: String,
    deadline: Duration,
}

impl ClusterFlags {
    /// The namespace as given, for what needs no cluster.
    #[must_use]
    pub fn given_namespace(&self) -> Option<&str> {
        self.namespace.as_deref()
    }

    /// Reads the kubeconfig; contacts nobody yet.
    ///
    /// # Errors
    /// [`Failure::Usage`]: what is wrong with the kubeconfig or a flag.
    pub async fn connect(&self) -> Result<Cluster, Failure> {
        let mut config = self.config().await?;
        // Retries hidden in a call would outlast its deadline.
        config.default_retry = false;
        config.connect_timeout = Some(CONNECT_TIMEOUT);
        // Longer than the silence of a healthy watch; all other calls have a shorter deadline of their own.
        config.read_timeout = Some(self.request_timeout.max(Duration::from_secs(u64::from(WATCH_SECONDS) + 10)));
        config.reset_reader_on_write = true;
        self.apply(&mut config)?;
        let namespace = self.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
        let server = redact::text(config.cluster_url.to_string().trim_end_matches('/'));
        let client = Client::try_from(config).map_err(|error| Failure::Usage(format!("the kubeconfig cannot be used: {error}")))?;
        Ok(Cluster { client, namespace, server, deadline: self.request_timeout })
    }

    async fn config(&self) -> Result<Config, Failure> {
        let read = match &self.kubeconfig {
            Some(file) => Kubeconfig::read_from(file),
            None => Kubeconfig::read(),
        };
        let kubeconfig = match read {
            Ok(kubeconfig) => self.with_server(kubeconfig),
            Err(KubeconfigError::ReadConfig(..) | KubeconfigError::FindPath) if self.kubeconfig.is_none() && self.server.is_some() => {
                self.with_server(Kubeconfig::default())
            }
            Err(error) => {
                let chosen = self.kubeconfig.is_some() || self.context.is_some() || self.cluster.is_some() || self.user.is_some();
                return match Config::incluster() {
                    Ok(config) if !chosen => Ok(config),
                    _ => {
                        Err(Failure::Usage(format!("no kubeconfig can be read: {error}: set KUBECONFIG, or name a file with --kubeconfig")))
                    }
                };
            }
        };
        let options = KubeConfigOptions { context: self.context.clone(), cluster: self.cluster.clone(), user: self.user.clone() };
        Config::from_custom_kubeconfig(kubeconfig, &options)
            .await
            .map_err(|error| Failure::Usage(format!("the kubeconfig cannot be used: {error}: see kubectl config get-contexts")))
    }

    /// With `--server` a kubeconfig needs no context.
    fn with_server(&self, mut kubeconfig: Kubeconfig) -> Kubeconfig {
        if let Some(server) = &self.server
            && self.context.is_none()
            && kubeconfig.current_context.as_deref().unwrap_or_default().is_empty()
        {
            let name = "--server".to_owned();
            let cluster = kube::config::Cluster { server: Some(server.clone()), ..Default::default() };
            kubeconfig.clusters.push(NamedCluster { name: name.clone(), cluster: Some(cluster), ..Default::default() });
            let user = kubeconfig.auth_infos.first().map(|user| user.name.clone());
            let context = kube::config::Context { cluster: name.clone(), user, ..Default::default() };
            kubeconfig.contexts.push(NamedContext { name: name.clone(), context: Some(context), ..Default::default() });
            kubeconfig.current_context = Some(name);
        }
        kubeconfig
    }

    fn apply(&self, config: &mut Config) -> Result<(), Failure> {
        if let Some(server) = &self.server {
            config.cluster_url = server.parse().map_err(|error| Failure::Usage(format!("--server: {server} is not a URL: {error}")))?;
        }
        if let Some(file) = &self.certificate_authority {
            std::fs::metadata(file)
                .map_err(|error| Failure::Usage(format!("--certificate-authority: {} cannot be read: {error}", file.display())))?;
            config.root_cert_file = Some(file.clone());
        }
        if self.insecure_skip_tls_verify {
            config.accept_invalid_certs = true;
        }
        if let Some(token) = &self.token {
            // Whoever names a token means to be its owner, whatever else the kubeconfig has.
            let (user, groups) = (config.auth_info.impersonate.take(), config.auth_info.impersonate_groups.take());
            config.auth_info =
                kube::config::AuthInfo { token: Some(token.clone()), impersonate: user, impersonate_groups: groups, ..Default::default() };
        }
        if let Some(user) = &self.act_as {
            config.auth_info.impersonate = Some(user.clone());
        }
        if !self.as_group.is_empty() {
            if config.auth_info.impersonate.is_none() {
                return Err(Failure::Usage("--as-group needs --as: say as which user".to_owned()));
            }
            config.auth_info.impersonate_groups = Some(self.as_group.clone());
        }
        Ok(())
    }
}

impl Cluster {
    /// SyncExecutions of the namespace, or of all.
    #[must_use]
    pub fn objects(&self, all: bool) -> Api<SyncExecution> {
        if all { Api::all(self.client.clone()) } else { Api::namespaced(self.client.clone(), &self.namespace) }
    }

    /// One call with its deadline. `doing` reads as in "cannot …"; a `hint` says what to look at if no answer comes.
    ///
    /// # Errors
    /// [`Failure::Refused`], [`Failure::Silent`].
    pub async fn call<T>(&self, doing: &str, call: impl Future<Output = Result<T, kube::Error>>) -> Result<T, Failure> {
        self.call_with_hint(doing, "", call).await
    }

    /// The same, with what to look at if no answer comes.
    ///
    /// # Errors
    /// As [`Cluster::call`].
    pub async fn call_with_hint<T>(
        &self,
        doing: &str,
        hint: &str,
        call: impl Future<Output = Result<T, kube::Error>>,
    ) -> Result<T, Failure> {
        match timeout(self.deadline, call).await {
            Ok(answer) => answer.map_err(|source| self.refused(doing, source)),
            Err(_) => {
                Err(Failure::Silent { doing: doing.to_owned(), server: self.server.clone(), after: self.deadline, hint: hint.to_owned() })
            }
        }
    }

    /// The failure for an error of the client.
    #[must_use]
    pub fn refused(&self, doing: &str, source: kube::Error) -> Failure {
        Failure::Refused { doing: doing.to_owned(), server: self.server.clone(), source: Box::new(source) }
    }

    /// One SyncExecution.
    ///
    /// # Errors
    /// As [`Cluster::call`].
    pub async fn get(&self, name: &str) -> Result<SyncExecution, Failure> {
        self.call(&format!("read SyncExecution {name}"), self.objects(false).get(name)).await.map(without_managed_fields)
    }

    /// Gives all objects that `fields` selects to `take`, a page at a time, so that it does not matter how many there are.
    ///
    /// # Errors
    /// As [`Cluster::call`].
    pub async fn each_page(&self, all: bool, fields: &str, mut take: impl FnMut(Vec<SyncExecution>)) -> Result<(), Failure> {
        let api = self.objects(all);
        let mut params = ListParams::default().fields(fields).limit(PAGE);
        loop {
            let page = match self.call("list SyncExecutions", api.list(&params)).await {
                Ok(page) => page,
                // Reading took longer than the server keeps old states: it offers to go on with the newest.
                Err(Failure::Refused { source, .. }) if newer(&source).is_some() => {
                    params.continue_token = newer(&source);
                    continue;
                }
                Err(failure) => return Err(failure),
            };
            params.continue_token = page.metadata.continue_.filter(|token| !token.is_empty());
            take(page.items.into_iter().map(without_managed_fields).collect());
            if params.continue_token.is_none() {
                return Ok(());
            }
        }
    }
}

fn newer(error: &kube::Error) -> Option<String> {
    let kube::Error::Api(status) = error else { return None };
    status.metadata.as_ref().filter(|_| status.code == 410)?.continue_.clone().filter(|token| !token.is_empty())
}

/// As kubectl shows objects: who wrote which field is of no use here.
#[must_use]
pub fn without_managed_fields(mut object: SyncExecution) -> SyncExecution {
    object.metadata.managed_fields = None;
    object
}
