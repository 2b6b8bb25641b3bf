use super::*;
use crate::store::{Log, LogOptions, State, StateOptions};

fn check(node: &str) -> IdentityCheck {
    IdentityCheck { cluster: "c".to_owned(), node: node.to_owned() }
}

#[test]
fn an_identity_lasts_and_each_directory_has_another() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a/b");
    let data = DataDir::open(&path, &check("n1")).unwrap();
    let id = data.id();
    assert!(id.0 >= 1000 && id.0 < 1 << 63);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
    drop(data);
    assert_eq!(DataDir::open(&path, &check("n1")).unwrap().id(), id);
    let other = DataDir::open(&dir.path().join("c"), &check("n1")).unwrap();
    assert_ne!(other.id(), id);
}

#[test]
fn a_directory_in_use_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let first = DataDir::open(dir.path(), &check("n1")).unwrap();
    let refused = DataDir::open(dir.path(), &check("n1")).unwrap_err();
    assert!(matches!(refused, StoreError::InUse { .. }), "{refused}");
    drop(first);
    DataDir::open(dir.path(), &check("n1")).unwrap();
}

#[test]
fn a_directory_of_another_node_or_cluster_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    drop(DataDir::open(dir.path(), &check("n1")).unwrap());
    let refused = DataDir::open(dir.path(), &check("n2")).unwrap_err().to_string();
    assert!(refused.contains("node n1 of cluster c"), "{refused}");
    assert!(refused.contains("node n2 of cluster c"), "{refused}");
    let other = IdentityCheck { cluster: "d".to_owned(), node: "n1".to_owned() };
    assert!(DataDir::open(dir.path(), &other).is_err());
}

#[test]
fn what_leaders_may_count_on_outlasts_starts_until_it_is_over() {
    let dir = tempfile::tempdir().unwrap();
    let starts = |from_now_ms| {
        let data = DataDir::open(dir.path(), &check("n1")).unwrap();
        (data.guards(from_now_ms).unwrap(), data)
    };
    assert_eq!(starts(0).0, 0);
    assert_eq!(starts(500).0, 500);
    for _ in 0..2 {
        // Two starts, one soon after the other.
        assert_eq!(starts(100).0, 500);
    }
    let (guards, data) = starts(0);
    assert_eq!(guards, 500, "also where nothing is promised any more");
    data.guards_no_longer(100).unwrap();
    drop(data);
    assert_eq!(starts(0).0, 100);
}

fn grant(data: &DataDir, round: u64, founder: u64) -> Answer {
    data.asked_to_found(Ask::Grant(Ballot { round, founder: NodeId(founder) })).unwrap()
}

#[test]
fn what_was_promised_and_granted_is_remembered() {
    let dir = tempfile::tempdir().unwrap();
    let data = DataDir::open(dir.path(), &check("n1")).unwrap();
    assert_eq!(data.founding(), Grant::default());
    assert_eq!(grant(&data, 1, 5000), Answer::Granted);
    let (granted, promised) =
        (Ballot { round: 1, founder: NodeId(5000) }, Ballot { round: 12, founder: NodeId(6000) });
    assert_eq!(
        data.asked_to_found(Ask::Promise(promised)).unwrap(),
        Answer::Promised(Some(granted))
    );
    drop(data);
    let data = DataDir::open(dir.path(), &check("n1")).unwrap();
    assert_eq!(data.founding(), Grant { promised, granted: Some(granted) });
    assert_eq!(grant(&data, 1, 5000), Answer::Outbid(promised));
    assert_eq!(grant(&data, 12, 6000), Answer::Granted);
    drop(data);
    let data = DataDir::open(dir.path(), &check("n1")).unwrap();
    assert_eq!(data.founding(), Grant { promised, granted: Some(promised) });
}

#[test]
fn a_grant_from_before_there_were_ballots_is_one_of_round_zero() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join(IDENTITY_FILE);
    let with = |grant: &str| {
        let text = format!(
            r#"{{"format": 3, "id": "00000000000003e8", "cluster": "c", "node": "n1",
                "founding_grant": "{grant}"}}"#
        );
        fs::write(&file, text).unwrap();
        DataDir::open(dir.path(), &check("n1"))
    };
    let granted = Ballot { round: 0, founder: NodeId(5000) };
    let grant = Grant { promised: granted, granted: Some(granted) };
    assert_eq!(with("0000000000001388").unwrap().founding(), grant);
    for wrong in ["1388", "x:0000000000001388", "1:1388", "", ":"] {
        let refused = with(wrong).unwrap_err().to_string();
        assert!(refused.contains("is no ballot"), "{refused}");
    }
}

