//! Where requests go: the endpoints, and connections to them.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::HeaderValue;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::wire::Wire;
use crate::cli::CliError;
use crate::cli::remote::Connection;
use crate::client;

/// How long a connection may take to be made.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(3);

/// An endpoint.
#[derive(Clone)]
pub(super) struct Target {
    pub(super) url: String,
    host: String,
    port: u16,
    /// Ends in a slash.
    pub(super) path: String,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    authorization: Option<String>,
}

impl Target {
    /// All endpoints, in order.
    pub(super) fn all(connection: &Connection) -> Result<Vec<Target>, CliError> {
        let options = connection.options()?;
        let connector = TlsConnector::from(Arc::new(client::tls_config(&options.tls)?));
        let authorization = options.token.as_deref().map(client::authorization).transpose()?;
        let new = |text: &String| Target::new(text, &connector, authorization.as_ref());
        options.endpoints.iter().map(new).collect()
    }

    fn new(
        text: &str,
        connector: &TlsConnector,
        authorization: Option<&HeaderValue>,
    ) -> Result<Target, CliError> {
        let url = client::endpoint(text)?;
        if authorization.is_some() {
            client::check_token_endpoint(&url)?;
        }
        let usage = |what| CliError::usage(format!("{text:?} {what}"));
        let bracketed = url.host_str().ok_or_else(|| usage("has no host"))?;
        let host = bracketed.trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = url.port_or_known_default().ok_or_else(|| usage("has no port"))?;
        let tls = match url.scheme() {
            "https" => {
                let name = ServerName::try_from(host.clone());
                let name = name.map_err(|_| usage("has a host that no certificate can name"))?;
                Some((connector.clone(), name))
            }
            _ => None,
        };
        let path = url.path().to_owned();
        let url = url.as_str().trim_end_matches('/').to_owned();
        // A token is made of what can be seen in ASCII.
        let authorization = authorization.and_then(|value| value.to_str().ok()).map(str::to_owned);
        Ok(Target { url, host, port, path, tls, authorization })
    }

    /// What a request names its server by.
    fn authority(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }

    /// The fields of each request that say who is asked, and who asks.
    pub(super) fn fields(&self) -> String {
        let authorization = self.authorization.as_ref();
        let authorization = authorization.map(|value| format!("authorization: {value}\r\n"));
        format!("host: {}\r\n{}", self.authority(), authorization.unwrap_or_default())
    }

    /// A new connection.
    pub(super) async fn connect(&self) -> io::Result<Wire> {
        let connecting = tokio::time::timeout(CONNECT_TIME_MAX, self.try_connect());
        connecting.await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    async fn try_connect(&self) -> io::Result<Wire> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
        stream.set_nodelay(true)?;
        Ok(match &self.tls {
            None => Wire::new(Box::new(stream)),
            Some((connector, name)) => {
                Wire::new(Box::new(connector.connect(name.clone(), stream).await?))
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_those_of_the_client() {
        let connection =
            |endpoint: &str| Connection::to(vec![endpoint.to_owned()], Duration::from_secs(1));
        let one = |endpoint: &str| Target::all(&connection(endpoint)).map(|mut all| all.remove(0));
        let target = one("127.0.0.1:20001").unwrap_or_else(|error| panic!("{error}"));
        assert_eq!((target.authority().as_str(), target.path.as_str()), ("127.0.0.1:20001", "/"));
        let target = one("https://[::1]:1/a").unwrap_or_else(|error| panic!("{error}"));
        assert_eq!((target.authority().as_str(), target.path.as_str()), ("[::1]:1", "/a/"));
        assert!(target.tls.is_some());
        assert!(one("ftp://h:1").is_err());
    }
}
