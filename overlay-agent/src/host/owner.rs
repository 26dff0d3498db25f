//! Whose a device is. Every device that the agent makes carries an alias (`ip link` shows it)
//! that names the bpffs directory of the data path it belongs to: several agents can run on one
//! machine, and none touches what it has not made.

use std::path::Path;

/// Marks and recognises the devices of one data path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    mark: String,
}

impl Owner {
    pub fn new(bpffs: &Path) -> Self {
        Self {
            mark: format!("overlay {}", bpffs.display()),
        }
    }

    /// Alias of the fallback device.
    pub fn fallback_alias(&self) -> &str {
        &self.mark
    }

    /// Alias of the host side of an endpoint's veth.
    pub fn endpoint_alias(&self, endpoint: &str) -> String {
        format!("{} endpoint {endpoint}", self.mark)
    }

    /// Alias of the bridge that makes endpoints reserve room.
    pub fn headroom_alias(&self) -> String {
        format!("{} headroom", self.mark)
    }

    pub fn is_headroom(&self, alias: Option<&str>) -> bool {
        alias == Some(self.headroom_alias().as_str())
    }

    /// Alias of the host side of the service's veth.
    pub fn service_alias(&self) -> String {
        format!("{} service", self.mark)
    }

    pub fn is_service(&self, alias: Option<&str>) -> bool {
        alias == Some(self.service_alias().as_str())
    }

    pub fn is_fallback(&self, alias: Option<&str>) -> bool {
        alias == Some(self.mark.as_str())
    }

    /// The endpoint whose host side carries this alias; `None` for a device that is not ours.
    pub fn endpoint<'a>(&self, alias: Option<&'a str>) -> Option<&'a str> {
        alias?
            .strip_prefix(self.mark.as_str())?
            .strip_prefix(" endpoint ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recognises_only_its_own() {
        let ours = Owner::new(Path::new("/sys/fs/bpf/a"));
        let other = Owner::new(Path::new("/sys/fs/bpf/ab"));
        let alias = ours.endpoint_alias("1234");
        assert_eq!(ours.endpoint(Some(&alias)), Some("1234"));
        assert_eq!(other.endpoint(Some(&alias)), None);
        assert_eq!(ours.endpoint(Some(&other.endpoint_alias("1234"))), None);
        assert_eq!(ours.endpoint(Some(ours.fallback_alias())), None);
        assert_eq!(ours.endpoint(None), None);
        assert!(ours.is_fallback(Some(ours.fallback_alias())));
        assert!(!ours.is_fallback(Some(other.fallback_alias())));
        assert!(!ours.is_fallback(Some(&alias)));
        assert!(!ours.is_fallback(None));
        assert!(ours.is_headroom(Some(&ours.headroom_alias())));
        assert!(!ours.is_headroom(Some(&other.headroom_alias())));
    }
}