#[test]
fn of_many_that_ask_at_once_the_highest_has_the_grant() {
    let dir = tempfile::tempdir().unwrap();
    let data = DataDir::open(dir.path(), &check("n1")).unwrap();
    std::thread::scope(|scope| {
        for founder in 5000..5008 {
            let data = data.clone();
            scope.spawn(move || grant(&data, 1, founder));
        }
    });
    let highest = Ballot { round: 1, founder: NodeId(5007) };
    assert_eq!(data.founding(), Grant { promised: highest, granted: Some(highest) });
}

/// Takes the steps that a node takes at its first start, as many as it gets to.
fn first_start(path: &Path, steps: usize) -> Result<DataDir, StoreError> {
    let data = DataDir::open(path, &check("n1"))?;
    if steps > 0 {
        State::open(&data.state_path(), None, &StateOptions::default())?;
    }
    if steps > 1 {
        Log::open(&data.log_path(), None, &LogOptions::default())?;
    }
    if steps > 2 {
        data.files_made()?;
    }
    Ok(data)
}

#[test]
fn a_first_start_that_is_cut_short_anywhere_is_taken_up_again() {
    for steps in 0..=3 {
        let dir = tempfile::tempdir().unwrap();
        let id = first_start(dir.path(), steps).unwrap().id();
        let again = first_start(dir.path(), 3).unwrap();
        assert_eq!(again.id(), id, "{steps}");
        again.files_made().unwrap();
    }
}

#[test]
fn a_directory_that_lost_a_file_is_refused_and_says_what_to_do() {
    for file in [paths::LOG, paths::STATE] {
        let dir = tempfile::tempdir().unwrap();
        let data = first_start(dir.path(), 3).unwrap();
        assert_eq!(grant(&data, 1, 5000), Answer::Granted);
        drop(data);
        let kept = dir.path().join("kept");
        fs::rename(dir.path().join(file), &kept).unwrap();
        let refused = DataDir::open(dir.path(), &check("n1")).unwrap_err();
        assert!(matches!(refused, StoreError::Lost { .. }), "{refused}");
        let text = refused.to_string();
        assert!(text.contains(file) && text.contains("put the file back"), "{text}");
        fs::rename(&kept, dir.path().join(file)).unwrap();
        first_start(dir.path(), 3).unwrap();
    }
}

#[test]
fn files_that_were_not_made_are_not_recorded() {
    let dir = tempfile::tempdir().unwrap();
    let data = first_start(dir.path(), 1).unwrap();
    assert!(matches!(data.files_made(), Err(StoreError::Lost { file: paths::LOG, .. })));
    drop(data);
    first_start(dir.path(), 3).unwrap();
}

#[test]
fn a_half_written_successor_of_the_identity_is_ignored() {
    let dir = tempfile::tempdir().unwrap();
    let id = DataDir::open(dir.path(), &check("n1")).unwrap().id();
    fs::write(dir.path().join("identity.new"), "{").unwrap();
    let data = DataDir::open(dir.path(), &check("n1")).unwrap();
    assert_eq!(data.id(), id);
    assert_eq!(grant(&data, 1, id.0), Answer::Granted);
}

#[test]
fn files_that_do_not_fit_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join(IDENTITY_FILE);
    fs::write(&file, r#"{"format": 9}"#).unwrap();
    let refused = DataDir::open(dir.path(), &check("n1")).unwrap_err().to_string();
    assert!(refused.contains("format 9") && refused.contains("format 3"), "{refused}");
    fs::write(&file, "garbage").unwrap();
    assert!(DataDir::open(dir.path(), &check("n1")).is_err());
    for id in ["3e8", "+0000000000003e8", "00000000000003E8", "00000000000003e80"] {
        let text = format!(r#"{{"format": 3, "id": "{id}", "cluster": "c", "node": "n1"}}"#);
        fs::write(&file, text).unwrap();
        let refused = DataDir::open(dir.path(), &check("n1")).unwrap_err().to_string();
        assert!(refused.contains("16 hex digits"), "{refused}");
    }
    fs::remove_file(&file).unwrap();
    fs::write(dir.path().join(paths::LOG), "").unwrap();
    let refused = DataDir::open(dir.path(), &check("n1")).unwrap_err().to_string();
    assert!(refused.contains("no identity"), "{refused}");
}
