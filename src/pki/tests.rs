//! What is issued is accepted where it should be and nowhere else.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{CertificateParams, KeyPair, SanType};
use rustls_pki_types::CertificateDer;
use tempfile::TempDir;

use super::*;

struct Files {
    dir: TempDir,
}

impl Files {
    fn new() -> Files {
        let files = Files { dir: TempDir::new().unwrap() };
        files.authority("ca");
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn authority(&self, name: &str) {
        let issued = issue_authority(&"konsen".parse().unwrap(), AUTHORITY_DAYS).unwrap();
        self.write(name, &issued);
    }

    fn write(&self, name: &str, issued: &Issued) {
        let (cert, key) = (self.path(&format!("{name}.crt")), self.path(&format!("{name}.key")));
        write_pair((&cert, &issued.certificate), (&key, &issued.key), Overwrite::Never).unwrap();
    }

    fn issue(&self, authority: &str, uri: &str) {
        let cert = self.path(&format!("{authority}.crt"));
        let key = self.path(&format!("{authority}.key"));
        let identity: PeerIdentity = uri.parse().unwrap();
        let hosts =
            ["10.0.0.1".parse().unwrap(), "0.0.0.0".parse().unwrap(), "host".parse().unwrap()];
        let issued = Authority::load(&cert, &key).unwrap().issue(&identity, &hosts, 365).unwrap();
        self.write(identity.name.as_str(), &issued);
    }

    fn load(&self, cert: &str, key: &str) -> Result<Material, PkiError> {
        Material::load(&self.path("ca.crt"), &self.path(cert), &self.path(key))
    }

    #[track_caller]
    fn refused(&self, cert: &str, key: &str, parts: &[&str]) {
        let error = self.load(cert, key).unwrap_err().to_string();
        for part in parts {
            assert!(error.contains(part), "{part:?} is not in: {error}");
        }
    }
}

fn mode(file: &Path) -> u32 {
    file.metadata().unwrap().permissions().mode() & 0o777
}

/// A self-made certificate with these URIs.
fn foreign(uris: &[&str], days_ago: i64, days: i64) -> (CertificateDer<'static>, String, String) {
    let mut params = CertificateParams::new(vec!["node1".to_owned()]).unwrap();
    params.not_before = time::OffsetDateTime::now_utc() - time::Duration::days(days_ago);
    params.not_after = params.not_before + time::Duration::days(days);
    for uri in uris {
        params.subject_alt_names.push(SanType::URI((*uri).try_into().unwrap()));
    }
    let key = KeyPair::generate().unwrap();
    let cert = params.self_signed(&key).unwrap();
    (cert.der().clone(), cert.pem(), key.serialize_pem())
}

#[test]
fn a_node_is_accepted_as_itself_only() {
    let files = Files::new();
    files.issue("ca", "spiffe://konsen/node/node1");
    let material = files.load("node1.crt", "node1.key").unwrap();
    assert_eq!(material.identity.uri(), "spiffe://konsen/node/node1");
    assert!(material.is_for(&["10.0.0.1".parse().unwrap(), "host".parse().unwrap()]));
    assert!(material.is_for(&["localhost".parse().unwrap(), "127.0.0.1".parse().unwrap()]));
    assert!(!material.is_for(&["10.0.0.2".parse().unwrap()]));
    let (konsen, node1) = ("konsen".parse().unwrap(), "node1".parse().unwrap());
    material.check_node(&konsen, &node1).unwrap();
    let wrong = material.check_node(&"other".parse().unwrap(), &node1).unwrap_err().to_string();
    assert!(wrong.contains("node1.crt") && wrong.contains("konsen, not for other"), "{wrong}");
    let wrong = material.check_node(&konsen, &"node2".parse().unwrap()).unwrap_err().to_string();
    assert!(wrong.contains("of node1, not of node2"), "{wrong}");
    let until = not_after_rfc3339(&material.chain[0]).unwrap();
    assert!(until.ends_with('Z') && until.len() == 20, "{until}");
    let day = time::Duration::days(1);
    let left = material.life.until - time::OffsetDateTime::now_utc();
    assert!(left > day * 364 && left <= day * 365, "{left}");
    // Good for hosts, too, whose clocks are behind.
    let parsed = identity::parse(&material.chain[0]).unwrap();
    let before = time::OffsetDateTime::now_utc() - parsed.validity().not_before.to_datetime();
    assert!(before >= time::Duration::hours(23) && before <= time::Duration::hours(25), "{before}");
}

#[test]
fn a_client_is_no_node() {
    let files = Files::new();
    files.issue("ca", "spiffe://konsen/client/alice");
    let material = files.load("alice.crt", "alice.key").unwrap();
    assert_eq!(material.identity.role, Role::Client);
    let wrong = material.check_node(&"konsen".parse().unwrap(), &"alice".parse().unwrap());
    assert!(wrong.unwrap_err().to_string().contains("of a client, not of a node"));
    // Its usage does not let it be a server whatever its URI says.
    let der = material.chain[0].clone();
    let parsed = identity::parse(&der).unwrap();
    let usage = parsed.extended_key_usage().unwrap().unwrap().value;
    assert!(usage.client_auth && !usage.server_auth);
}

#[test]
fn files_that_do_not_fit() {
    let files = Files::new();
    files.issue("ca", "spiffe://konsen/node/node1");
    files.issue("ca", "spiffe://konsen/node/node2");
    files.refused("node1.crt", "none.key", &["none.key", "no such file"]);
    files.refused("none.crt", "node1.key", &["none.crt", "no such file"]);
    files.refused("node1.crt", "node2.key", &["node2.key", "node1.crt", "is not the key"]);
    files.refused("node1.key", "node1.key", &["node1.key", "no certificate"]);
    files.refused("node1.crt", "node1.crt", &["node1.crt", "no private key"]);
    fs::write(files.path("text.crt"), "hello").unwrap();
    files.refused("text.crt", "node1.key", &["text.crt", "no certificate"]);
    // Another authority of the same name.
    files.authority("ca2");
    files.issue("ca2", "spiffe://konsen/node/node3");
    files.refused("node3.crt", "node3.key", &["node3.crt", "not signed by", "ca.crt"]);
    let error = Authority::load(&files.path("node1.crt"), &files.path("node1.key")).unwrap_err();
    assert!(error.to_string().contains("not the certificate of an authority"), "{error}");
    let error = Authority::load(&files.path("ca.crt"), &files.path("ca2.key")).unwrap_err();
    assert!(error.to_string().contains("is not the key"), "{error}");
}

#[test]
fn times_and_identities_that_are_wrong() {
    let files = Files::new();
    let good = "spiffe://konsen/node/node1";
    let write = |(_, cert, key): (CertificateDer<'_>, String, String)| {
        let (cert_file, key_file) = (files.path("f.crt"), files.path("f.key"));
        write_pair((&cert_file, &cert), (&key_file, &key), Overwrite::Replace).unwrap();
    };
    write(foreign(&[good], 10, 5));
    files.refused("f.crt", "f.key", &["f.crt", "expired at 20"]);
    write(foreign(&[good], -1, 5));
    files.refused("f.crt", "f.key", &["f.crt", "not valid before 20", "clock"]);
    write(foreign(&[], 1, 5));
    files.refused("f.crt", "f.key", &["f.crt", "0 URIs"]);
    write(foreign(&[good], 1, 5));
    files.refused("f.crt", "f.key", &["f.crt", "not signed by"]);
    let identity = |uris: &[&str]| PeerIdentity::from_certificate(&foreign(uris, 1, 5).0);
    assert_eq!(identity(&[good]).unwrap().uri(), good);
    assert!(matches!(
        identity(&[good, "spiffe://konsen/node/node2"]),
        Err(PkiError::Identity(IdentityError::Uris(2)))
    ));
    for uri in [
        "spiffe://konsen/node/",
        "spiffe://konsen/node/node1/",
        "spiffe://konsen/node/node1/x",
        "spiffe://konsen/server/node1",
        "spiffe://konsen/node/Node1",
        "spiffe://konsen:1/node/node1",
        "spiffe:///node/node1",
        "SPIFFE://konsen/node/node1",
        "https://konsen/node/node1",
        "spiffe://konsen/node/node1?x",
    ] {
        assert!(
            matches!(identity(&[uri]), Err(PkiError::Identity(IdentityError::Uri(_)))),
            "{uri}"
        );
    }
    let mut bytes = foreign(&[good], 1, 5).0.to_vec();
    bytes.push(0);
    assert!(PeerIdentity::from_certificate(&bytes.into()).is_err());
}

#[test]
fn keys_are_private_and_nothing_is_overwritten() {
    let files = Files::new();
    assert_eq!(mode(&files.path("ca.key")), 0o600);
    let issued = issue_authority(&"konsen".parse().unwrap(), 1).unwrap();
    let before = fs::read(files.path("ca.key")).unwrap();
    let (cert, key) = (files.path("ca.crt"), files.path("ca.key"));
    let parts =
        || ((cert.as_path(), issued.certificate.as_str()), (key.as_path(), issued.key.as_str()));
    let (one, two) = parts();
    let error = write_pair(one, two, Overwrite::Never).unwrap_err().to_string();
    assert!(error.contains("ca.crt") && error.contains("--force"), "{error}");
    assert_eq!(fs::read(&key).unwrap(), before);
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    write_pair(one, two, Overwrite::Replace).unwrap();
    assert_ne!(fs::read(&key).unwrap(), before);
    assert_eq!(mode(&key), 0o600);
    assert_eq!(fs::read_dir(files.dir.path()).unwrap().count(), 2, "a temporary file is left");
}

#[test]
fn serials_differ_and_are_positive() {
    let files = Files::new();
    files.issue("ca", "spiffe://konsen/node/node1");
    files.issue("ca", "spiffe://konsen/node/node2");
    let serial = |name: &str| {
        let one = describe(&files.path(name)).unwrap().remove(0);
        (one.serial.unwrap(), one.kind)
    };
    let (one, two) = (serial("node1.crt"), serial("node2.crt"));
    assert_ne!(one.0, two.0);
    assert_eq!(one.1, Kind::Node);
    assert_eq!(one.0.len(), 32);
    assert_eq!(serial("ca.crt").1, Kind::Authority);
}

#[test]
fn https_is_set_up_with_each_way_of_client_authentication() {
    let files = Files::new();
    files.issue("ca", "spiffe://konsen/node/node1");
    let material = files.load("node1.crt", "node1.key").unwrap();
    for auth in [ClientAuth::None, ClientAuth::Optional, ClientAuth::Required] {
        let config =
            Https::of(&material).server_config(auth, Arc::new(|_, _| Entry::Admitted)).unwrap();
        assert_eq!(config.alpn_protocols, [b"h2".to_vec(), b"http/1.1".to_vec()]);
        assert_eq!(auth.to_string().parse(), Ok(auth));
        // A session would come in again without its certificate.
        assert_eq!(config.send_tls13_tickets == 0, auth != ClientAuth::None);
    }
}

/// Whether HTTPS lets a client in that shows this, or nothing.
fn comes_in(https: &Arc<rustls::ServerConfig>, own: &Material, shown: Option<&Material>) -> bool {
    let builder = rustls::ClientConfig::builder_with_provider(material::crypto_provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(own.roots.clone());
    let config = match shown {
        Some(it) => builder.with_client_auth_cert(it.chain.clone(), it.key.clone_key()).unwrap(),
        None => builder.with_no_client_auth(),
    };
    let name = "localhost".try_into().unwrap();
    let mut client = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    let mut server = rustls::ServerConnection::new(https.clone()).unwrap();
    while client.is_handshaking() || server.is_handshaking() {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).unwrap();
        }
        let mut rest = &wire[..];
        while !rest.is_empty() {
            server.read_tls(&mut rest).unwrap();
            if server.process_new_packets().is_err() {
                return false;
            }
        }
        let mut wire = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut wire).unwrap();
        }
        let mut rest = &wire[..];
        while !rest.is_empty() {
            client.read_tls(&mut rest).unwrap();
            client.process_new_packets().unwrap();
        }
    }
    true
}

