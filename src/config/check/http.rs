//! How clients are served. What is not said about TLS goes by the address: where other hosts reach it, it is on.

use std::ops::RangeInclusive;
use std::time::Duration;

use serde_saphyr::Spanned;

use super::super::file::{self, HttpTls, Text};
use super::super::{
    ANY_HOST, ClientAuth, ConfigError, HostPort, HttpConfig, HttpsFiles, plain_warning,
};
use super::{Check, GIB, show_duration};

const RATES: RangeInclusive<u64> = 1..=GIB;
const IDLE_TIMES: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(3600);
const WAIT_TIMES: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(600);

impl Check<'_> {
    pub(super) fn http(
        &self,
        http: file::Http,
        address: &HostPort,
        warnings: &mut Vec<String>,
    ) -> Result<HttpConfig, ConfigError> {
        let (tls, files) = self.https(http.tls.as_ref(), address)?;
        if !tls && !address.is_loopback() {
            warnings.push(plain_warning(address));
        }
        let client_auth = match &http.client_auth {
            None => ClientAuth::default_with(tls),
            Some(text) => self.parsed("http.clientAuth", text)?,
        };
        if !tls && client_auth != ClientAuth::None {
            if client_auth == ClientAuth::Required {
                let line = http.client_auth.map(|text| text.referenced.line());
                let problem = "required works only with `tls: true`".to_owned();
                return Err(self.wrong("http.clientAuth", line, problem));
            }
            warnings.push("http.clientAuth: has no effect without `tls: true`".to_owned());
        }
        let defaults = HttpConfig::default();
        let time = |key: &str, text: &Option<Text>, default, range| {
            let key = format!("http.{key}");
            let time = self.duration(&key, text.as_ref(), default)?;
            let line = text.as_ref().map(|text| text.referenced.line());
            self.in_range(&key, line, time, range, show_duration)?;
            Ok(time)
        };
        let rate = |key: &str, text: &Option<Text>, default| {
            self.size(&format!("http.{key}"), text.as_ref(), default, &RATES)
        };
        Ok(HttpConfig {
            tls,
            files,
            client_auth,
            hosts: self.hosts(http.hosts.as_deref().unwrap_or_default())?,
            idle: time("idle", &http.idle, defaults.idle, &IDLE_TIMES)?,
            head: time("head", &http.head, defaults.head, &WAIT_TIMES)?,
            body: time("body", &http.body, defaults.body, &IDLE_TIMES)?,
            stall: time("stall", &http.stall, defaults.stall, &WAIT_TIMES)?,
            min_rate: rate("minRate", &http.min_rate, defaults.min_rate)?,
            backup_rate: rate("backupRate", &http.backup_rate, defaults.backup_rate)?,
        })
    }

    /// Whether there is TLS, and the files of its own.
    fn https(
        &self,
        tls: Option<&Spanned<HttpTls>>,
        address: &HostPort,
    ) -> Result<(bool, HttpsFiles), ConfigError> {
        let Some(tls) = tls else { return Ok((!address.is_loopback(), HttpsFiles::default())) };
        let key = "http.tls";
        let line = Some(tls.referenced.line());
        let files = match &tls.value {
            HttpTls::Word(word) if word == "true" => return Ok((true, HttpsFiles::default())),
            HttpTls::Word(word) if word == "false" => return Ok((false, HttpsFiles::default())),
            HttpTls::Word(word) => {
                let problem = format!(
                    "{word:?} is neither true nor false, nor a mapping of cert, key and clientAuthority"
                );
                return Err(self.wrong(key, line, problem));
            }
            HttpTls::Files(files) => files,
        };
        if files.cert.is_some() != files.key.is_some() {
            let (there, missing) =
                if files.cert.is_some() { ("cert", "key") } else { ("key", "cert") };
            let problem = format!(
                "{there} is given without {missing}; give both, or neither for the node's own"
            );
            return Err(self.wrong(key, line, problem));
        }
        let path = |name: &str, text: &Option<Text>| {
            let path = |text| self.path(&format!("{key}.{name}"), Some(text), "the node's own");
            text.as_ref().map(path).transpose()
        };
        let files = HttpsFiles {
            cert: path("cert", &files.cert)?,
            key: path("key", &files.key)?,
            client_authority: path("clientAuthority", &files.client_authority)?,
        };
        Ok((true, files))
    }

    fn hosts(&self, hosts: &[Text]) -> Result<Vec<String>, ConfigError> {
        let host = |text: &Text| {
            let name = text.value.to_ascii_lowercase();
            match name.parse::<crate::pki::Host>() {
                Ok(_) => Ok(name),
                Err(_) if name == ANY_HOST => Ok(name),
                Err(_) => {
                    let problem = format!(
                        "{:?} is not a host; give a name without a port, as in kv.example.org, or \"*\" for all",
                        text.value
                    );
                    Err(self.wrong("http.hosts", Some(text.referenced.line()), problem))
                }
            }
        };
        hosts.iter().map(host).collect()
    }
}
