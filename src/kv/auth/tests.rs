use super::super::ask::{Ask, Asks, Keys};
use super::super::right::{Administration, Grant, Right};
use super::*;
use crate::kv::{KeyRange, Write};

pub(super) fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn role(prefix: &str, may: &[Right], admin: &[Administration]) -> Role {
    let grant =
        Grant { range: KeyRange::prefix(prefix.as_bytes()), may: may.iter().copied().collect() };
    Role { grants: vec![grant], admin: admin.iter().copied().collect() }
}

fn token(user: &str, byte: u8, expires: Option<u64>) -> Token {
    Token { user: name(user), hash: [byte; 32], made: 1, expires }
}

fn changed(access: &Access, change: AccessChange) -> Access {
    access.after(change).unwrap().0.unwrap()
}

/// `reader` reads below `app/`, `keeper` writes there, `alice` is both.
fn small() -> Access {
    let access = Access::default();
    let put = |name: Name, role| AccessChange::PutRole { name, role };
    let access = changed(&access, put(name("reader"), role("app/", &[Right::Read], &[])));
    let access = changed(
        &access,
        put(name("keeper"), role("app/", &[Right::Write], &[Administration::Compact])),
    );
    let roles = [name("reader"), name("keeper")].into();
    changed(&access, AccessChange::PutUser { name: name("alice"), roles })
}

#[test]
fn a_cluster_begins_with_an_administrator() {
    let access = Access::default();
    assert!(!access.is_on());
    let all = KeyRange::all();
    for right in Right::ALL {
        assert!(access.allows(&name(ADMIN), Ask::Keys(right, Keys::Range(&all))));
        assert!(!access.allows(&name("bob"), Ask::Keys(right, Keys::Range(&all))));
    }
    for what in Administration::ALL {
        assert!(access.allows(&name(ADMIN), Ask::Admin(what)));
    }
    assert!(!access.allows(&name(ADMIN), Ask::Nobody));
    assert!(!access.allows(&name("bob"), Ask::BeKnown));
}

#[test]
fn roles_add_up_and_end_where_they_end() {
    let access = small();
    let alice = name("alice");
    let may = |right, key: &str| access.allows(&alice, Ask::Keys(right, Keys::One(key.as_bytes())));
    assert!(may(Right::Read, "app/x") && may(Right::Write, "app/"));
    assert!(!may(Right::Watch, "app/x") && !may(Right::Read, "app0") && !may(Right::Read, "ap"));
    assert!(access.allows(&alice, Ask::Admin(Administration::Compact)));
    assert!(!access.allows(&alice, Ask::Admin(Administration::Auth)));
    let get = |range: &KeyRange| access.allows(&alice, Ask::Keys(Right::Read, Keys::Range(range)));
    assert!(get(&KeyRange::prefix(b"app/config/")));
    assert!(!get(&KeyRange { start: "app/".into(), end: None }));
    assert!(!get(&KeyRange::all()));
}

#[test]
fn a_right_goes_with_its_role_and_with_its_holder() {
    let access = small();
    let ask = Ask::Keys(Right::Read, Keys::One(b"app/x"));
    let without = changed(&access, AccessChange::DeleteRole { name: name("reader") });
    assert!(!without.allows(&name("alice"), ask));
    assert_eq!(without.users()["alice"].roles, [name("keeper")].into());
    let other = changed(
        &access,
        AccessChange::PutRole { name: name("reader"), role: role("b/", &[Right::Read], &[]) },
    );
    assert!(!other.allows(&name("alice"), ask));
    let nobody = changed(&access, AccessChange::DeleteUser { name: name("alice") });
    assert!(!nobody.allows(&name("alice"), ask));
    assert_eq!(nobody.revision().0, access.revision().0 + 1);
}

