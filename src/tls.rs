//! Whom we trust: the CA files, and what went wrong with a certificate in words that help. Opens no connection.

use std::{error::Error, io};

use rustls::{
    CertificateError, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};

/// The certificates of a PEM text.
///
/// # Errors
/// What is wrong with it.
pub fn authorities(pem: &str) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        let certificate = certificate.map_err(|error| format!("it is no PEM: {error:?}"))?;
        roots.add(certificate).map_err(|error| format!("it holds a certificate that cannot be read: {error}"))?;
    }
    if roots.is_empty() {
        return Err("it holds no certificate".to_owned());
    }
    Ok(roots)
}

/// What a failed connection says about certificates, if that is what failed.
#[must_use]
pub fn explain(error: &io::Error) -> Option<String> {
    let mut cause: Option<&(dyn Error + 'static)> = error.get_ref().map(|inner| inner as _);
    while let Some(error) = cause {
        if let Some(rustls::Error::InvalidCertificate(why)) = error.downcast_ref() {
            return Some(sentence(why));
        }
        cause = error.source();
    }
    None
}

fn sentence(why: &CertificateError) -> String {
    match why {
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "the server's certificate is not signed by a CA that is trusted here: does the CA file hold the server's CA?".to_owned()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            format!("the server's certificate is not for the host in the URL: {why}: use a host name that it is for")
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            format!("the server's certificate is no longer valid: {why}: renew it")
        }
        other => format!("the server's certificate is not accepted: {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_without_certificates_is_told_so() {
        assert_eq!(authorities("").unwrap_err(), "it holds no certificate");
        assert_eq!(authorities("hello\n").unwrap_err(), "it holds no certificate");
        let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert!(authorities(broken).unwrap_err().contains("cannot be read"));
        assert!(authorities("-----BEGIN CERTIFICATE-----\n").unwrap_err().contains("no PEM"));
    }

    #[test]
    fn a_certificate_that_is_not_accepted_is_found_below_an_io_error() {
        let inner = rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
        let told = explain(&io::Error::new(io::ErrorKind::InvalidData, inner)).unwrap();
        assert!(told.contains("not signed by a CA"), "{told}");
        assert_eq!(explain(&io::ErrorKind::ConnectionRefused.into()), None);
    }
}
