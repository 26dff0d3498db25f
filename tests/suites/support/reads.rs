//! What a relay has seen of reads and their answers, to give an old answer once more.

use std::collections::BTreeMap;

/// By what was read.
pub(super) type Answers = BTreeMap<String, Vec<u8>>;

#[derive(Default)]
pub(super) struct Reads {
    /// The last read of each connection, and what came back.
    current: BTreeMap<u64, (String, Vec<u8>)>,
    /// The last answer to each read before that.
    answers: Answers,
    /// What is answered in place of the store, once each.
    stale: Answers,
    given: usize,
}

impl Reads {
    /// Takes note of a request; the answer that it gets in place of the store's.
    pub(super) fn asked(&mut self, connection: u64, request: &str) -> Option<Vec<u8>> {
        if let Some((read, answer)) = self.current.remove(&connection) {
            self.answers.insert(read, answer);
        }
        let read = read(request)?;
        let stale = self.stale.remove(&read);
        if stale.is_none() {
            self.current.insert(connection, (read, Vec::new()));
        }
        self.given += usize::from(stale.is_some());
        stale
    }

    pub(super) fn answered(&mut self, connection: u64, bytes: &[u8]) {
        if let Some((_, answer)) = self.current.get_mut(&connection) {
            answer.extend_from_slice(bytes);
        }
    }

    /// Those to reads with this text.
    pub(super) fn answers(&mut self, text: &str) -> Answers {
        let answered = self
            .current
            .values()
            .filter(|(_, answer)| !answer.is_empty());
        self.answers.extend(answered.cloned());
        let mut answers = self.answers.clone();
        answers.retain(|read, _| read.contains(text));
        answers
    }

    pub(super) fn set_back(&mut self, answers: Answers) {
        self.stale = answers;
        self.given = 0;
    }

    pub(super) fn catch_up(&mut self) -> usize {
        self.stale.clear();
        self.given
    }
}

/// What a request reads, whatever index it waits for; `None` when it may write.
fn read(request: &str) -> Option<String> {
    let (head, body) = request.split_once("\r\n\r\n")?;
    let line = head.lines().next()?;
    let writes = ["\"set\"", "\"cas\"", "\"delete", "\"check"];
    let reads = line.starts_with("GET ")
        || line.contains("/v1/txn") && !writes.iter().any(|verb| body.contains(verb));
    let (before, index) = line.split_once("index=").unwrap_or((line, ""));
    let after = index.trim_start_matches(|digit: char| digit.is_ascii_digit());
    reads.then(|| format!("{before} {after} {body}"))
}
