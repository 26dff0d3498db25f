//! Answers on stdout.

use anyhow::{Context as _, Result};
use clap::{Args, ValueEnum};
use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;

#[derive(Args, Clone, Copy, Debug)]
pub(super) struct Format {
    /// How to print
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Output {
    #[default]
    Table,
    Json,
}

impl Format {
    /// Prints `answer` as JSON, or what `table` makes of it.
    pub(super) fn print<T: Serialize>(
        self,
        answer: &T,
        table: impl FnOnce(&T) -> String,
    ) -> Result<()> {
        let text = match self.output {
            Output::Table => table(answer),
            Output::Json => serde_json::to_string_pretty(answer).context("write the answer")?,
        };
        print(&text)
    }
}

/// Prints lines. A reader that stops early (`| head`) is no error.
pub(super) fn print(text: &str) -> Result<()> {
    use std::io::Write as _;
    match writeln!(std::io::stdout().lock(), "{}", text.trim_end()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(error).context("write to stdout")
        }
        _ => Ok(()),
    }
}

/// A table without lines: columns for people, `awk` and `grep`.
pub(super) fn table<const N: usize>(
    header: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> String {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header(header);
    for row in rows {
        table.add_row(row);
    }
    // Columns start at the left margin and have no blanks after the last.
    table
        .to_string()
        .lines()
        .map(|line| line.strip_prefix(' ').unwrap_or(line).trim_end())
        .collect::<Vec<_>>()
        .join("\n")
}

/// One thing: a line for each of its fields, the values below one another.
pub(super) fn fields<const N: usize>(fields: [(&str, String); N]) -> String {
    fields
        .map(|(key, value)| format!("{key:<10} {value}"))
        .join("\n")
}

/// A value that may be missing.
pub(super) fn or_dash<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// Several values in one column.
pub(super) fn joined<T: ToString>(values: &[T]) -> String {
    if values.is_empty() {
        return "-".to_owned();
    }
    let values: Vec<_> = values.iter().map(ToString::to_string).collect();
    values.join(",")
}
