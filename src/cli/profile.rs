//! Profiles: how each cluster is reached that was built here, a file a cluster, so that no command has to be told.
//!
//! They lie in `$KONSEN_PROFILES`, or `konsen` in `$XDG_CONFIG_HOME`, or `~/.config/konsen`, and hold no secrets, only
//! where they lie.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::CliError;
use super::remote::Connection;
use crate::client::Fingerprint;

/// The largest file that is taken for a profile.
const FILE_BYTES_MAX: u64 = 64 << 10;
/// The most profiles that an error lists.
const LISTED_MAX: usize = 20;
/// What the name of a profile's file ends with.
const EXTENSION: &str = "yml";
/// The file that holds the name of the one that was written last.
const DEFAULT: &str = "default";

/// How one cluster is reached. Paths are absolute.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Profile {
    #[serde(default)]
    pub(super) endpoints: Vec<String>,
    pub(super) cacert: Option<PathBuf>,
    #[serde(default, deserialize_with = "fingerprint")]
    pub(super) fingerprint: Option<Fingerprint>,
    pub(super) cert: Option<PathBuf>,
    pub(super) key: Option<PathBuf>,
    pub(super) token: Option<PathBuf>,
}

/// A profile in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Written {
    pub(super) file: PathBuf,
    /// The endpoints of what was there before, if they are all others.
    pub(super) replaced: Option<String>,
}

fn fingerprint<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Fingerprint>, D::Error> {
    let text = Option::<String>::deserialize(from)?;
    text.map(|text| text.parse().map_err(serde::de::Error::custom)).transpose()
}

impl Profile {
    /// Whether commands that name no cluster use one, or cannot tell which.
    pub(super) fn is_used() -> bool {
        !matches!(Profile::default_one(), Ok(None))
    }

    /// That of a name, or of a file where there is a `/` in it.
    pub(super) fn named(name: &str) -> Result<Profile, CliError> {
        if name.contains('/') {
            return Profile::read(Path::new(name));
        }
        let Some(folder) = folder() else { return Err(no_folder()) };
        let file = folder.join(format!("{name}.{EXTENSION}"));
        if !file.exists() {
            let there = match names(&folder)? {
                all if all.is_empty() => format!("{} has none", folder.display()),
                all => format!("{} has {}", folder.display(), listed(&all)),
            };
            return Err(CliError::usage(format!("there is no profile {name:?}; {there}"))
                .hint("name one of them with --profile, its file with a / in it, or nodes with --endpoints"));
        }
        Profile::read(&file)
    }

    /// The only one, or the one that was written last; none if there are none.
    pub(super) fn default_one() -> Result<Option<Profile>, CliError> {
        let Some(folder) = folder() else { return Ok(None) };
        let all = names(&folder)?;
        let last = fs::read_to_string(folder.join(DEFAULT)).unwrap_or_default();
        let last = last.trim();
        let name = match &all[..] {
            [] => return Ok(None),
            [only] => only,
            several => several.iter().find(|name| *name == last).ok_or_else(|| {
                let text = format!(
                    "{} has several profiles, and none of them is the default: {}",
                    folder.display(),
                    listed(several)
                );
                CliError::usage(text)
                    .hint("name one of them with --profile, or nodes with --endpoints")
            })?,
        };
        Profile::read(&folder.join(format!("{name}.{EXTENSION}"))).map(Some)
    }

    fn read(file: &Path) -> Result<Profile, CliError> {
        let failed =
            |why: String| CliError::usage(format!("the profile {}: {why}", file.display()));
        let text = read_bounded(file).map_err(|error| failed(error.to_string()))?;
        let profile: Profile = serde_saphyr::from_str(&text).map_err(|error| {
            let text = error.without_snippet().to_string();
            failed(text.lines().next().unwrap_or("cannot be read").to_owned())
        })?;
        // Whoever names a cluster is not to end up at another one.
        match profile.endpoints.is_empty() {
            true => Err(failed("it names no endpoints".to_owned())),
            false => Ok(profile),
        }
    }

