//! Transactions: all operations or none.

use std::sync::Arc;

use super::{Draft, Entry, Key, Op, OpError};

/// One entry of a transaction's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct TxnResult {
    pub(in super::super) key: Key,
    pub(in super::super) entry: Arc<Entry>,
    /// Only reads answer with the value.
    pub(in super::super) with_value: bool,
}

/// Why one operation of a transaction failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct TxnError {
    /// Which operation, from 0.
    pub(in super::super) position: usize,
    pub(in super::super) error: OpError,
}

impl TxnResult {
    pub(super) fn with_value(key: Key, entry: Arc<Entry>) -> Self {
        Self {
            key,
            entry,
            with_value: true,
        }
    }

    pub(super) fn without_value(key: Key, entry: Arc<Entry>) -> Self {
        Self {
            key,
            entry,
            with_value: false,
        }
    }
}

/// Tries all operations in order, each seeing what the ones before it did.
///
/// # Errors
/// Those of all operations that failed, so that a client learns of every conflict at once; the
/// draft must then be dropped. Operations that could not be tried at all are reported alone.
pub(in super::super) fn run(
    draft: &mut Draft<'_>,
    ops: &[Op],
) -> Result<Vec<TxnResult>, Vec<TxnError>> {
    let failed = |(position, error)| TxnError { position, error };
    let refused: Vec<TxnError> = (ops.iter().enumerate())
        .filter_map(|(position, op)| Some((position, draft.precheck(op).err()?)))
        .map(failed)
        .collect();
    if !refused.is_empty() {
        return Err(refused);
    }
    let mut results = Vec::new();
    let mut errors = Vec::new();
    for (position, op) in ops.iter().enumerate() {
        match draft.run(op) {
            Ok(result) => results.extend(result),
            Err(error) => errors.push(TxnError { position, error }),
        }
    }
    if errors.is_empty() {
        Ok(results)
    } else {
        Err(errors)
    }
}
