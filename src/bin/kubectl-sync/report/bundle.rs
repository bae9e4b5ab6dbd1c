//! The file of a report: a .tar.gz with one folder. All texts pass the redaction on their way in.

use std::{fs::OpenOptions, io, os::unix::fs::OpenOptionsExt, path::Path};

use flate2::{Compression, write::GzEncoder};
use serde_json::Value;

use super::redact;

/// What is in a report so far.
#[derive(Debug, Default)]
pub struct Bundle {
    files: Vec<(String, String)>,
    missing: Vec<String>,
}

impl Bundle {
    /// Adds a text.
    pub fn text(&mut self, path: &str, text: &str) {
        self.files.push((path.to_owned(), redact::text(text)));
    }

    /// Adds an object, or a list of them, as YAML.
    pub fn object(&mut self, path: &str, mut value: Value) {
        redact::object(&mut value);
        match serde_yaml_ng::to_string(&value) {
            Ok(text) => self.files.push((path.to_owned(), text)),
            Err(error) => self.missing(path, &error.to_string()),
        }
    }

    /// Notes what could not be read, and why.
    pub fn missing(&mut self, path: &str, reason: &str) {
        self.missing.push(redact::text(&format!("{path}: {reason}")));
    }

    /// How many files are in it, and how many are missing.
    #[must_use]
    pub const fn counts(&self) -> (usize, usize) {
        (self.files.len(), self.missing.len())
    }

    /// Writes it; an existing file is left alone. Only the user may read it.
    ///
    /// # Errors
    /// That it cannot be written.
    pub fn write(mut self, file: &Path, folder: &str, seconds: u64) -> io::Result<()> {
        let missing = if self.missing.is_empty() { "nothing\n".to_owned() } else { format!("{}\n", self.missing.join("\n")) };
        self.files.push(("not-read.txt".to_owned(), missing));
        let open = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file)?;
        let mut archive = tar::Builder::new(GzEncoder::new(open, Compression::default()));
        for (path, text) in &self.files {
            let mut header = tar::Header::new_gnu();
            header.set_size(text.len() as u64);
            header.set_mode(0o600);
            header.set_mtime(seconds);
            archive.append_data(&mut header, format!("{folder}/{path}"), text.as_bytes())?;
        }
        archive.into_inner()?.finish()?.sync_all()
    }
}
