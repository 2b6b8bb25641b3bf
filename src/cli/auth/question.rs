//! `konsen auth can`.

use clap::ValueEnum;

use crate::api::{CanJson, KeysJson};
use crate::cli::remote::Connection;
use crate::cli::{CliError, Exit, print_text};

/// Ask whether somebody may do something
///
/// It prints yes or no, and exits with 7 for no.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  konsen auth can read app/config
  konsen auth can write app/ --prefix --user alice
  konsen auth can admin members")]
pub(super) struct Can {
    /// What.
    what: What,
    /// Which key, or what to administer: members, leader, backup, compact, auth, audit.
    of: String,
    /// All keys that begin so, rather than one.
    #[arg(long)]
    prefix: bool,
    /// Of somebody else: for those who may see who may do what.
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum What {
    /// To be told what a key is and was.
    Read,
    /// To set and delete it.
    Write,
    /// To wait for its changes.
    Watch,
    /// To administer the cluster.
    Admin,
}

impl Can {
    pub(super) async fn run(self) -> Result<(), CliError> {
        let Can { what, of, prefix, user, connection } = self;
        if what == What::Admin && prefix {
            return Err(CliError::new(
                Exit::Usage,
                "--prefix is of keys, not of what is administered",
            ));
        }
        let may = what.to_possible_value().map(|value| value.get_name().to_owned());
        let question = match what {
            What::Admin => CanJson { user, admin: Some(of), ..CanJson::default() },
            _ => {
                let (key, prefix) = if prefix { (None, Some(of)) } else { (Some(of), None) };
                let keys = KeysJson { key, prefix, ..KeysJson::default() };
                CanJson { user, may, keys, admin: None }
            }
        };
        let allowed = connection.client()?.can(&question).await?;
        print_text(if allowed { "yes\n" } else { "no\n" })?;
        match allowed {
            true => Ok(()),
            false => Err(CliError::new(Exit::NotAllowed, "that is not allowed")),
        }
    }
}
