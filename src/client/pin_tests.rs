//! Certificates of an authority, of a stranger who calls itself the same, and what a client makes of them that knows one
//! fingerprint.

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};

use super::*;

/// An authority and the certificate of a server, valid from 2026 to 2027.
struct Made {
    authority: CertificateDer<'static>,
    server: CertificateDer<'static>,
}

fn params(names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.not_before = date_time_ymd(2026, 1, 1);
    params.not_after = date_time_ymd(2027, 1, 1);
    params
}

fn made() -> Made {
    let mut authority = params(&[]);
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    authority.distinguished_name.push(DnType::CommonName, "an authority");
    let key = KeyPair::generate().unwrap();
    let certificate = authority.self_signed(&key).unwrap();
    let issuer = Issuer::from_ca_cert_der(certificate.der(), key).unwrap();
    let mut server = params(&["kv.example.org"]);
    server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let server = server.signed_by(&KeyPair::generate().unwrap(), &issuer).unwrap();
    Made { authority: certificate.der().clone(), server: server.der().clone() }
}

/// Some day of a year.
fn day(year: u64) -> UnixTime {
    UnixTime::since_unix_epoch(std::time::Duration::from_secs(
        (year - 1970) * 31_557_600 + 86_400 * 30,
    ))
}

/// Why a server is refused that shows these, if it is.
fn refused(
    trusted: &CertificateDer<'static>,
    known: &[CertificateDer<'static>],
    (shown, beside): (&CertificateDer<'static>, &[CertificateDer<'static>]),
    host: &'static str,
    now: UnixTime,
) -> Option<String> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let pinned = Pinned::new(Fingerprint::of(trusted), known.to_vec(), provider);
    let name = ServerName::try_from(host).unwrap();
    pinned.verify_server_cert(shown, beside, &name, &[], now).err().map(|error| text(&error))
}

#[test]
fn an_authority_vouches_for_what_it_signed_for_that_host_and_time() {
    let (made, other) = (self::made(), self::made());
    let shown = [made.authority.clone()];
    let asked =
        |server, beside, host, now| refused(&made.authority, &[], (server, beside), host, now);
    assert_eq!(asked(&made.server, &shown[..], "kv.example.org", day(2026)), None);
    let wrong = asked(&made.server, &shown[..], "other.example.org", day(2026));
    assert!(wrong.is_some_and(|error| error.contains("not valid for")), "another host");
    for year in [2025, 2028] {
        assert!(asked(&made.server, &shown[..], "kv.example.org", day(year)).is_some(), "{year}");
    }
    // Who shows the authority has not been signed by it.
    let both = [other.authority.clone(), made.authority.clone()];
    for beside in [&shown[..], &both] {
        assert!(asked(&other.server, beside, "kv.example.org", day(2026)).is_some());
    }
    // Nobody knows which authority the fingerprint is of.
    let unknown = asked(&made.server, &[], "kv.example.org", day(2026)).unwrap();
    assert!(unknown.contains("nor an authority that it shows has the fingerprint"), "{unknown}");
    assert!(unknown.contains(&Fingerprint::of(&made.server).to_string()), "{unknown}");
    let known = refused(&made.authority, &shown, (&made.server, &[]), "kv.example.org", day(2026));
    assert_eq!(known, None);
}

#[test]
fn a_servers_own_certificate_needs_no_authority_and_has_to_be_for_that_host_and_time() {
    let (made, other) = (self::made(), self::made());
    let asked = |server, host, now| refused(&made.server, &[], (server, &[]), host, now);
    assert_eq!(asked(&made.server, "kv.example.org", day(2026)), None);
    assert!(asked(&made.server, "other.example.org", day(2026)).is_some());
    assert!(asked(&other.server, "kv.example.org", day(2026)).is_some());
    for year in [2025, 2028] {
        assert!(asked(&made.server, "kv.example.org", day(year)).is_some(), "{year}");
    }
}

#[test]
fn fingerprints_are_read_as_others_write_them() {
    let plain = "0f".repeat(32);
    let fingerprint: Fingerprint = plain.parse().unwrap();
    assert_eq!(fingerprint.to_string(), plain);
    let colons = vec!["0F"; 32].join(":");
    assert_eq!(colons.parse(), Ok(fingerprint));
    assert_eq!(format!(" {plain}\n").parse(), Ok(fingerprint));
    for wrong in [
        "",
        "0f",
        &plain[1..],
        &format!("{plain}0"),
        &plain.replace('f', "g"),
        &plain.replace('f', "ä"),
    ] {
        assert!(wrong.parse::<Fingerprint>().is_err(), "{wrong}");
    }
}
