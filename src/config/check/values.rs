//! One value of the file: parsed, and in its range; or else what is wrong with it, and where. All sections are made of
//! these, so that a size or a time is written and refused alike wherever it stands.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use bytesize::ByteSize;

use super::super::ConfigError;
use super::super::file::Text;
use super::Check;

impl Check<'_> {
    pub(super) fn size(
        &self,
        key: &str,
        text: Option<&Text>,
        default: u64,
        range: &RangeInclusive<u64>,
    ) -> Result<u64, ConfigError> {
        let Some(text) = text else { return Ok(default) };
        let line = Some(text.referenced.line());
        let size = ByteSize::from_str(&text.value).map_err(|_| {
            self.wrong(key, line, format!("{:?} is not a size, as in 1MiB", text.value))
        })?;
        self.in_range(key, line, size.0, range, |size| ByteSize(size).to_string())?;
        Ok(size.0)
    }

    pub(super) fn number(
        &self,
        key: &str,
        text: Option<&Text>,
        default: u64,
        range: &RangeInclusive<u64>,
    ) -> Result<u64, ConfigError> {
        let Some(text) = text else { return Ok(default) };
        let line = Some(text.referenced.line());
        let number: u64 = text.value.parse().map_err(|_| {
            let problem = format!("{:?} is not a whole number, as in {default}", text.value);
            self.wrong(key, line, problem)
        })?;
        self.in_range(key, line, number, range, |number| number.to_string())?;
        Ok(number)
    }

    pub(super) fn duration(
        &self,
        key: &str,
        text: Option<&Text>,
        default: Duration,
    ) -> Result<Duration, ConfigError> {
        let Some(text) = text else { return Ok(default) };
        humantime::parse_duration(&text.value).map_err(|_| {
            let problem = format!("{:?} is not a time, as in 50ms or 2s", text.value);
            self.wrong(key, Some(text.referenced.line()), problem)
        })
    }

    pub(super) fn flag(&self, key: &str, text: Option<&Text>) -> Result<bool, ConfigError> {
        let Some(text) = text else { return Ok(false) };
        match text.value.as_str() {
            "true" => Ok(true),
            "false" => Ok(false),
            other => Err(self.wrong(
                key,
                Some(text.referenced.line()),
                format!("{other:?} is neither true nor false"),
            )),
        }
    }

    pub(super) fn path(
        &self,
        key: &str,
        text: Option<&Text>,
        default: &str,
    ) -> Result<PathBuf, ConfigError> {
        let path = text.map_or(default, |text| text.value.as_str());
        if path.is_empty() {
            let line = text.map(|text| text.referenced.line());
            return Err(self.wrong(
                key,
                line,
                format!("the path is empty; {default} is the default"),
            ));
        }
        let folder = self.file.parent().unwrap_or(Path::new(""));
        Ok(folder.join(path))
    }

    pub(super) fn parsed<T: FromStr<Err: ToString>>(
        &self,
        key: &str,
        text: &Text,
    ) -> Result<T, ConfigError> {
        text.value.parse().map_err(|error: T::Err| {
            self.wrong(key, Some(text.referenced.line()), error.to_string())
        })
    }

    pub(super) fn parsed_default<T: FromStr<Err: ToString>>(
        &self,
        key: &str,
        text: &str,
    ) -> Result<T, ConfigError> {
        text.parse().map_err(|error: T::Err| self.wrong(key, None, error.to_string()))
    }

    pub(super) fn in_range<T: Copy + PartialOrd>(
        &self,
        key: &str,
        line: Option<u64>,
        value: T,
        range: &RangeInclusive<T>,
        show: impl Fn(T) -> String,
    ) -> Result<(), ConfigError> {
        if range.contains(&value) {
            return Ok(());
        }
        let problem = format!(
            "{} is out of range; give {} to {}",
            show(value),
            show(*range.start()),
            show(*range.end())
        );
        Err(self.wrong(key, line, problem))
    }

    pub(super) fn wrong(&self, key: &str, line: Option<u64>, problem: String) -> ConfigError {
        ConfigError::Value { file: self.file.to_path_buf(), line, key: key.to_owned(), problem }
    }
}