#[test]
fn a_certificate_may_be_left_out_where_it_is_optional_and_a_wrong_one_opens_nothing() {
    let files = Files::new();
    files.authority("ca2");
    files.issue("ca", "spiffe://konsen/node/node1");
    files.issue("ca", "spiffe://konsen/client/alice");
    files.issue("ca", "spiffe://elsewhere/client/mallory");
    files.issue("ca2", "spiffe://konsen/client/eve");
    let node = files.load("node1.crt", "node1.key").unwrap();
    let alice = files.load("alice.crt", "alice.key").unwrap();
    let mallory = files.load("mallory.crt", "mallory.key").unwrap();
    // Of another authority, which calls itself the same.
    let [ca2, cert, key] = ["ca2.crt", "eve.crt", "eve.key"].map(|name| files.path(name));
    let eve = Material::load(&ca2, &cert, &key).unwrap();
    let admits: Admits = Arc::new(|identity, _| match identity.uri().as_str() {
        "spiffe://konsen/client/alice" => Entry::Admitted,
        _ => Entry::Stranger,
    });
    for (auth, expected) in [
        (ClientAuth::None, [true, true, true, true]),
        (ClientAuth::Optional, [true, true, false, false]),
        (ClientAuth::Required, [false, true, false, false]),
    ] {
        let https = Arc::new(Https::of(&node).server_config(auth, admits.clone()).unwrap());
        let shown = [None, Some(&alice), Some(&mallory), Some(&eve)];
        assert_eq!(shown.map(|it| comes_in(&https, &node, it)), expected, "{auth}");
    }
}
