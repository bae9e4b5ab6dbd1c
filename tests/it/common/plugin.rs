//! `kubectl sync …` as a user types it: through kubectl, which finds the plugin on its PATH.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    sync::OnceLock,
};

use serde_json::{Value, json};
use tokio::{
    process::{Child, Command},
    time::timeout,
};

use super::{PATIENCE, command::Ended, world::World};

/// The plugin as it was built.
pub const PLUGIN: &str = env!("CARGO_BIN_EXE_kubectl-sync");

/// A folder with what `make install-plugin` puts on the PATH.
fn folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("plugin-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        std::os::unix::fs::symlink(PLUGIN, folder.join("kubectl-sync")).unwrap();
        let script = std::process::Command::new(PLUGIN).args(["completion", "kubectl"]).output().unwrap();
        assert!(script.status.success());
        let completer = folder.join("kubectl_complete-sync");
        std::fs::write(&completer, script.stdout).unwrap();
        std::fs::set_permissions(completer, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        folder
    })
}

/// `kubectl ARGUMENTS…` with the plugin on its PATH, and that kubeconfig.
pub fn kubectl(path: &str, kubeconfig: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new("kubectl");
    command
        .args(arguments)
        .env_clear()
        .env("PATH", format!("{}:{path}", folder().display()))
        .env("HOME", env!("CARGO_TARGET_TMPDIR"))
        .env("USER", "ana")
        .env("KUBECONFIG", kubeconfig)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// Runs a command to its end.
pub async fn ended(child: Child) -> Ended {
    let output = timeout(PATIENCE, child.wait_with_output()).await.expect("it ends").unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ended { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

impl Ended {
    /// Panics unless it ended with that code and said all of this on standard error.
    #[track_caller]
    pub fn failed(&self, code: i32, says: &[&str]) {
        assert_eq!(self.code, Some(code), "{self:?}");
        for text in says {
            assert!(self.err.contains(text), "`{text}` is not in {}", self.err);
        }
    }

    /// What it printed; panics unless it succeeded.
    #[track_caller]
    pub fn succeeded(&self) -> &str {
        assert_eq!(self.code, Some(0), "{self:?}");
        &self.out
    }

    /// The JSON that it printed.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(self.succeeded()).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

impl World {
    /// Starts `kubectl sync ARGUMENTS…` in the world's namespace.
    pub fn sync_start(&self, arguments: &[&str]) -> Child {
        let arguments = [&["sync"], arguments, &["-n", &self.name]].concat();
        kubectl(&self.path, &self.kubeconfig, &arguments).spawn().unwrap()
    }

    /// Runs `kubectl sync ARGUMENTS…` in the world's namespace to its end.
    pub async fn sync(&self, arguments: &[&str]) -> Ended {
        ended(self.sync_start(arguments)).await
    }

    /// A user of the world's namespace who may do this with SyncExecutions and nothing else; the flag to act as that user.
    pub fn user(&self, verbs: &[&str]) -> String {
        let user = format!("user-of-{}", self.name);
        let role = json!({"apiVersion": "v1", "kind": "List", "items": [
            {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "user"},
             "rules": [{"apiGroups": ["sync.pncp.io"], "resources": ["syncexecutions"], "verbs": verbs}]},
            {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "user"},
             "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "user"},
             "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}]},
        ]});
        let applied = self.kubectl(&["apply", "-f", "-"], Some(&role));
        assert!(applied.status.success(), "{}", String::from_utf8_lossy(&applied.stderr));
        format!("--as={user}")
    }
}