#[test]
fn tokens_end_with_their_time_their_name_and_their_user() {
    let access = small();
    let root = AccessChange::PutToken { name: name("root"), token: token(ADMIN, 9, None) };
    let access = changed(&access, root);
    let put = |token| AccessChange::PutToken { name: name("laptop"), token };
    let with = changed(&access, put(token("alice", 1, Some(100))));
    assert!(with.is_on(), "a token turns it on");
    assert_eq!(with.holder(&[1; 32], 99), Some(&name("alice")));
    assert_eq!(with.holder(&[1; 32], 100), None);
    assert_eq!(with.holder(&[2; 32], 1), None);
    let again = changed(&with, put(token("alice", 2, None)));
    assert_eq!(again.holder(&[1; 32], 1), None, "the one before opens nothing");
    assert_eq!(again.holder(&[2; 32], u64::MAX), Some(&name("alice")));
    let deleted = changed(&again, AccessChange::DeleteToken { name: name("laptop") });
    assert_eq!(deleted.holder(&[2; 32], 1), None);
    assert!(deleted.is_on(), "and it stays on");
    let gone = changed(&again, AccessChange::DeleteUser { name: name("alice") });
    assert_eq!(gone.holder(&[2; 32], 1), None);
    assert_eq!(gone.tokens().len(), 1);
    let same = AccessChange::PutToken { name: name("other"), token: token("alice", 2, None) };
    assert_eq!(again.after(same), Err(AccessRefusal::SameToken));
}

#[test]
fn somebody_can_always_change_it_back() {
    let access = small();
    let delete = |who: &str| AccessChange::DeleteUser { name: name(who) };
    assert_eq!(access.after(delete(ADMIN)), Err(AccessRefusal::LastAdministrator));
    let none = AccessChange::PutUser { name: name(ADMIN), roles: BTreeSet::new() };
    assert_eq!(access.after(none), Err(AccessRefusal::LastAdministrator));
    let put = AccessChange::PutRole { name: name(ADMIN), role: Role::default() };
    assert_eq!(access.after(put), Err(AccessRefusal::AdminRole));
    let second = AccessChange::PutUser { name: name("root"), roles: [name(ADMIN)].into() };
    let two = changed(&access, second);
    assert!(two.after(delete(ADMIN)).is_ok());
}

/// Where clients show no certificates, an administrator gets in by a token alone.
#[test]
fn without_certificates_an_administrator_keeps_a_token() {
    let access = Access::default();
    let put = |of: &str, token| AccessChange::PutToken { name: name(of), token };
    let last = Err(AccessRefusal::LastAdministrator);
    assert_eq!(access.after(put("t", token(ADMIN, 1, Some(100)))), last, "it would end");
    let access = changed(&access, put("t", token(ADMIN, 1, None)));
    assert_eq!(access.after(AccessChange::DeleteToken { name: name("t") }), last);
    assert_eq!(access.after(put("t", token(ADMIN, 2, Some(100)))), last);
    // Another administrator without a token is none that could do anything.
    let roles = || [name(ADMIN)].into();
    let two = changed(&access, AccessChange::PutUser { name: name("two"), roles: roles() });
    assert_eq!(two.after(AccessChange::DeleteUser { name: name(ADMIN) }), last);
    let none = AccessChange::PutUser { name: name(ADMIN), roles: BTreeSet::new() };
    assert_eq!(two.after(none), last);
    let with = changed(&two, put("u", token("two", 2, None)));
    assert!(with.after(AccessChange::DeleteUser { name: name(ADMIN) }).is_ok());
    // With certificates there is another way in.
    let asked = changed(&access, AccessChange::TurnOn);
    assert!(asked.after(AccessChange::DeleteToken { name: name("t") }).is_ok());
}

#[test]
fn tokens_that_have_ended_are_forgotten_with_the_next_one() {
    let put = |of: &str, token| AccessChange::PutToken { name: name(of), token };
    let access = changed(&Access::default(), put("root", token(ADMIN, 1, None)));
    let access = changed(&access, put("short", token(ADMIN, 2, Some(50))));
    let at = |made| Token { made, ..token(ADMIN, 3, None) };
    assert_eq!(changed(&access, put("next", at(49))).tokens().len(), 3);
    let later = changed(&access, put("next", at(50)));
    assert_eq!(later.tokens().keys().map(Name::as_str).collect::<Vec<_>>(), ["next", "root"]);
}

