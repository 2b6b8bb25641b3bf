//! cluster.yml, from any bytes.

use std::path::Path;

use super::Config;

/// Text is refused or means a configuration, which is shown as text that means the same.
pub fn cluster_yml(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let file = Path::new("/conf/cluster.yml");
    for name in [None, Some("node1")] {
        match Config::parse(file, text, name) {
            Ok(config) => {
                let shown = config.to_yaml();
                let again = Config::parse(file, &shown, None).expect("what it was shown as");
                assert_eq!(again.to_yaml(), shown);
            }
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
}
