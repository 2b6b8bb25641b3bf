//! The nodes that the file names, and which of them this one is. Checked together, since an address is wrong only beside
//! another, and a name only if the others do not have it.

use std::collections::BTreeMap;
use std::str::FromStr;

use super::super::file::Text;
use super::super::{ConfigError, Host, HostPort, NodeName};
use super::Check;

impl Check<'_> {
    pub(super) fn addresses(
        &self,
        key: &str,
        map: Option<BTreeMap<String, Text>>,
    ) -> Result<BTreeMap<NodeName, (u64, HostPort)>, ConfigError> {
        let map = map.filter(|map| !map.is_empty()).ok_or_else(|| {
            let problem =
                "is missing; it gives each node's address, as in `node1: 192.168.1.10:10001`";
            self.wrong(key, None, problem.to_owned())
        })?;
        let mut addresses = BTreeMap::new();
        for (name, text) in map {
            let line = text.referenced.line();
            let key = format!("{key}.{name}");
            let name = NodeName::from_str(&name)
                .map_err(|error| self.wrong(&key, Some(line), error.to_string()))?;
            let address: HostPort = self.parsed(&key, &text)?;
            if address.port() == 0 {
                let problem = format!("{address} has the port 0; give one from 1 to 65535");
                return Err(self.wrong(&key, Some(line), problem));
            }
            addresses.insert(name, (line, address));
        }
        Ok(addresses)
    }

    pub(super) fn same_names(
        &self,
        servers: &BTreeMap<NodeName, (u64, HostPort)>,
        http_servers: &BTreeMap<NodeName, (u64, HostPort)>,
    ) -> Result<(), ConfigError> {
        let check = |key: &str,
                     other: &str,
                     these: &BTreeMap<NodeName, _>,
                     those: &BTreeMap<NodeName, _>| {
            match those.keys().find(|name| !these.contains_key(*name)) {
                None => Ok(()),
                Some(name) => Err(self.wrong(
                    key,
                    None,
                    format!("{name} is in {other} and not here; both need every node"),
                )),
            }
        };
        check("httpServers", "servers", http_servers, servers)?;
        check("servers", "httpServers", servers, http_servers)
    }

    pub(super) fn distinct(
        &self,
        key: &str,
        addresses: &BTreeMap<NodeName, (u64, HostPort)>,
    ) -> Result<(), ConfigError> {
        let mut seen: BTreeMap<&HostPort, &NodeName> = BTreeMap::new();
        // The unspecified address is another one on each host.
        for (name, (line, address)) in addresses.iter().filter(|(_, (_, a))| !a.is_unspecified()) {
            if let Some(other) = seen.insert(address, name) {
                let problem =
                    format!("{address} is also the address of {other}; each node needs its own");
                return Err(self.wrong(&format!("{key}.{name}"), Some(*line), problem));
            }
        }
        Ok(())
    }

    pub(super) fn own_name(
        &self,
        given: Option<&str>,
        local: Option<&Text>,
        servers: &BTreeMap<NodeName, (u64, HostPort)>,
    ) -> Result<NodeName, ConfigError> {
        let given = given.or(local.map(|text| text.value.as_str()));
        match given {
            Some(given) => match servers.get_key_value(given) {
                Some((name, _)) => Ok(name.clone()),
                None => Err(self.no_such_name(given, servers.keys())),
            },
            None => match servers.keys().next() {
                Some(only) if servers.len() == 1 => Ok(only.clone()),
                _ => Err(ConfigError::Name {
                    file: self.file.to_path_buf(),
                    problem: "localServerName does not say which node this is".to_owned(),
                    names: servers.keys().map(ToString::to_string).collect(),
                }),
            },
        }
    }

    pub(super) fn no_such_name<'n>(
        &self,
        name: &str,
        names: impl Iterator<Item = &'n NodeName>,
    ) -> ConfigError {
        ConfigError::Name {
            file: self.file.to_path_buf(),
            problem: format!("there is no node {name:?} in the file"),
            names: names.map(ToString::to_string).collect(),
        }
    }
}

/// Nodes that cannot reach each other: a socket at an IPv4 address sends nothing to IPv6 ones, nor the other way round.
pub(super) fn families(servers: &BTreeMap<NodeName, HostPort>) -> Option<String> {
    let of = |v4: bool| {
        servers.iter().find(|(_, address)| match address.host() {
            Host::Ip(ip) => ip.is_ipv4() == v4,
            Host::Name(_) => false,
        })
    };
    let ((four, v4), (six, v6)) = of(true).zip(of(false))?;
    Some(format!(
        "servers: {four} has the IPv4 address {v4} and {six} the IPv6 address {v6}, and neither reaches the other: give \
         all of one kind, or start each node with --listen '[::]:PORT', which speaks both"
    ))
}