    /// What is given, and the rest from here. Whom to trust and who asks go as a whole: what is given of either takes the
    /// place of all of it.
    pub(super) fn complete(self, given: Connection) -> Connection {
        let mut whole = given;
        if whole.endpoints.is_empty() {
            whole.endpoints = self.endpoints;
        }
        if whole.cacert.is_none() && whole.fingerprint.is_none() {
            (whole.cacert, whole.fingerprint) = (self.cacert, self.fingerprint);
        }
        if whole.cert.is_none() && whole.key.is_none() && whole.token.is_none() {
            (whole.cert, whole.key, whole.token) = (self.cert, self.key, self.token);
        }
        whole
    }

    /// Writes it as the profile of that name and makes it the default. `origin` says whose it is.
    pub(super) fn write(&self, name: &str, origin: &str) -> Result<Written, CliError> {
        if name.contains('/') || name.starts_with('.') {
            return Err(CliError::usage(format!("{name:?} is not a name of a profile")));
        }
        let folder = folder().ok_or_else(no_folder)?;
        let failed = |file: &Path, error: &io::Error| {
            CliError::failed(format!("cannot write {}: {error}", file.display()))
        };
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&folder);
        made.map_err(|error| failed(&folder, &error))?;
        let file = folder.join(format!("{name}.{EXTENSION}"));
        // One that cannot be read is no loss.
        let before = Profile::read(&file).ok();
        if let Some(before) = &before
            && before.fingerprint.is_some()
            && self.fingerprint.is_some()
            && before.fingerprint != self.fingerprint
        {
            let why = format!(
                "{} is the profile of another cluster ({}), whose authority has another fingerprint; it stays as it is",
                file.display(),
                before.endpoints.join(", ")
            );
            return Err(CliError::failed(why)
                .hint("give this one a name with --profile, or remove that file"));
        }
        let other = before.filter(|before| {
            !before.endpoints.iter().any(|endpoint| self.endpoints.contains(endpoint))
        });
        self.write_to(&file, origin)?;
        let default = folder.join(DEFAULT);
        write(&default, &format!("{name}\n")).map_err(|error| failed(&default, &error))?;
        Ok(Written { file, replaced: other.map(|other| other.endpoints.join(", ")) })
    }

    /// Writes it to a file, which only its owner reads.
    pub(super) fn write_to(&self, file: &Path, origin: &str) -> Result<(), CliError> {
        write(file, &self.text(origin))
            .map_err(|error| CliError::failed(format!("cannot write {}: {error}", file.display())))
    }

    fn text(&self, origin: &str) -> String {
        // A JSON string is a YAML double-quoted scalar.
        let quoted = |text: String| serde_json::Value::String(text).to_string();
        let mut text = format!("# How the command line reaches {origin}.\nendpoints:\n");
        for endpoint in &self.endpoints {
            text += &format!("  - {}\n", quoted(endpoint.clone()));
        }
        let path = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
        let keys = [
            ("cacert", path(&self.cacert)),
            ("fingerprint", self.fingerprint.map(|fingerprint| fingerprint.to_string())),
            ("cert", path(&self.cert)),
            ("key", path(&self.key)),
            ("token", path(&self.token)),
        ];
        for (key, value) in keys {
            text += &value.map_or(String::new(), |value| format!("{key}: {}\n", quoted(value)));
        }
        text
    }
}

/// Where profiles lie; none where the environment names no home.
fn folder() -> Option<PathBuf> {
    let named = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let absolute = |value| Some(PathBuf::from(value)).filter(|path: &PathBuf| path.is_absolute());
    if let Some(folder) = named("KONSEN_PROFILES") {
        return Some(PathBuf::from(folder));
    }
    // One that is relative is to be ignored.
    let config = named("XDG_CONFIG_HOME").and_then(absolute);
    let config = config.or_else(|| Some(PathBuf::from(named("HOME")?).join(".config")))?;
    Some(config.join("konsen"))
}

