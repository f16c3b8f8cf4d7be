//! An endpoint for TLS with a certificate of its own.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use rcgen::{CertifiedKey, generate_simple_self_signed};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

use crate::Failure;
use crate::building::workshop;

/// The name in the certificate.
pub const NAME: &str = "localhost";

/// What a server needs, and the file that its clients have to trust.
pub fn self_signed() -> Result<(TlsAcceptor, PathBuf), Failure> {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed([NAME.to_owned()])?;
    fs::create_dir_all(workshop())?;
    let file = workshop().join(format!("certificate-{}.pem", std::process::id()));
    fs::write(&file, cert.pem())?;
    let key = PrivateKeyDer::try_from(signing_key.serialize_der())?;
    let config =
        ServerConfig::builder().with_no_client_auth().with_single_cert(vec![cert.der().clone()], key)?;
    Ok((TlsAcceptor::from(Arc::new(config)), file))
}
