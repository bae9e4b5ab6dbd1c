//! Settings that are given as a value or in a file: which of the two, and what is said when it is neither, both or of no use.

use std::path::PathBuf;

use secrecy::SecretString;

use super::Failure;
use crate::source::{Error, Setting, Source, Wrong};

/// A URL, with the CA of its server: how the settings are called.
#[derive(Clone, Copy)]
pub(super) struct Names {
    /// Of the URL.
    pub flag: &'static str,
    /// Of the URL.
    pub variable: &'static str,
    /// Of the file with the CA.
    pub ca_flag: &'static str,
    /// Of the file with the CA.
    pub ca_variable: &'static str,
    /// A URL.
    pub example: &'static str,
}

pub(super) const DATABASE: Names = Names {
    flag: "database-url",
    variable: "DATABASE_URL",
    ca_flag: "database-ca-file",
    ca_variable: "DATABASE_CA_FILE",
    example: "postgres://user:password@host:5432/sync",
};

pub(super) const BROKER: Names = Names {
    flag: "rabbitmq-url",
    variable: "RABBITMQ_URL",
    ca_flag: "rabbitmq-ca-file",
    ca_variable: "RABBITMQ_CA_FILE",
    example: "amqp://user:password@host:5672/%2f",
};

/// The one that is given; `None` if neither is.
pub(super) fn one(value: Option<SecretString>, file: Option<PathBuf>, flag: &str, variable: &str) -> Result<Option<Source>, Failure> {
    match (value, file) {
        (Some(_), Some(_)) => {
            Err(Failure::Setting(format!("--{flag} ({variable}) and --{flag}-file ({variable}_FILE) are both set: keep one of them")))
        }
        (Some(value), None) => Ok(Some(Source::Value(value))),
        (None, Some(file)) => Ok(Some(Source::File(file))),
        (None, None) => Ok(None),
    }
}

/// A text of its own, read anew whenever it is asked for.
pub(super) fn text(source: Source, flag: &str, variable: &str) -> Result<Setting<SecretString>, Failure> {
    Setting::new(source, |text| Ok(text.into())).map_err(|error| {
        Failure::Setting(format!("--{flag}-file ({variable}_FILE) cannot be used: {error}: name a file that holds it in its first line"))
    })
}

impl Names {
    /// Where the URL is.
    pub(super) fn source(&self, value: Option<SecretString>, file: Option<PathBuf>) -> Result<Source, Failure> {
        let Self { flag, variable, example, .. } = self;
        one(value, file, flag, variable)?.ok_or_else(|| {
            Failure::Setting(format!(
                "--{flag} is not set: pass it, or set {variable}, like {example}; \
                 or name a file that holds it by --{flag}-file ({variable}_FILE)"
            ))
        })
    }

    /// What is wrong, with the setting that is to be changed.
    pub(super) fn refuse(&self, wrong: Wrong, from_file: bool) -> Failure {
        let Self { flag, variable, ca_flag, ca_variable, example } = self;
        match wrong {
            Wrong::Ca(error) => {
                Failure::Setting(format!("--{ca_flag} ({ca_variable}) cannot be used: {error}: name a PEM file with the server's CA"))
            }
            Wrong::Url(error) => {
                let (flag, variable) =
                    if from_file { (format!("{flag}-file"), format!("{variable}_FILE")) } else { ((*flag).into(), (*variable).into()) };
                let fix = match error {
                    Error::Wrong(_) => format!("write it like {example}, with special characters percent-encoded"),
                    _ => format!("name a file that holds a URL like {example}"),
                };
                Failure::Setting(format!("--{flag} ({variable}) cannot be used: {error}; {fix}"))
            }
        }
    }
}
