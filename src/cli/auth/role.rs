//! `konsen auth role`.

use std::path::{Path, PathBuf};

use super::show;
use crate::api::{GrantJson, KeysJson, RoleJson};
use crate::cli::remote::{Connection, Format};
use crate::cli::{CliError, Exit, print_made};

/// The largest file of a role, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Roles, and what their holders may do
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum Command {
    List(List),
    Set(Set),
    Delete(Delete),
}

/// List all roles
#[derive(Clone, Debug, clap::Args)]
struct List {
    /// How to print them.
    #[arg(short, long, value_enum, default_value = "table")]
    output: Format,
    #[command(flatten)]
    connection: Connection,
}

/// Set a role, with all that its holders may do
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  konsen auth role set app --allow read,write,watch=app/ --allow-key read=config
  konsen auth role set operator --admin members --admin leader --admin backup
  konsen auth role set app --file app.json

A file holds what `konsen auth role list -o json` prints of a role: ranges and keys that are no text, too.")]
struct Set {
    /// The role's name: a-z, 0-9 and -.
    name: String,
    /// Rights on all keys that begin so: read, write, watch, with commas between.
    #[arg(long, value_name = "RIGHTS=PREFIX")]
    allow: Vec<String>,
    /// Rights on every key.
    #[arg(long, value_name = "RIGHTS")]
    allow_all: Vec<String>,
    /// Rights on one key.
    #[arg(long, value_name = "RIGHTS=KEY")]
    allow_key: Vec<String>,
    /// What to administer: members, leader, backup, compact, auth, audit; again for each.
    #[arg(long, value_name = "WHAT")]
    admin: Vec<String>,
    /// The role in JSON.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["allow", "allow_all", "allow_key", "admin"])]
    file: Option<PathBuf>,
    #[command(flatten)]
    connection: Connection,
}

/// Delete a role; nobody has it any more
#[derive(Clone, Debug, clap::Args)]
struct Delete {
    /// The role's name.
    name: String,
    #[command(flatten)]
    connection: Connection,
}

impl Args {
    pub(super) async fn run(self) -> Result<(), CliError> {
        match self.command {
            Command::List(List { output, connection }) => {
                let roles = connection.client()?.roles().await?;
                show(output, &roles, &["ROLE", "MAY", "ADMIN"], |role| {
                    let grants: Vec<String> = role.rights.iter().map(in_words).collect();
                    let name = role.name.clone().unwrap_or_default();
                    vec![name, grants.join("; "), role.admin.join(", ")]
                })
            }
            Command::Set(set) => set.run().await,
            Command::Delete(Delete { name, connection }) => {
                connection.client()?.delete_access("roles", &name).await?;
                print_made(&format!("the role {name} is deleted\n"))
            }
        }
    }
}

impl Set {
    async fn run(self) -> Result<(), CliError> {
        let Set { name, allow, allow_all, allow_key, admin, file, connection } = self;
        let role = match file {
            Some(file) => read(&file)?,
            None => {
                let prefixes = allow.iter().map(|text| grant(text, false));
                let keys = allow_key.iter().map(|text| grant(text, true));
                let all = allow_all.iter().map(|may| Ok(of_prefix(may, "")));
                let rights: Vec<_> = prefixes.chain(keys).chain(all).collect::<Result<_, _>>()?;
                if rights.is_empty() && admin.is_empty() {
                    let why = "it would allow nothing: say what with --allow, --allow-all, --allow-key or --admin";
                    return Err(CliError::new(Exit::Usage, why)
                        .hint("`konsen auth role delete` takes a role away"));
                }
                RoleJson { name: None, rights, admin }
            }
        };
        // What the server would say, before it is asked.
        role.role().map_err(|why| CliError::new(Exit::Usage, why))?;
        connection.client()?.put_role(&name, &role).await?;
        print_made(&format!("the role {name} is set\n"))
    }
}

fn grant(text: &str, one_key: bool) -> Result<GrantJson, CliError> {
    let Some((may, keys)) = text.split_once('=') else {
        let wrong = format!("{text:?} does not say which keys: write it as read,write=app/");
        return Err(CliError::new(Exit::Usage, wrong));
    };
    // An unset shell variable must not open all keys.
    if keys.is_empty() {
        let wrong = format!("{text:?} names no keys; --allow-all {may} is for every key");
        return Err(CliError::new(Exit::Usage, wrong));
    }
    Ok(match one_key {
        true => {
            let keys = KeysJson { key: Some(keys.to_owned()), ..KeysJson::default() };
            GrantJson { keys, ..of_prefix(may, "") }
        }
        false => of_prefix(may, keys),
    })
}

fn of_prefix(may: &str, prefix: &str) -> GrantJson {
    let may = may.split(',').map(|right| right.trim().to_owned()).collect();
    GrantJson { keys: KeysJson { prefix: Some(prefix.to_owned()), ..KeysJson::default() }, may }
}

fn read(file: &Path) -> Result<RoleJson, CliError> {
    let unreadable = |why: String| CliError::failed(format!("{}: {why}", file.display()));
    let size = std::fs::metadata(file).map_err(|error| unreadable(error.to_string()))?.len();
    if size > FILE_BYTES_MAX {
        return Err(unreadable(format!("it has {size} bytes; {FILE_BYTES_MAX} are the most")));
    }
    let bytes = std::fs::read(file).map_err(|error| unreadable(error.to_string()))?;
    let role: RoleJson =
        serde_json::from_slice(&bytes).map_err(|error| unreadable(error.to_string()))?;
    Ok(RoleJson { name: None, ..role })
}

fn in_words(grant: &GrantJson) -> String {
    let KeysJson {
        key,
        key_base64,
        prefix,
        prefix_base64,
        start,
        start_base64,
        end,
        end_base64,
        ..
    } = &grant.keys;
    let text = |text: &Option<String>, base64: &Option<String>| match (text, base64) {
        (Some(text), _) => Some(format!("{text:?}")),
        (None, Some(base64)) => Some(format!("base64 {base64}")),
        (None, None) => None,
    };
    let may = grant.may.join(",");
    match (text(key, key_base64), text(prefix, prefix_base64)) {
        (Some(key), _) => format!("{may} {key}"),
        (None, Some(all)) if all == "\"\"" => format!("{may} all keys"),
        (None, Some(prefix)) => format!("{may} {prefix}*"),
        (None, None) => {
            let start = text(start, start_base64).unwrap_or_default();
            let end = text(end, end_base64).map_or("on".to_owned(), |end| format!("to {end}"));
            format!("{may} from {start} {end}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grants_are_rights_and_keys() {
        let of = grant("read, write=app/=x", false).unwrap();
        assert_eq!(of.may, ["read", "write"]);
        assert_eq!(of.keys.prefix.as_deref(), Some("app/=x"));
        assert!(grant("read=", false).is_err() && grant("read=", true).is_err());
        assert_eq!(grant("read=a", true).unwrap().keys.key.as_deref(), Some("a"));
        assert!(grant("read", false).is_err());
        assert_eq!(in_words(&of), "read,write \"app/=x\"*");
    }
}
