//! The configuration file: TOML whose keys are the flags' names.

use std::io::ErrorKind;
use std::path::Path;

use super::{ConfigError, Settings};

/// Read when no other file is named; it may be missing.
pub const DEFAULT_FILE: &str = "/etc/overlay/config.toml";

pub(super) fn read(path: &Path) -> Result<Settings, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
        path: path.to_owned(),
        source,
    })?;
    parse(path, &text)
}

pub(super) fn read_if_there(path: &Path) -> Result<Settings, ConfigError> {
    match read(path) {
        Err(ConfigError::Read { source, .. }) if source.kind() == ErrorKind::NotFound => {
            Ok(Settings::default())
        }
        other => other,
    }
}

pub(super) fn parse(path: &Path, text: &str) -> Result<Settings, ConfigError> {
    let refused = |line, message: String| ConfigError::Content {
        path: path.to_owned(),
        line,
        message,
    };
    let settings: Settings = toml::from_str(text).map_err(|error| {
        let start = error.span().map_or(0, |span| span.start.min(text.len()));
        let line = text.as_bytes()[..start]
            .iter()
            .filter(|byte| **byte == b'\n')
            .count();
        refused(line + 1, one_line(error.message()))
    })?;
    let (port, ttl) = (
        settings.port.map(u32::from),
        settings.outer_ttl.map(u32::from),
    );
    for (key, value, least, range) in [
        ("port", port, 1, "from 1 to 65535"),
        ("outer-ttl", ttl, 1, "from 1 to 255"),
        ("node-grace", settings.node_grace, 10, "of at least 10"),
    ] {
        if let Some(value) = value.filter(|value| *value < least) {
            let line = text
                .lines()
                .position(|line| line.trim_start().starts_with(key));
            return Err(refused(
                line.map_or(1, |line| line + 1),
                format!("{key} {value} is too small: a number {range} is wanted"),
            ));
        }
    }
    Ok(settings)
}

fn one_line(message: &str) -> String {
    message.split_whitespace().collect::<Vec<_>>().join(" ")
}
