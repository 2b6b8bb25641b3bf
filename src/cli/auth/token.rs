//! `konsen auth token`.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::show;
use crate::api::NewTokenJson;
use crate::cli::remote::{Connection, Format, print, print_json};
use crate::cli::{CliError, print_made};

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
access control on, for good; it has to be one of the user admin.")]
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
        // What cannot be kept is not made.
        let kept = out.map(|out| Kept::new(&out).map(|file| (out, file))).transpose()?;
        let told = client.put_token(&name, &NewTokenJson { user, ttl }).await?;
        let secret = told.token.clone().unwrap_or_default();
        let made = format!("the token {name} is made");
        match kept {
            Some((out, kept)) => {
                kept.fill(&secret).map_err(|error| error.although(&made))?;
                print_made(&format!("{made}; it is in {}\n", out.display()))
            }
            None => match output {
                Format::Json => print_json(&told),
                Format::Raw | Format::Table => print(format!("{secret}\n").as_bytes()),
            }
            .map_err(|error| error.although(&made)),
        }
    }
}

/// A file for a token, which is removed if none comes.
struct Kept {
    path: PathBuf,
    file: Option<std::fs::File>,
}

impl Kept {
    fn new(path: &Path) -> Result<Kept, CliError> {
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
        let file = file.map_err(|error| {
            CliError::failed(format!(
                "cannot make {}: {error}; nothing was changed",
                path.display()
            ))
        })?;
        Ok(Kept { path: path.to_path_buf(), file: Some(file) })
    }

    fn fill(mut self, secret: &str) -> Result<(), CliError> {
        let Some(mut file) = self.file.take() else { return Ok(()) };
        let written =
            file.write_all(format!("{secret}\n").as_bytes()).and_then(|()| file.sync_all());
        written.map_err(|error| {
            CliError::failed(format!("cannot write {}: {error}", self.path.display()))
                .hint("make the token again: the one that was made is told nobody any more")
        })
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        if self.file.is_some() {
            // Nothing is in it.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}
