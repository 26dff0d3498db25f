//! On what it was measured.

use std::{fmt, fs, thread};

use serde_json::{Value, json};

/// What is known of this machine; what is not stays empty.
#[derive(Debug, Default)]
pub(super) struct Machine {
    processor: String,
    processors: usize,
    kernel: String,
    /// Runnable threads, on average over the minute before.
    load: String,
}

impl Machine {
    pub(super) fn this() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let first = |text: String| text.split_whitespace().next().unwrap_or("").to_owned();
        Self {
            processor: processor(&read("/proc/cpuinfo")).to_owned(),
            processors: thread::available_parallelism().map_or(0, usize::from),
            kernel: first(read("/proc/sys/kernel/osrelease")),
            load: first(read("/proc/loadavg")),
        }
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "processor": self.processor,
            "processors": self.processors,
            "kernel": self.kernel,
            "load_before": self.load,
        })
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} × {}, Linux {}, load {} before",
            self.processors, self.processor, self.kernel, self.load
        )
    }
}

fn processor(cpuinfo: &str) -> &str {
    cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or("processor", |(_, name)| name.trim())
}

#[cfg(test)]
mod tests {
    use super::processor;

    #[test]
    fn processor_has_a_name() {
        let text = "processor\t: 0\nmodel name\t: Some CPU @ 3.00GHz\nflags\t: a\n";
        assert_eq!(processor(text), "Some CPU @ 3.00GHz");
        assert_eq!(processor(""), "processor");
    }
}
