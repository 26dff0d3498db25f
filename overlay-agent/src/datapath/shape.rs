//! Whether the maps that are pinned are the ones that the object was built for. The loader
//! reuses a pinned map of any shape without a word, and programs would read beyond its values.

use std::fmt;

use aya::maps::{MapError, MapInfo};
use aya::sys::SyscallError;
use aya_obj::Object;
use overlay_common::maps::ALL;

use super::error::DatapathError;
use super::paths::Paths;
use super::tables::TablesError;

/// The programs do not write the map.
const BPF_F_RDONLY_PROG: u32 = 1 << 7;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shape {
    kind: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    flags: u32,
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "type {}, key {} bytes, value {} bytes, {} entries, flags {:#x}",
            self.kind, self.key_size, self.value_size, self.max_entries, self.flags
        )
    }
}

/// Compares every pinned map with the object's definition.
pub(super) fn check(object: &[u8], paths: &Paths) -> Result<(), DatapathError> {
    let object = Object::parse(object).map_err(|error| DatapathError::Object(Box::new(error)))?;
    for name in ALL {
        let path = paths.map(name);
        let (Some(found), Some(map)) = (pinned(paths, name)?, object.maps.get(name)) else {
            continue;
        };
        let wanted = Shape {
            kind: map.map_type(),
            key_size: map.key_size(),
            value_size: map.value_size(),
            max_entries: map.max_entries(),
            flags: map.map_flags(),
        };
        if found != wanted {
            return Err(DatapathError::Shape {
                path,
                found: found.to_string(),
                wanted: wanted.to_string(),
            });
        }
    }
    Ok(())
}

fn pinned(paths: &Paths, name: &'static str) -> Result<Option<Shape>, TablesError> {
    let failed = |source| TablesError::Open {
        path: paths.map(name),
        source: Box::new(source),
    };
    let info = match MapInfo::from_pin(paths.map(name)) {
        Ok(info) => info,
        Err(MapError::SyscallError(SyscallError { io_error, .. }))
            if io_error.kind() == std::io::ErrorKind::NotFound =>
        {
            return Ok(None);
        }
        Err(error) => return Err(failed(error)),
    };
    let kind = info.map_type().map_err(failed)?;
    Ok(Some(Shape {
        kind: kind as u32,
        key_size: info.key_size(),
        value_size: info.value_size(),
        max_entries: info.max_entries(),
        // The kernel adds it to maps of devices by itself.
        flags: info.map_flags() & !BPF_F_RDONLY_PROG,
    }))
}
