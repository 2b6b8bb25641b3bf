//! `konsen cert revoke` and `konsen cert revoked`: certificates that open nothing any more.

use std::path::Path;

use clap::Args as ClapArgs;

use super::super::output::say;
use super::super::remote::{Connection, Format, columns, print, print_json};
use crate::api::RevokedJson;
use crate::cli::CliError;
use crate::kv::Serial;
use crate::pki::{not_after_rfc3339, read_certificates, serial_of};

/// Have a certificate open nothing any more
///
/// Of a client or of a node; at once, at every node that hears the others: its connections are closed, and it makes none any
/// more. A node is cut off from its peers so; put it out as well (`konsen member remove`). It is kept in mind until
/// the certificate ends. That of a user's other certificates and tokens does not change: `konsen auth user delete` ends all.
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Examples:\n  konsen cert revoke certs/alice.crt\n  konsen cert revoke 5f2e…  (`konsen cert show` prints it)\n  konsen cert revoke --undo certs/alice.crt"
)]
pub(super) struct Revoke {
    /// The certificate's file, or its serial number in hexadecimal
    #[arg(value_name = "FILE|SERIAL")]
    which: String,
    /// Until when to keep it in mind, RFC 3339; if not given the end of the certificate in the file, or else of the authority
    #[arg(long, value_name = "TIME", conflicts_with = "undo")]
    until: Option<String>,
    /// Have it open again what it did
    #[arg(long)]
    undo: bool,
    #[command(flatten)]
    connection: Connection,
}

/// List the certificates that open nothing any more
#[derive(Debug, ClapArgs)]
#[command(after_help = "Example:\n  konsen cert revoked")]
pub(super) struct Revoked {
    /// How to print them.
    #[arg(short, long, value_enum, default_value = "table")]
    output: Format,
    #[command(flatten)]
    connection: Connection,
}

impl Revoke {
    pub(super) async fn run(self) -> Result<(), CliError> {
        let (serial, end) = named(&self.which)?;
        let client = self.connection.client()?;
        if self.undo {
            client.delete_access("revoked", &serial.to_string()).await?;
            say(&format!("{serial} opens again what it did\n"));
            return Ok(());
        }
        client.revoke(&serial.to_string(), self.until.or(end)).await?;
        say(&format!("{serial} opens nothing any more\n"));
        Ok(())
    }
}

/// The serial number that is given, or that of the certificate in the file, with its end.
fn named(which: &str) -> Result<(Serial, Option<String>), CliError> {
    let file = Path::new(which);
    if !file.exists() {
        let serial = which.parse::<Serial>().map_err(|error| {
            CliError::usage(format!("{which}: is neither a file nor a serial number: {error}"))
        })?;
        return Ok((serial, None));
    }
    let all = read_certificates(file)?;
    // There is at least one, and the first is whose file it is.
    let Some(leaf) = all.first() else {
        return Err(CliError::failed(format!("{which}: holds no certificate")));
    };
    let serial = Serial::new(&serial_of(leaf)?)
        .map_err(|error| CliError::failed(format!("{which}: {error}")))?;
    Ok((serial, Some(not_after_rfc3339(leaf)?)))
}

impl Revoked {
    pub(super) async fn run(self) -> Result<(), CliError> {
        let all = self.connection.client()?.revoked().await?;
        let serial = |one: &RevokedJson| one.serial.clone().unwrap_or_default();
        match self.output {
            Format::Json => all.iter().try_for_each(print_json),
            Format::Raw => {
                let lines = all.iter().map(|one| serial(one) + "\n");
                print(lines.collect::<String>().as_bytes())
            }
            Format::Table => {
                let head = vec!["SERIAL".to_owned(), "UNTIL".to_owned()];
                let row = |one| vec![serial(one), one.until.clone().unwrap_or_default()];
                let rows: Vec<_> = std::iter::once(head).chain(all.iter().map(row)).collect();
                print(columns(&rows).as_bytes())
            }
        }
    }
}
