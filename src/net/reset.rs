//! Stateless resets (RFC 9000, section 10.3): how peers learn at once that a node was started again.
//!
//! A node that is killed says nothing. Its peers go on sending on their old connections, and without
//! more they would wait for the idle time-out while the node, back for long, knows nothing of these. So
//! the keys for connection ids and reset tokens outlive the process: both come from the key of the
//! node's certificate. The next process recognises the ids as its own, and answers with the token.

use std::sync::Arc;

use aws_lc_rs::hmac;
use quinn::EndpointConfig;
use quinn_proto::HashedConnectionIdGenerator;
use rustls_pki_types::PrivateKeyDer;

/// Settings for the endpoint of the node that has this key.
pub(super) fn endpoint_config(key: &PrivateKeyDer<'_>) -> EndpointConfig {
    let secret = hmac::Key::new(hmac::HMAC_SHA256, key.secret_der());
    let tokens = hmac::sign(&secret, b"konsen: stateless reset tokens");
    let mut config =
        EndpointConfig::new(Arc::new(hmac::Key::new(hmac::HMAC_SHA256, tokens.as_ref())));
    let ids = hmac::sign(&secret, b"konsen: connection ids");
    let ids = ids.as_ref().iter().take(8).fold(0, |ids, &byte| ids << 8 | u64::from(byte));
    config.cid_generator(move || Box::new(HashedConnectionIdGenerator::from_key(ids)));
    config
}
