//! A server of one test's own, for tests that take it away.

use std::path::{Path, PathBuf};

use super::stack::{Stack, hack, prepare_cluster, prepare_database, stack, start};

/// One part of the stack, private to a test; all others are the shared ones.
pub struct Private {
    /// Addresses: the private part's and the shared ones.
    pub stack: Stack,
    directory: PathBuf,
    part: &'static str,
}

impl Private {
    /// Starts `postgres`, `rabbitmq`, `apiserver` or `controller-manager` (a bare cluster: nothing is installed on it).
    pub fn start(part: &'static str) -> Self {
        let directory =
            std::env::temp_dir().join(format!("sync-operator-it-{}-{part}-{}", std::process::id(), uuid::Uuid::new_v4().simple()));
        start(&directory, &[part]);
        let own = Stack::read(&directory);
        let shared = stack();
        let mut mixed = Stack {
            database_url: shared.database_url.clone(),
            rabbitmq_url: shared.rabbitmq_url.clone(),
            management_url: shared.management_url.clone(),
            kubeconfig: shared.kubeconfig.clone(),
            path: shared.path.clone(),
        };
        match part {
            "postgres" => {
                mixed.database_url = own.database_url;
                prepare_database(&mixed);
            }
            "rabbitmq" => (mixed.rabbitmq_url, mixed.management_url) = (own.rabbitmq_url, own.management_url),
            "controller-manager" => mixed.kubeconfig = own.kubeconfig,
            _ => {
                mixed.kubeconfig = own.kubeconfig;
                prepare_cluster(&mixed);
            }
        }
        Self { stack: mixed, directory, part }
    }

    /// Makes RabbitMQ listen with TLS too, after a restart, with the certificate that `certify` puts into a folder; the port.
    pub fn rabbitmq_with_tls(&self, certify: impl Fn(&Path)) -> u16 {
        let home = self.directory.join("rabbitmq");
        let settings = home.join("conf.d");
        std::fs::create_dir_all(&settings).unwrap();
        certify(&home);
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let home = home.display();
        let tls = format!(
            "listeners.ssl.1 = 127.0.0.1:{port}\nssl_options.certfile = {home}/server.crt\nssl_options.keyfile = {home}/server.key\n"
        );
        std::fs::write(settings.join("10-tls.conf"), tls).unwrap();
        self.stop("TERM");
        self.again();
        port
    }

    /// Runs rabbitmqctl on the private node.
    pub fn rabbitmqctl(&self, arguments: &[&str]) {
        let pid = std::fs::read_to_string(self.directory.join("rabbitmq.pid")).unwrap();
        let environment = std::fs::read(format!("/proc/{}/environ", pid.trim())).unwrap();
        let variables = String::from_utf8(environment).unwrap();
        // Where the node's cookie, its name and its epmd are.
        let of_node =
            |name: &str| ["HOME", "PATH", "LANG"].contains(&name) || name.starts_with("RABBITMQ_") || name.starts_with("ERL_EPMD_");
        let variables = variables.split('\0').filter_map(|line| line.split_once('=')).filter(|(name, _)| of_node(name));
        let near = Path::new("/usr/lib/rabbitmq/bin/rabbitmqctl");
        let program = if near.exists() { near } else { Path::new("rabbitmqctl") };
        let done = std::process::Command::new(program).args(arguments).env_clear().envs(variables).output().unwrap();
        assert!(done.status.success(), "rabbitmqctl {arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
    }

    /// Ends it with that signal; `STOP` and `CONT` freeze and thaw it.
    pub fn stop(&self, signal: &str) {
        assert!(hack(&self.directory, "stop", &[self.part, signal]));
    }

    /// The port of one of its parts.
    pub fn port(&self, part: &str) -> u16 {
        std::fs::read_to_string(self.directory.join(format!("{part}.port"))).unwrap().trim().parse().unwrap()
    }

    /// Starts it again where it was, with what it had; waits until it is ready.
    pub fn again(&self) {
        assert!(hack(&self.directory, "start", &[self.part]));
    }
}

impl Drop for Private {
    fn drop(&mut self) {
        hack(&self.directory, "down", &[]);
    }
}
