//! HTTP Basic authentication (RFC 7617) of the one administrator, compared in constant time.

use std::sync::Arc;

use axum::{
    extract::{FromRequestParts, Request, State},
    middleware::Next,
    response::Response,
};
use axum_extra::{
    TypedHeader,
    headers::{Authorization, authorization::Basic},
};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::error::ApiError;
use crate::source::Setting;

/// Who may call.
#[derive(Clone)]
pub enum Access {
    /// Anybody: said so explicitly at the start.
    Anonymous,
    /// Who knows these.
    Administrator(Arc<Credentials>),
}

/// Name and password, as they are now.
pub struct Credentials {
    /// The name.
    pub username: Setting<SecretString>,
    /// The password.
    pub password: Setting<SecretString>,
}

/// Who calls, once let in.
#[derive(Clone, Debug)]
pub struct Caller(pub String);

impl Access {
    fn admits(&self, name: &str, password: &str) -> bool {
        match self {
            Self::Anonymous => true,
            // Digests have one length, so neither length nor common prefix shows in the time taken; both are always compared.
            Self::Administrator(known) => {
                let equal = |given: &str, known: &Setting<SecretString>| {
                    Sha256::digest(given).ct_eq(&Sha256::digest(known.current().expose_secret()))
                };
                (equal(name, &known.username) & equal(password, &known.password)).into()
            }
        }
    }
}

/// Lets the request through with its [`Caller`], or answers 401.
///
/// # Errors
/// [`ApiError::Unauthorized`].
pub async fn require(State(access): State<Access>, request: Request, next: Next) -> Result<Response, ApiError> {
    let (mut parts, body) = request.into_parts();
    let given = TypedHeader::<Authorization<Basic>>::from_request_parts(&mut parts, &()).await.ok();
    let caller = match (&access, given) {
        (Access::Anonymous, given) => given.map_or_else(|| "anonymous".to_owned(), |header| header.username().to_owned()),
        (Access::Administrator(_), Some(header)) if access.admits(header.username(), header.password()) => header.username().to_owned(),
        (Access::Administrator(_), _) => return Err(ApiError::Unauthorized),
    };
    parts.extensions.insert(Caller(caller));
    Ok(next.run(Request::from_parts(parts, body)).await)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Source;

    #[test]
    fn only_the_right_name_with_the_right_password_is_let_in() {
        let known = |text: &str| Setting::new(Source::Value(text.into()), |text| Ok(text.into())).unwrap();
        let access = Access::Administrator(Arc::new(Credentials { username: known("ana"), password: known("s3cret") }));
        assert!(access.admits("ana", "s3cret"));
        for (name, password) in [("ana", ""), ("ana", "s3cre"), ("ana", "s3crets"), ("", "s3cret"), ("s3cret", "ana"), ("", "")] {
            assert!(!access.admits(name, password), "{name} {password}");
        }
    }
}
