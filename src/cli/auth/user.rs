//! `konsen auth user`.

use super::show;
use crate::api::UserJson;
use crate::cli::remote::{Connection, Format};
use crate::cli::{CliError, print_made};

/// Users, and the roles that they have
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

/// List all users
#[derive(Clone, Debug, clap::Args)]
struct List {
    /// How to print them.
    #[arg(short, long, value_enum, default_value = "table")]
    output: Format,
    #[command(flatten)]
    connection: Connection,
}

/// Set a user, with all roles that it is to have
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Example:\n  konsen auth user set alice --role app --role reader")]
struct Set {
    /// The user's name, as its certificate states it: a-z, 0-9 and -.
    name: String,
    /// A role that it has; again for each. Roles that are not named are taken away.
    #[arg(long, value_name = "ROLE")]
    role: Vec<String>,
    #[command(flatten)]
    connection: Connection,
}

/// Delete a user, with all its tokens
#[derive(Clone, Debug, clap::Args)]
struct Delete {
    /// The user's name.
    name: String,
    #[command(flatten)]
    connection: Connection,
}

impl Args {
    pub(super) async fn run(self) -> Result<(), CliError> {
        match self.command {
            Command::List(List { output, connection }) => {
                let users = connection.client()?.users().await?;
                show(output, &users, &["USER", "ROLES"], |user| {
                    vec![user.name.clone().unwrap_or_default(), user.roles.join(", ")]
                })
            }
            Command::Set(Set { name, role, connection }) => {
                let user = UserJson { name: None, roles: role };
                connection.client()?.put_user(&name, &user).await?;
                let roles =
                    if user.roles.is_empty() { "none".to_owned() } else { user.roles.join(", ") };
                print_made(&format!("the user {name} has the roles: {roles}\n"))
            }
            Command::Delete(Delete { name, connection }) => {
                connection.client()?.delete_access("users", &name).await?;
                print_made(&format!("the user {name} is deleted, with all its tokens\n"))
            }
        }
    }
}
