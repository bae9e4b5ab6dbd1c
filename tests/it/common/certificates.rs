//! A CA of a test's own, and certificates of servers, made by openssl.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use uuid::Uuid;

/// A CA; its files are removed when it is dropped.
pub struct Authority(PathBuf);

impl Drop for Authority {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl Authority {
    /// A new one.
    pub fn new() -> Self {
        let authority = Self(std::env::temp_dir().join(format!("sync-operator-ca-{}", Uuid::new_v4())));
        std::fs::create_dir(&authority.0).unwrap();
        let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "ca.key"];
        authority.openssl(&[&["req", "-x509", "-subj", "/CN=A CA", "-days", "2", "-out", "ca.crt"], &key[..]].concat());
        authority
    }

    /// The file with its certificate.
    pub fn file(&self) -> String {
        self.0.join("ca.crt").display().to_string()
    }

    /// Its certificate.
    pub fn pem(&self) -> String {
        std::fs::read_to_string(self.file()).unwrap()
    }

    /// Puts `server.crt`, for `localhost` only, and `server.key` into `folder`.
    pub fn certify(&self, folder: &Path) {
        std::fs::write(self.0.join("extensions"), "subjectAltName = DNS:localhost\n").unwrap();
        let (certificate, key) = (folder.join("server.crt").display().to_string(), folder.join("server.key").display().to_string());
        self.openssl(&[
            "req",
            "-subj",
            "/CN=localhost",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-keyout",
            &key,
            "-out",
            "csr",
        ]);
        self.openssl(&[
            "x509",
            "-req",
            "-in",
            "csr",
            "-CA",
            "ca.crt",
            "-CAkey",
            "ca.key",
            "-CAcreateserial",
            "-days",
            "2",
            "-extfile",
            "extensions",
            "-out",
            &certificate,
        ]);
    }

    fn openssl(&self, arguments: &[&str]) {
        let done = Command::new("openssl").args(arguments).current_dir(&self.0).stdin(Stdio::null()).output().unwrap();
        assert!(done.status.success(), "openssl {arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
    }
}
