//! The programs of the object, by name.

use aya::Ebpf;
use aya::maps::{MapError, ProgramArray};
use aya::programs::{ProgramError, SchedClassifier, Xdp};
use overlay_common::maps::{
    ENDPOINT_EXCEPTION, ENDPOINT_EXCEPTION_SLOT, FROM_ENDPOINT, FROM_FALLBACK, FROM_UNDERLAY,
    PROGRAMS, TO_UNDERLAY, UNDERLAY_FILTER,
};

use super::error::DatapathError;

/// Loads every TC program, and puts those that are entered by a tail call in their place: from then on
/// the programs of an earlier run enter them, too.
pub fn load_classifiers(ebpf: &mut Ebpf) -> Result<(), DatapathError> {
    for name in [
        FROM_FALLBACK,
        FROM_UNDERLAY,
        TO_UNDERLAY,
        FROM_ENDPOINT,
        ENDPOINT_EXCEPTION,
    ] {
        load(name, classifier(ebpf, name)?.load())?;
    }
    let refused = |source: ProgramError| DatapathError::Program {
        program: ENDPOINT_EXCEPTION,
        source: Box::new(source),
    };
    let program = classifier(ebpf, ENDPOINT_EXCEPTION)?
        .fd()
        .and_then(|fd| fd.try_clone().map_err(ProgramError::IOError))
        .map_err(refused)?;
    ebpf.map_mut(PROGRAMS)
        .ok_or(DatapathError::NoProgram(PROGRAMS))
        .and_then(|map| {
            ProgramArray::try_from(map)
                .and_then(|mut programs| programs.set(ENDPOINT_EXCEPTION_SLOT, &program, 0))
                .map_err(|source: MapError| refused(source.into()))
        })
}

pub(super) fn load(
    program: &'static str,
    result: Result<(), ProgramError>,
) -> Result<(), DatapathError> {
    result.map_err(|source| DatapathError::Program {
        program,
        source: Box::new(source),
    })
}

pub(super) fn classifier<'a>(
    ebpf: &'a mut Ebpf,
    name: &'static str,
) -> Result<&'a mut SchedClassifier, DatapathError> {
    ebpf.program_mut(name)
        .and_then(|program| program.try_into().ok())
        .ok_or(DatapathError::NoProgram(name))
}

pub(super) fn filter(ebpf: &mut Ebpf) -> Result<&mut Xdp, DatapathError> {
    ebpf.program_mut(UNDERLAY_FILTER)
        .and_then(|program| program.try_into().ok())
        .ok_or(DatapathError::NoProgram(UNDERLAY_FILTER))
}
