//! `konsen auth`: who may do what.

mod question;
mod role;
mod token;
mod user;

use super::CliError;
use super::remote::{Connection, Format, print, print_json};
use crate::api::WhoamiJson;

/// Decide who may do what
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  konsen auth role set app --allow read,write,watch=app/
  konsen auth user set alice --role app
  konsen auth token create laptop --user alice --ttl 30d --out alice.token
  konsen auth can write app/config --user alice

A client certificate (`konsen cert client alice`) says who asks as well as a token does. Where neither
certificates are asked for nor a token was ever made, everybody may do everything.")]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum Command {
    Whoami(Whoami),
    Can(question::Can),
    User(user::Args),
    Role(role::Args),
    Token(token::Args),
}

/// Who the cluster takes you for
#[derive(Clone, Debug, clap::Args)]
struct Whoami {
    /// How to print it.
    #[arg(short, long, value_enum, default_value = "table")]
    output: Format,
    #[command(flatten)]
    connection: Connection,
}

/// Runs the command.
pub async fn run(args: Args) -> Result<(), CliError> {
    match args.command {
        Command::Whoami(args) => whoami(args).await,
        Command::Can(args) => args.run().await,
        Command::User(args) => args.run().await,
        Command::Role(args) => args.run().await,
        Command::Token(args) => args.run().await,
    }
}

async fn whoami(args: Whoami) -> Result<(), CliError> {
    let now = args.connection.client()?.whoami().await?;
    match args.output {
        Format::Json => print_json(&now),
        Format::Raw => print(format!("{}\n", now.name.as_deref().unwrap_or(&now.kind)).as_bytes()),
        Format::Table => print(in_words(&now).as_bytes()),
    }
}

fn in_words(now: &WhoamiJson) -> String {
    match &now.name {
        None if !now.access_control => {
            "anybody: this cluster asks nobody who they are, and everybody may do everything\n"
                .to_owned()
        }
        None => "anybody\n".to_owned(),
        Some(name) if now.kind == "user" => {
            let roles = if now.roles.is_empty() { "none".to_owned() } else { now.roles.join(", ") };
            format!("the user {name}, with the roles: {roles}\n")
        }
        Some(name) => format!("the {} {name}\n", now.kind),
    }
}

/// What a list prints: a table, objects, or names alone.
fn show<T: serde::Serialize>(
    format: Format,
    all: &[T],
    names: &[&str],
    row: impl Fn(&T) -> Vec<String>,
) -> Result<(), CliError> {
    match format {
        Format::Json => all.iter().try_for_each(print_json),
        Format::Raw => {
            let first = |one: &T| row(one).into_iter().next().unwrap_or_default() + "\n";
            print(all.iter().map(first).collect::<String>().as_bytes())
        }
        Format::Table => {
            let head = names.iter().map(|name| (*name).to_owned()).collect();
            let rows: Vec<Vec<String>> = std::iter::once(head).chain(all.iter().map(row)).collect();
            print(super::remote::columns(&rows).as_bytes())
        }
    }
}
