//! The section `audit`. Each of its bounds leaves a node that can record something, on a disk that somebody may have.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::super::file;
use super::super::{AuditConfig, ConfigError, OnFailure};
use super::{Check, GIB, show_duration};

const FILE_SIZES: RangeInclusive<u64> = (64 << 10)..=16 * GIB;
const KEEP: RangeInclusive<u64> = 2..=100_000;
const QUEUE_SIZES: RangeInclusive<u64> = (256 << 10)..=GIB;
const ANCHOR_TIMES: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(3600);

impl Check<'_> {
    pub(super) fn audit(&self, audit: &file::Audit) -> Result<AuditConfig, ConfigError> {
        let defaults = AuditConfig::default();
        let keep = self.number("audit.keep", audit.keep.as_ref(), defaults.keep as u64, &KEEP)?;
        let key = "audit.anchor";
        let anchor = self.duration(key, audit.anchor.as_ref(), defaults.anchor)?;
        let line = audit.anchor.as_ref().map(|text| text.referenced.line());
        self.in_range(key, line, anchor, &ANCHOR_TIMES, show_duration)?;
        let reads = match &audit.reads {
            None => defaults.reads,
            text => self.flag("audit.reads", text.as_ref())?,
        };
        Ok(AuditConfig {
            on: self.flag("audit.on", audit.on.as_ref())?,
            reads,
            file: self.size("audit.file", audit.file.as_ref(), defaults.file, &FILE_SIZES)?,
            keep: usize::try_from(keep).unwrap_or(usize::MAX),
            queue: self.size("audit.queue", audit.queue.as_ref(), defaults.queue, &QUEUE_SIZES)?,
            anchor,
            on_failure: self.on_failure(audit)?,
        })
    }

    fn on_failure(&self, audit: &file::Audit) -> Result<OnFailure, ConfigError> {
        let Some(text) = &audit.on_failure else { return Ok(OnFailure::default()) };
        match text.value.as_str() {
            OnFailure::REFUSE => Ok(OnFailure::Refuse),
            OnFailure::GO_ON => Ok(OnFailure::GoOn),
            other => {
                let problem =
                    format!("{other:?} is neither {} nor {}", OnFailure::REFUSE, OnFailure::GO_ON);
                Err(self.wrong("audit.onFailure", Some(text.referenced.line()), problem))
            }
        }
    }
}
