//! A container as a process: in a mount namespace of its own, with a root in which it finds the machine's libraries, its image's
//! program and its volumes, and nothing to write on but what it was given. Without capabilities, as the user that it shall be.

use std::{
    collections::BTreeMap,
    fmt::Write,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
};

use tokio::process::{Child, Command};

use super::container::{ENTRYPOINT, Identity};

/// All that is needed to start a container.
#[derive(Debug)]
pub struct Launch {
    /// What its image has as the entry point.
    pub program: PathBuf,
    /// The command line, as inside.
    pub command: Vec<String>,
    /// The whole environment.
    pub environment: BTreeMap<String, String>,
    /// Folder outside, path inside, read-only.
    pub mounts: Vec<(PathBuf, String, bool)>,
    /// As whom.
    pub identity: Identity,
    /// Whether the root is read-only.
    pub read_only_root: bool,
    /// An empty folder for the root.
    pub root: PathBuf,
    /// Where its output goes.
    pub log: PathBuf,
}

impl Launch {
    /// Starts it. The process is the container's own first process, so signals go to it.
    pub fn start(&self) -> Child {
        std::fs::create_dir_all(&self.root).unwrap();
        let log = std::fs::OpenOptions::new().create(true).append(true).open(&self.log).unwrap();
        let mut command = Command::new("unshare");
        if !super::is_root() {
            command.args(["--user", "--map-root-user"]);
        }
        command
            .args(["--mount", "--propagation", "private", "bash", "-euc", &self.script(), "container"])
            .args(&self.command)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .unwrap()
    }

    /// Runs it to its end.
    pub async fn run(&self) -> ExitStatus {
        self.start().wait().await.unwrap()
    }

    fn script(&self) -> String {
        let root = quote(&self.root);
        let mut script = format!("root={root}\nmount -t tmpfs -o mode=755 container \"$root\"\n");
        // What an image brings along: here the machine's own libraries. /lib and /lib64 may be links into /usr.
        script.push_str("for part in /usr /lib /lib64 /etc/ssl; do\n  [[ -e $part ]] || continue\n");
        script.push_str("  if [[ -L $part ]]; then ln -s \"$(readlink \"$part\")\" \"$root$part\"\n");
        script.push_str("  else mkdir -p \"$root$part\"; mount --rbind -o ro \"$part\" \"$root$part\"; fi\ndone\n");
        let _ =
            writeln!(script, "mkdir -p \"$root/dev\" \"$root/proc\"; touch \"$root/dev/null\"; mount --bind /dev/null \"$root/dev/null\"");
        let _ = writeln!(script, "touch \"$root{ENTRYPOINT}\"; mount --bind {} \"$root{ENTRYPOINT}\"", quote(&self.program));
        for (folder, path, read_only) in &self.mounts {
            let inside = quote(Path::new(path));
            let _ = writeln!(script, "mkdir -p \"$root\"{inside}; mount --bind {} \"$root\"{inside}", quote(folder));
            if *read_only {
                let _ = writeln!(script, "mount -o remount,bind,ro \"$root\"{inside}");
            }
        }
        if self.read_only_root {
            script.push_str("mount -o remount,ro \"$root\"\n");
        }
        script.push_str("cd /\nexec chroot \"$root\" ");
        script.push_str(&self.privileges());
        // Only the container's own variables.
        script.push_str("/usr/bin/env -i");
        for (name, value) in &self.environment {
            let _ = write!(script, " {}", quote(Path::new(&format!("{name}={value}"))));
        }
        script.push_str(" \"$@\"\n");
        script
    }

    /// Other users exist for root only; a user namespace of one's own has just one.
    fn privileges(&self) -> String {
        let common = "/usr/bin/setpriv --pdeathsig KILL --no-new-privs --inh-caps=-all --bounding-set=-all ";
        if !super::is_root() {
            return common.to_owned();
        }
        let Identity { user, group, volumes } = self.identity;
        let groups = volumes.map_or_else(|| "--clear-groups".to_owned(), |volumes| format!("--groups {volumes}"));
        format!("{common} --reuid {user} --regid {group} {groups} ")
    }
}

fn quote(text: &Path) -> String {
    format!("'{}'", text.to_str().unwrap().replace('\'', r"'\''"))
}