fn no_folder() -> CliError {
    CliError::usage("there is no place for profiles: neither KONSEN_PROFILES nor HOME is set")
}

/// The names of all profiles, in order.
fn names(folder: &Path) -> Result<Vec<String>, CliError> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied
            ) =>
        {
            return Ok(Vec::new());
        }
        Err(error) => {
            return Err(CliError::usage(format!("cannot read {}: {error}", folder.display())));
        }
    };
    let name = |entry: fs::DirEntry| {
        let name = entry.file_name().into_string().ok()?;
        Some(name.strip_suffix(EXTENSION)?.strip_suffix('.')?.to_owned())
    };
    let mut names: Vec<String> = entries.flatten().filter_map(name).collect();
    names.sort();
    Ok(names)
}

fn listed(names: &[String]) -> String {
    let shown = names.iter().take(LISTED_MAX).map(String::as_str).collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(LISTED_MAX) {
        0 => shown,
        more => format!("{shown}, and {more} more"),
    }
}

fn read_bounded(file: &Path) -> io::Result<String> {
    use io::Read;
    let mut text = String::new();
    fs::File::open(file)?.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(io::Error::other("is larger than 64 KiB, which no profile is"));
    }
    Ok(text)
}

/// The file comes into being with its mode, under another name; it gets its own name when it is whole.
fn write(file: &Path, text: &str) -> io::Result<()> {
    let mut part = file.as_os_str().to_owned();
    part.push(format!(".{:016x}.tmp", rand::random::<u64>()));
    let part = PathBuf::from(part);
    let mut options = OpenOptions::new();
    let opened = options.write(true).create_new(true).mode(0o600).open(&part);
    let written = opened
        .and_then(|mut out| out.write_all(text.as_bytes()))
        .and_then(|()| fs::rename(&part, file));
    if written.is_err() {
        // It may not even be there.
        let _ = fs::remove_file(&part);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given() -> Connection {
        Connection::to(Vec::new(), std::time::Duration::from_secs(1))
    }

    fn whole() -> Profile {
        Profile {
            endpoints: vec!["https://h1:1".to_owned(), "https://[::1]:2".to_owned()],
            cacert: Some("/a/ca.crt".into()),
            fingerprint: Some("ab".repeat(32).parse().unwrap()),
            cert: Some("/a b/\"admin\".crt".into()),
            key: Some("/a/admin.key".into()),
            token: None,
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("konsen.yml");
        whole().write_to(&file, "the cluster konsen").unwrap();
        assert_eq!(Profile::read(&file).unwrap(), whole());
        assert_eq!(Profile::named(file.to_str().unwrap()).unwrap(), whole());
        for (text, part) in [
            ("endpoint: x\n", "endpoint"),
            ("fingerprint: abc\n", "not a fingerprint"),
            ("endpoints: x\n", "line 1"),
        ] {
            fs::write(&file, text).unwrap();
            let error = Profile::read(&file).unwrap_err().to_string();
            assert!(error.contains(part) && error.contains("konsen.yml"), "{error}");
        }
    }

    #[test]
    fn what_is_given_counts_more_and_trust_and_identity_go_as_a_whole() {
        let all = whole().complete(given());
        assert_eq!(
            (all.endpoints.len(), all.cert.is_some(), all.fingerprint.is_some()),
            (2, true, true)
        );
        let other = Connection {
            endpoints: vec!["https://other:1".to_owned()],
            cacert: Some("/b/ca.crt".into()),
            token: Some("/b/token".into()),
            ..given()
        };
        let all = whole().complete(other);
        assert_eq!(all.endpoints, ["https://other:1"]);
        assert_eq!((all.fingerprint, all.cert, all.key), (None, None, None));
        assert_eq!(all.token.as_deref(), Some(Path::new("/b/token")));
    }
}
