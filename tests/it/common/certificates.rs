//! A certificate authority and a server's certificate, made by openssl as an administrator makes them.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// A CA, and a certificate that it signed.
pub struct Certificates {
    /// PEM of the CA.
    pub ca: PathBuf,
    /// PEM of the server's certificate.
    pub certificate: PathBuf,
    /// PEM of its key.
    pub key: PathBuf,
}

impl Certificates {
    /// Makes them in `directory`; the server is `subject`, like `IP:127.0.0.1`.
    pub fn make(directory: &Path, subject: &str) -> Self {
        std::fs::create_dir_all(directory).unwrap();
        let made = Self { ca: directory.join("ca.crt"), certificate: directory.join("server.crt"), key: directory.join("server.key") };
        let key = directory.join("ca.key");
        request(&["-subj", "/CN=a test's own CA", "-addext", "basicConstraints=critical,CA:TRUE"], &key, &made.ca);
        let subject = format!("subjectAltName={subject}");
        let signed = ["-subj", "/CN=server", "-addext", &subject, "-addext", "basicConstraints=critical,CA:FALSE"];
        let by = ["-CA", made.ca.to_str().unwrap(), "-CAkey", key.to_str().unwrap()];
        request(&[&signed[..], &by[..]].concat(), &made.key, &made.certificate);
        made
    }
}

fn request(arguments: &[&str], key: &Path, certificate: &Path) {
    let output = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"])
        .args(arguments)
        .arg("-keyout")
        .arg(key)
        .arg("-out")
        .arg(certificate)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.success(), "openssl: {}", String::from_utf8_lossy(&output.stderr));
}
