//! The programs of the object, by name.

use std::panic::resume_unwind;
use std::thread;

use aya::Ebpf;
use aya::maps::{MapError, ProgramArray};
use aya::programs::{Program, ProgramError, SchedClassifier, Xdp};
use overlay_common::maps::{
    ENDPOINT_EXCEPTION, ENDPOINT_EXCEPTION_SLOT, FROM_ENDPOINT, FROM_FALLBACK, FROM_SERVICE,
    FROM_UNDERLAY, PROGRAMS, TO_UNDERLAY, UNDERLAY_FILTER,
};

use super::error::DatapathError;

const CLASSIFIERS: [&str; 6] = [
    FROM_FALLBACK,
    FROM_UNDERLAY,
    TO_UNDERLAY,
    FROM_ENDPOINT,
    ENDPOINT_EXCEPTION,
    FROM_SERVICE,
];

/// Loads every TC program, and puts those that are entered by a tail call in their place: from then on
/// the programs of an earlier run enter them, too.
pub fn load_classifiers(ebpf: &mut Ebpf) -> Result<(), DatapathError> {
    verify(ebpf)?;
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

/// Loads the TC programs side by side: the kernel's verifier takes up to a second for one.
fn verify(ebpf: &mut Ebpf) -> Result<(), DatapathError> {
    let mut found: Vec<(&str, &mut Program)> = ebpf.programs_mut().collect();
    let mut classifiers = Vec::new();
    for name in CLASSIFIERS {
        let at = found.iter().position(|(other, _)| *other == name);
        let (_, program) = found.swap_remove(at.ok_or(DatapathError::NoProgram(name))?);
        let program: &mut SchedClassifier = program
            .try_into()
            .map_err(|_| DatapathError::NoProgram(name))?;
        classifiers.push((name, program));
    }
    thread::scope(|scope| {
        let loading = classifiers.into_iter().map(|(name, program)| {
            let loading = scope.spawn(|| program.load());
            (name, loading)
        });
        // All of them are started before the first is waited for.
        let loading: Vec<_> = loading.collect();
        for (name, loading) in loading {
            let loaded = loading.join();
            load(name, loaded.unwrap_or_else(|panic| resume_unwind(panic)))?;
        }
        Ok(())
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
