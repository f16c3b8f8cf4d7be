//! Whom to believe over TLS: one configuration for providers, receivers and Amazon.
//!
//! Mozilla's list of authorities is linked into the program, ready to be used: to read the system's, a file of some 140
//! certificates, takes a cold process as long as a third of its start. The system's list, which may be younger or have
//! authorities of one's own (`SSL_CERT_FILE`, `SSL_CERT_DIR`), is read once a certificate is met that is not good by
//! Mozilla's; what is good by either is believed.

use std::sync::{Arc, LazyLock, OnceLock};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::VerifierBuilderError;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

/// The only protocol that is spoken over it (RFC 7301, section 6).
const ALPN: &[u8] = b"http/1.1";

/// There is no TLS to be had.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The versions of TLS that are wanted cannot be had.
    #[error("TLS cannot be set up")]
    Versions(#[from] Error),
    /// The list of authorities cannot be used.
    #[error("certificates cannot be checked")]
    Authorities(#[from] VerifierBuilderError),
}

/// What connections are made with. It is made once; copies share the lists of authorities and what is known of earlier
/// handshakes. An error if there is no TLS to be had.
pub fn config() -> Result<ClientConfig, TlsError> {
    static MADE: OnceLock<ClientConfig> = OnceLock::new();
    if let Some(made) = MADE.get() {
        return Ok(made.clone());
    }
    let bundled = webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect();
    let made = believing(bundled, system_authorities)?;
    Ok(MADE.get_or_init(|| made).clone())
}

/// The same with other lists.
fn believing(
    first: RootCertStore,
    load_others: impl FnOnce() -> RootCertStore + Send + Sync + 'static,
) -> Result<ClientConfig, TlsError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = Verifier::new(first, load_others, Arc::clone(&provider))?;
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(config)
}

/// The system's list. What of it cannot be read is left out.
fn system_authorities() -> RootCertStore {
    let found = rustls_native_certs::load_native_certs();
    let mut authorities = RootCertStore::empty();
    let (read, unreadable) = authorities.add_parsable_certificates(found.certs);
    let errors: Vec<String> = found.errors.iter().map(ToString::to_string).collect();
    if read == 0 || unreadable > 0 || !errors.is_empty() {
        tracing::warn!(
            read,
            unreadable,
            error = errors.join("; "),
            "Not all of the system's authorities can be read."
        );
    }
    authorities
}

type Others = Option<Arc<WebPkiServerVerifier>>;

/// Checks a server's certificate by one list of authorities, and by another if it is not good by the first. All checking
/// is webpki's.
#[derive(Debug)]
struct Verifier {
    first: Arc<WebPkiServerVerifier>,
    /// Nothing, if there are none that can be read; that is not tried again.
    others: LazyLock<Others, Box<dyn FnOnce() -> Others + Send + Sync>>,
}

