//! `konsen auth token`.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::show;
use crate::api::{NewTokenJson, TokenJson, new_token, token_hash};
use crate::cli::remote::{Connection, Format, print, print_json};
use crate::cli::{CliError, Exit, print_made};
use crate::client::Outcome;

/// Tokens, by which users show who they are
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum Command {
    List(List),
    Create(Create),
    Delete(Delete),
}

/// List all tokens, without themselves
#[derive(Clone, Debug, clap::Args)]
struct List {
    /// How to print them.
    #[arg(short, long, value_enum, default_value = "table")]
    output: Format,
    #[command(flatten)]
    connection: Connection,
}

/// Make a token, which is shown this once
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  konsen auth token create laptop --user alice --ttl 30d --out alice.token
  konsen get app/config --token alice.token

One of the name before it opens nothing any more. The first token of a cluster without client certificates turns
access control on, for good; it has to be one of the user admin, without an end, and kept in a file (--out).")]
struct Create {
    /// The token's name: a-z, 0-9 and -.
    name: String,
    /// Whose it is.
    #[arg(long, value_name = "NAME")]
    user: String,
    /// How long it opens something; if not given, until it is deleted.
    #[arg(long, value_name = "TIME")]
    ttl: Option<String>,
    /// The file to write it to, for its owner alone; standard output if not given.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// How to print it: raw is the token alone.
    #[arg(short, long, value_enum, default_value = "raw")]
    output: Format,
    #[command(flatten)]
    connection: Connection,
}

/// Delete a token, which opens nothing any more
#[derive(Clone, Debug, clap::Args)]
struct Delete {
    /// The token's name.
    name: String,
    #[command(flatten)]
    connection: Connection,
}

impl Args {
    pub(super) async fn run(self) -> Result<(), CliError> {
        match self.command {
            Command::List(List { output, connection }) => {
                let tokens = connection.client()?.tokens().await?;
                show(output, &tokens, &["TOKEN", "USER", "MADE", "EXPIRES"], |token| {
                    let expires = token.expires.clone().unwrap_or_else(|| "never".to_owned());
                    vec![token.name.clone(), token.user.clone(), token.made.clone(), expires]
                })
            }
            Command::Create(create) => create.run().await,
            Command::Delete(Delete { name, connection }) => {
                connection.client()?.delete_access("tokens", &name).await?;
                print_made(&format!("the token {name} opens nothing any more\n"))
            }
        }
    }
}

impl Create {
    async fn run(self) -> Result<(), CliError> {
        let Create { name, user, ttl, out, output, connection } = self;
        let client = connection.client()?;
        if out.is_none() && !client.whoami().await?.access_control {
            let why = "the first token turns access control on for good, so it has to be kept: name a file for it with --out";
            return Err(CliError::new(Exit::Usage, why));
        }
        // It is made here, and kept before the cluster knows it: no answer that is lost loses it.
        let secret = new_token().ok_or_else(|| {
            CliError::failed("the system gives no random bytes; nothing was changed")
        })?;
        let kept = out.as_deref().map(|out| Kept::new(out, &secret)).transpose()?;
        let sha256 =
            token_hash(secret.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
        let wanted = NewTokenJson { user, ttl, sha256: Some(sha256) };
        let told = match client.put_token(&name, &wanted).await {
            Ok(told) => TokenJson { token: Some(secret.clone()), ..told },
            Err(error) if error.outcome() == Outcome::Unknown => {
                let error = CliError::from(error);
                return Err(match kept {
                    Some(kept) => {
                        let file = kept.keep();
                        error.hint(format!("{} has the token, if it was made", file.display()))
                    }
                    None => error,
                });
            }
            Err(error) => return Err(error.into()),
        };
        let made = format!("the token {name} is made");
        match kept {
            Some(kept) => print_made(&format!("{made}; it is in {}\n", kept.keep().display())),
            None => match output {
                Format::Json => print_json(&told),
                Format::Raw | Format::Table => print(format!("{secret}\n").as_bytes()),
            }
            .map_err(|error| {
                error
                    .although(&made)
                    .hint("make it again under the same name: this one is told nobody any more")
            }),
        }
    }
}

/// A file with a token, which is removed if none comes of it.
struct Kept {
    path: PathBuf,
    keep: bool,
}

impl Kept {
    fn new(path: &Path, secret: &str) -> Result<Kept, CliError> {
        let failed = |error: std::io::Error| {
            let what = format!("cannot write {}: {error}; nothing was changed", path.display());
            match error.kind() {
                ErrorKind::AlreadyExists => CliError::failed(what)
                    .hint("a file that is there is not overwritten: name another, or remove it"),
                _ => CliError::failed(what),
            }
        };
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
        let mut file = file.map_err(failed)?;
        let kept = Kept { path: path.to_path_buf(), keep: false };
        file.write_all(format!("{secret}\n").as_bytes())
            .and_then(|()| file.sync_all())
            .map_err(failed)?;
        Ok(kept)
    }

    fn keep(mut self) -> PathBuf {
        self.keep = true;
        self.path.clone()
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        if !self.keep {
            // What is in it opens nothing.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}
