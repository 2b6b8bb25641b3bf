//! Keys that stay where they were made: requests, what is signed of them, and every moment of an exchange.

use std::fs;
use std::path::PathBuf;

use rustls_pki_types::pem::PemObject;
use tempfile::TempDir;
use time::Duration;

use super::*;

/// A node's files, and its authority's.
struct Files(TempDir);

impl Files {
    fn new() -> Files {
        let files = Files(TempDir::new().unwrap());
        let issued = issue_authority(&"konsen".parse().unwrap(), AUTHORITY_DAYS).unwrap();
        let (ca, ca_key) = (files.path("ca.crt"), files.path("ca.key"));
        write_pair((&ca, &issued.certificate), (&ca_key, &issued.key), Overwrite::Never).unwrap();
        let issued = files.authority().issue(&identity(), &hosts(), 30).unwrap();
        let (cert, key) = files.pair();
        write_pair((&cert, &issued.certificate), (&key, &issued.key), Overwrite::Never).unwrap();
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn pair(&self) -> (PathBuf, PathBuf) {
        (self.path("node.crt"), self.path("node.key"))
    }

    fn authority(&self) -> Authority {
        Authority::load(&self.path("ca.crt"), &self.path("ca.key")).unwrap()
    }

    fn load(&self) -> Result<Material, PkiError> {
        let (cert, key) = self.pair();
        Material::load(&self.path("ca.crt"), &cert, &key)
    }

    fn signed(&self, request: &str, identity: &PeerIdentity) -> String {
        let requested = Requested::read(request.as_bytes()).unwrap();
        self.authority().sign(&requested, identity, &hosts(), Duration::days(90)).unwrap()
    }

    fn install(&self, pem: &str) -> Result<time::OffsetDateTime, PkiError> {
        let (cert, key) = self.pair();
        install(pem, &identity(), &self.path("ca.crt"), &cert, &key)
    }
}

fn identity() -> PeerIdentity {
    "spiffe://konsen/node/node1".parse().unwrap()
}

fn hosts() -> Vec<Host> {
    vec!["10.0.0.1".parse().unwrap(), "node1.example.org".parse().unwrap()]
}

#[test]
fn a_request_says_whose_it_is_and_shows_its_key() {
    let key = new_key().unwrap();
    let made = request(&identity(), &hosts(), &key).unwrap();
    let own = Requested::read(made.as_bytes()).unwrap();
    assert_eq!((&own.identity, &own.hosts), (&identity(), &hosts()));
    // Whoever changes a bit of what it says does not have the key; what says how it is signed may be said in other ways.
    let der = rustls_pki_types::CertificateSigningRequestDer::from_pem_slice(made.as_bytes());
    let der = der.unwrap().to_vec();
    for at in 0..der.len() {
        let mut other = der.clone();
        other[at] ^= 1;
        let read = Requested::read(issue::pem("CERTIFICATE REQUEST", &other).as_bytes());
        let says_the_same = |other: &Requested| {
            (&other.identity, &other.hosts, other.public_key())
                == (&identity(), &hosts(), own.public_key())
        };
        assert!(read.as_ref().ok().is_none_or(says_the_same), "byte {at}: {read:?}");
    }
}

#[test]
fn what_is_no_request_is_refused_with_what_it_is() {
    let refused = |bytes: &[u8]| Requested::read(bytes).unwrap_err().to_string();
    assert!(refused(b"no request").contains("not in PEM form"));
    assert!(refused(&[b'-'; REQUEST_BYTES_MAX + 1]).contains("more than"));
    let files = Files::new();
    let certificate = fs::read(files.path("node.crt")).unwrap();
    assert!(refused(&certificate).contains("PEM"));
    // A key of another kind, and no identity.
    let other = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let params = rcgen::CertificateParams::new(vec!["node1".to_owned()]).unwrap();
    let made = params.serialize_request(&other).unwrap().pem().unwrap();
    assert!(refused(made.as_bytes()).contains("not ECDSA P-256"));
    let key = rcgen::KeyPair::generate().unwrap();
    let made = params.serialize_request(&key).unwrap().pem().unwrap();
    assert!(refused(made.as_bytes()).contains("has 0 URIs"));
}

#[test]
fn what_is_signed_is_what_the_signer_says_whatever_the_request_does() {
    let files = Files::new();
    let (_, key) = files.pair();
    // It asks for the administrator's certificate.
    let wanted: PeerIdentity = "spiffe://konsen/client/admin".parse().unwrap();
    let prepared = prepare(&wanted, &["bank.example.com".parse().unwrap()], &key).unwrap();
    let pem = files.signed(&prepared.request, &identity());
    files.install(&pem).unwrap();
    let material = files.load().unwrap();
    assert_eq!(material.identity, identity());
    assert!(!material.hosts.contains(&"bank.example.com".parse().unwrap()));
    assert!(material.is_for(&hosts()));
    let life = material.life.until - material.life.from;
    assert!(life > Duration::days(90) && life <= Duration::days(91), "{life}");
}

#[test]
fn a_pair_can_be_read_at_every_moment_of_an_exchange() {
    let files = Files::new();
    let (cert, key) = files.pair();
    let before = files.load().unwrap();
    let prepared = prepare(&before.identity, &before.hosts, &key).unwrap();
    assert_eq!(files.load().unwrap().chain, before.chain);
    // A crash here costs nothing: the key that waits is used again.
    let again = prepare(&before.identity, &before.hosts, &key).unwrap();
    let waiting = fs::read(next_key_file(&key)).unwrap();
    for request in [&prepared.request, &again.request] {
        assert_eq!(
            Requested::read(request.as_bytes()).unwrap().public_key(),
            Requested::read(prepared.request.as_bytes()).unwrap().public_key()
        );
    }
    prepared.leave_request(&cert).unwrap();
    assert!(!settle(&cert, &key).unwrap(), "there is nothing to be settled yet");

    // The certificate is there, the key waits: as after a crash, or an operator's copy.
    let pem = files.signed(&prepared.request, &identity());
    write_certificate(&cert, &pem, Overwrite::Replace).unwrap();
    let between = files.load().unwrap();
    assert_ne!(between.chain, before.chain);
    assert!(settle(&cert, &key).unwrap());
    assert_eq!(fs::read(&key).unwrap(), waiting);
    assert!(!next_key_file(&key).exists() && !request_file(&cert).exists());
    assert_eq!(files.load().unwrap().chain, between.chain);
    assert!(!settle(&cert, &key).unwrap(), "once is enough");
}

#[test]
fn what_cannot_be_used_is_not_installed() {
    let files = Files::new();
    let (_, key) = files.pair();
    let before = files.load().unwrap();
    let prepared = prepare(&identity(), &hosts(), &key).unwrap();
    let stranger = Files::new();
    let other = new_key().unwrap();
    let others = request(&identity(), &hosts(), &other).unwrap();
    let bad = [
        (
            "of another node",
            files.signed(&prepared.request, &"spiffe://konsen/node/node2".parse().unwrap()),
        ),
        ("of another authority", stranger.signed(&prepared.request, &identity())),
        ("for another key", files.signed(&others, &identity())),
        ("nothing", String::new()),
    ];
    for (what, pem) in bad {
        assert!(files.install(&pem).is_err(), "{what}");
        assert_eq!(files.load().unwrap().chain, before.chain, "{what}");
    }
}