impl Verifier {
    fn new(
        first: RootCertStore,
        load_others: impl FnOnce() -> RootCertStore + Send + Sync + 'static,
        provider: Arc<CryptoProvider>,
    ) -> Result<Self, VerifierBuilderError> {
        let checking = move |list: RootCertStore| {
            WebPkiServerVerifier::builder_with_provider(Arc::new(list), Arc::clone(&provider)).build()
        };
        let first = checking(first)?;
        Ok(Self { first, others: LazyLock::new(Box::new(move || checking(load_others()).ok())) })
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let by = |verifier: &WebPkiServerVerifier| {
            verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
        };
        match by(&self.first) {
            // An issuer may have the name of one on the first list, and another key.
            Err(refused @ Error::InvalidCertificate(_)) => {
                match self.others.as_ref().map(|others| by(others)) {
                    // What is wrong by the first list says more than that the other does not know it.
                    None | Some(Err(Error::InvalidCertificate(CertificateError::UnknownIssuer))) => {
                        Err(refused)
                    }
                    Some(told) => told,
                }
            }
            told => told,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.first.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.first.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.first.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Duration;

    use rcgen::{
        CertificateParams, CertifiedKey, DnType, KeyPair, date_time_ymd, generate_simple_self_signed,
    };
    use rustls::ServerConfig;
    use rustls::pki_types::PrivateKeyDer;
    use tokio_rustls::{TlsAcceptor, TlsConnector};

    use super::*;

    /// Within the certificates' time: 2026-01-01.
    const NOW_S: u64 = 1_767_225_600;

    /// A certificate for provider.example that nobody has signed but who is named.
    fn certificate_of(issuer: &str) -> CertificateDer<'static> {
        let mut parameters = CertificateParams::new(["provider.example".to_owned()]).unwrap();
        parameters.distinguished_name.push(DnType::CommonName, issuer);
        parameters.not_before = date_time_ymd(2025, 1, 1);
        parameters.not_after = date_time_ymd(2027, 1, 1);
        parameters.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
    }

    fn certificates() -> (CertificateDer<'static>, CertificateDer<'static>) {
        (certificate_of("known"), certificate_of("other"))
    }

    fn list(certificate: &CertificateDer<'static>) -> RootCertStore {
        let mut list = RootCertStore::empty();
        list.add(certificate.clone()).unwrap();
        list
    }

    /// Two lists of one each, and how often the second one was read.
    fn verifier(
        first: &CertificateDer<'static>,
        other: Option<&CertificateDer<'static>>,
    ) -> (Verifier, Arc<AtomicU32>) {
        let read = Arc::new(AtomicU32::new(0));
        let (noted, others) = (Arc::clone(&read), other.map_or_else(RootCertStore::empty, list));
        let load = move || {
            noted.fetch_add(1, Ordering::Relaxed);
            others.clone()
        };
        (Verifier::new(list(first), load, Arc::new(aws_lc_rs::default_provider())).unwrap(), read)
    }

    fn verify(
        verifier: &Verifier,
        shown: &CertificateDer<'static>,
        name: &'static str,
        at_s: u64,
    ) -> Result<(), Error> {
        let at = UnixTime::since_unix_epoch(Duration::from_secs(at_s));
        let name = ServerName::try_from(name).unwrap();
        verifier.verify_server_cert(shown, &[], &name, &[], at).map(|_| ())
    }

    #[test]
    fn whoever_is_on_the_first_list_is_believed_and_the_other_is_not_read() {
        let (known, other) = certificates();
        let (verifier, read) = verifier(&known, Some(&other));
        verify(&verifier, &known, "provider.example", NOW_S).unwrap();
        assert_eq!(read.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn whoever_is_on_the_other_list_is_believed_and_it_is_read_once() {
        let (known, other) = certificates();
        let (verifier, read) = verifier(&known, Some(&other));
        verify(&verifier, &other, "provider.example", NOW_S).unwrap();
        verify(&verifier, &other, "provider.example", NOW_S).unwrap();
        assert_eq!(read.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn whoever_is_on_neither_is_not() {
        let (known, other) = certificates();
        for other in [Some(&other), None] {
            let (verifier, _) = verifier(&known, other);
            let refused = verify(&verifier, &certificate_of("who"), "provider.example", NOW_S).unwrap_err();
            assert_eq!(refused, Error::InvalidCertificate(CertificateError::UnknownIssuer));
            // One that merely calls itself so.
            assert!(verify(&verifier, &certificate_of("known"), "provider.example", NOW_S).is_err());
        }
    }

    #[test]
    fn another_key_of_the_same_name_may_be_on_the_other_list() {
        let (known, renewed) = (certificate_of("known"), certificate_of("known"));
        let (verifier, _) = verifier(&known, Some(&renewed));
        verify(&verifier, &renewed, "provider.example", NOW_S).unwrap();
    }

    #[test]
    fn a_name_and_a_time_that_are_wrong_are_so_by_either_list() {
        let (known, other) = certificates();
        let (verifier, _) = verifier(&known, Some(&other));
        let refused = |shown, name, at_s| match verify(&verifier, shown, name, at_s) {
            Err(Error::InvalidCertificate(reason)) => reason,
            told => panic!("{told:?}"),
        };
        for shown in [&known, &other] {
            let elsewhere = refused(shown, "elsewhere.example", NOW_S);
            assert!(matches!(elsewhere, CertificateError::NotValidForNameContext { .. }), "{elsewhere:?}");
            let late = refused(shown, "provider.example", NOW_S + 400 * 24 * 60 * 60);
            assert!(matches!(late, CertificateError::ExpiredContext { .. }), "{late:?}");
        }
    }

    /// Shakes hands with a server, which nobody on the first list has signed.
    async fn shake_hands(is_on_the_other_list: bool) -> std::io::Result<()> {
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(["provider.example".to_owned()]).unwrap();
        let key = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
        let server = ServerConfig::builder().with_no_client_auth();
        let server = server.with_single_cert(vec![cert.der().clone()], key).unwrap();
        let other = if is_on_the_other_list { cert.der().clone() } else { certificate_of("other") };
        let client = believing(list(&certificate_of("known")), move || list(&other)).unwrap();
        let (here, there) = tokio::io::duplex(64 * 1024);
        let name = ServerName::try_from("provider.example").unwrap();
        let (client, server) = (TlsConnector::from(Arc::new(client)), TlsAcceptor::from(Arc::new(server)));
        let (shaken, _) = tokio::join!(client.connect(name, here), server.accept(there));
        shaken.map(|_| ())
    }

    #[tokio::test]
    async fn hands_are_shaken_with_whom_is_believed_alone() {
        shake_hands(true).await.unwrap();
        let refused = shake_hands(false).await.unwrap_err().to_string();
        assert!(refused.contains("UnknownIssuer"), "{refused}");
    }

    #[test]
    fn mozilla_s_list_is_there() {
        assert!(config().unwrap().alpn_protocols == [ALPN]);
        assert!(webpki_roots::TLS_SERVER_ROOTS.len() > 100);
    }
}
