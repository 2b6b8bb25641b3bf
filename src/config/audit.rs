//! The section `audit`: what a node records of who asked for what.

use std::fmt::Write;
use std::time::Duration;

use super::check::show_duration;
use super::show::size;

/// What is recorded, where it goes, and what happens if that cannot be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditConfig {
    /// Whether anything is.
    pub on: bool,
    /// Whether reads are, too.
    pub reads: bool,
    /// How large a file becomes, in bytes. 64 KiB to 16 GiB.
    pub file: u64,
    /// How many files are kept. 2 to 100,000.
    pub keep: usize,
    /// What may wait to be written, in bytes. 256 KiB to 1 GiB.
    pub queue: u64,
    /// How often the last record is anchored in the cluster's state, if there are new ones. 1 s to 1 h.
    pub anchor: Duration,
    /// What happens to requests that cannot be recorded.
    pub on_failure: OnFailure,
}

/// What happens to requests that cannot be recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnFailure {
    /// They are refused.
    #[default]
    Refuse,
    /// They are carried out, and counted.
    GoOn,
}

impl OnFailure {
    pub(super) const REFUSE: &'static str = "refuse";
    pub(super) const GO_ON: &'static str = "go-on";

    fn name(self) -> &'static str {
        match self {
            OnFailure::Refuse => OnFailure::REFUSE,
            OnFailure::GoOn => OnFailure::GO_ON,
        }
    }
}

impl Default for AuditConfig {
    fn default() -> AuditConfig {
        AuditConfig {
            on: false,
            reads: true,
            file: 64 << 20,
            keep: 16,
            queue: 16 << 20,
            anchor: Duration::from_secs(60),
            on_failure: OnFailure::Refuse,
        }
    }
}

impl AuditConfig {
    /// As YAML.
    pub(super) fn write_yaml(&self, out: &mut String) -> std::fmt::Result {
        writeln!(out, "audit:")?;
        writeln!(out, "  on: {}", self.on)?;
        writeln!(out, "  reads: {}", self.reads)?;
        writeln!(out, "  file: {}", size(self.file))?;
        writeln!(out, "  keep: {}", self.keep)?;
        writeln!(out, "  queue: {}", size(self.queue))?;
        writeln!(out, "  anchor: {}", show_duration(self.anchor))?;
        writeln!(out, "  onFailure: {}", self.on_failure.name())
    }
}