#[test]
fn what_is_not_there_is_named() {
    let access = Access::default();
    let user = AccessChange::PutUser { name: name("alice"), roles: [name("nope")].into() };
    assert_eq!(access.after(user), Err(AccessRefusal::NoSuchRole("nope".into())));
    let token = AccessChange::PutToken { name: name("t"), token: token("bob", 1, None) };
    assert_eq!(access.after(token), Err(AccessRefusal::NoSuchUser("bob".into())));
    let delete = AccessChange::DeleteRole { name: name("nope") };
    assert_eq!(access.after(delete), Ok((None, false)));
}

#[test]
fn all_of_it_has_a_bound() {
    let mut access = Access::default();
    let large = role(&"x".repeat(4000), &[Right::Read], &[]);
    let put = |number: usize| AccessChange::PutRole {
        name: name(&format!("role-{number}")),
        role: large.clone(),
    };
    let mut number = 0;
    let refused = loop {
        match access.after(put(number)) {
            Ok((next, _)) => access = next.unwrap(),
            Err(refused) => break refused,
        }
        number += 1;
    };
    assert_eq!(refused, AccessRefusal::TooMuch);
    assert!((20..100).contains(&number), "{number}");
    assert!(access.after(AccessChange::DeleteRole { name: name("role-0") }).is_ok());
}

#[test]
fn every_branch_and_compare_of_a_write_is_asked_for() {
    use crate::kv::{Compare, Op, Over, Put, Test, Txn};
    let put = |key: &'static str| Op::Put(Put::new(key.into(), "v".into()));
    let compare = Compare { over: Over::Key("c".into()), test: Test::Exists(true) };
    let nested = Txn { compares: vec![], then: vec![put("n")], otherwise: vec![] };
    let txn = Txn {
        compares: vec![compare],
        then: vec![put("t"), Op::Txn(nested)],
        otherwise: vec![
            Op::Get(Over::Key("g".into())),
            Op::Delete(Over::Range(KeyRange::prefix(b"d/"))),
        ],
    };
    let mut asked = Vec::new();
    Write::txn(txn).asks(&mut |ask| asked.push(ask.to_string()));
    asked.sort();
    let expected = [
        "ask this",
        "read the key \"c\"",
        "read the key \"g\"",
        "write the key \"n\"",
        "write the key \"t\"",
        "write the keys from \"d/\" to before \"d0\"",
    ];
    assert_eq!(asked, expected);
}

fn serial(byte: u8) -> Serial {
    Serial::new(&[byte, 7]).unwrap()
}

fn revoke(byte: u8, until: u64, now: u64) -> AccessChange {
    AccessChange::Revoke { serial: serial(byte), until, now }
}

#[test]
fn a_certificate_is_revoked_until_it_ends_or_that_is_taken_back() {
    let access = changed(&small(), revoke(1, 100, 10));
    assert_eq!(access.revision().0, small().revision().0 + 1);
    // Again, and it says so; nothing is counted.
    let (same, found) = access.after(revoke(1, 100, 20)).unwrap();
    assert!(same.is_none() && found);
    let access = changed(&access, revoke(2, 200, 99));
    assert_eq!(access.revoked().len(), 2);
    // What has ended is forgotten with the next one.
    let access = changed(&access, revoke(3, 300, 100));
    assert_eq!(access.revoked().keys().collect::<Vec<_>>(), [&serial(2), &serial(3)]);
    let restore = |byte| AccessChange::Restore { serial: serial(byte) };
    assert_eq!(access.after(restore(1)).unwrap(), (None, false));
    let access = changed(&access, restore(2));
    assert_eq!(access.revoked().keys().collect::<Vec<_>>(), [&serial(3)]);
}

#[test]
fn no_more_certificates_are_revoked_than_may_be() {
    let mut access = Access::default();
    let number = |at: usize| Serial::new(&(at as u64 + 1).to_be_bytes()).unwrap();
    let revoke = |at: usize, now| AccessChange::Revoke { serial: number(at), until: 1000, now };
    for at in 0..REVOKED_MAX {
        access = changed(&access, revoke(at, 0));
    }
    assert_eq!(access.after(revoke(REVOKED_MAX, 0)), Err(AccessRefusal::TooManyRevoked));
    // One of them is no new one, and once they have ended there is room.
    assert!(access.after(revoke(0, 0)).is_ok());
    let access = changed(&access, revoke(REVOKED_MAX, 1000));
    assert_eq!(access.revoked().len(), 1);
}
