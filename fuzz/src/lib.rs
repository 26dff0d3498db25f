//! The checks that the property tests make, for the fuzz targets.

#[path = "../../overlay-common/tests/properties/checks/mod.rs"]
pub mod checks;
