//! Where the database is and how to get in: the URL and the CA, each as it is now. Opens no connection.

use std::{path::PathBuf, str::FromStr};

use sqlx::postgres::{PgConnectOptions, PgSslMode};

use crate::{
    source::{Setting, Source, Wrong},
    tls,
};

/// The database, as the settings say.
#[derive(Debug)]
pub struct Database {
    url: Setting<PgConnectOptions>,
    /// PEM.
    ca: Option<Setting<Vec<u8>>>,
}

impl Database {
    /// The database at `url`. With a CA the server must prove by TLS that it is the host of the URL.
    ///
    /// # Errors
    /// [`Wrong`].
    pub fn new(url: Source, ca: Option<PathBuf>) -> Result<Self, Wrong> {
        let verified = ca.is_some();
        let ca = ca.map(|file| Setting::new(Source::File(file), pem)).transpose().map_err(Wrong::Ca)?;
        let url = Setting::new(url, move |text| parse(text, verified)).map_err(Wrong::Url)?;
        Ok(Self { url, ca })
    }

    /// How to connect now.
    #[must_use]
    pub fn options(&self) -> PgConnectOptions {
        let options = (*self.url.current()).clone();
        match &self.ca {
            Some(ca) => options.ssl_root_cert_from_pem(ca.current().to_vec()),
            None => options,
        }
    }

    /// `host:port/database` of the last [`options`](Self::options), for messages; no secret in it.
    #[must_use]
    pub fn address(&self) -> String {
        address(&self.url.last())
    }
}

/// `host:port/database`.
pub(super) fn address(options: &PgConnectOptions) -> String {
    format!("{}:{}/{}", options.get_host(), options.get_port(), options.get_database().unwrap_or_default())
}

fn pem(text: &str) -> Result<Vec<u8>, String> {
    tls::authorities(text)?;
    Ok(text.as_bytes().to_vec())
}

fn parse(text: &str, verified: bool) -> Result<PgConnectOptions, String> {
    if !text.starts_with("postgres://") && !text.starts_with("postgresql://") {
        return Err("it does not begin with postgres://".to_owned());
    }
    let options = PgConnectOptions::from_str(text).map_err(|error| error.to_string())?.application_name("sync-operator");
    match options.get_ssl_mode() {
        PgSslMode::Disable if verified => Err("it says sslmode=disable, but a CA file is given: remove one of the two".to_owned()),
        _ if verified => Ok(options.ssl_mode(PgSslMode::VerifyFull)),
        _ => Ok(options),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_url_of_a_cloudnativepg_secret_is_taken_as_it_is() {
        let options = parse("postgresql://app:pw@pg-rw.ns:5432/app", false).unwrap();
        assert_eq!((address(&options).as_str(), options.get_username()), ("pg-rw.ns:5432/app", "app"));
    }

    #[test]
    fn with_a_ca_the_host_is_verified_whatever_the_url_says_of_tls() {
        for mode in ["", "?sslmode=prefer", "?sslmode=require", "?sslmode=verify-ca", "?sslmode=verify-full"] {
            let options = parse(&format!("postgres://h/d{mode}"), true).unwrap();
            assert!(matches!(options.get_ssl_mode(), PgSslMode::VerifyFull), "{mode}");
        }
        assert!(parse("postgres://h/d?sslmode=disable", true).unwrap_err().contains("sslmode=disable"));
        assert!(matches!(parse("postgres://h/d?sslmode=disable", false).unwrap().get_ssl_mode(), PgSslMode::Disable));
    }
}
