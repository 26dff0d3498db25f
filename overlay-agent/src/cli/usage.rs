//! What is wrong with the arguments, in one line, as all of our errors.

use std::ffi::OsStr;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue};

use super::one_line;

/// Exit code of wrong usage, as clap has it.
pub(super) const EXIT: u8 = 2;

/// Prints help and version as clap has them, and an error in one line with clap's suggestions.
pub(super) fn report(error: &clap::Error) -> ExitCode {
    let text = error.to_string();
    if error.use_stderr() && text.starts_with("error: ") {
        let variable = variable(error).filter(|name| std::env::var_os(name).is_some());
        eprintln!("{}", line(&text, variable.as_deref()));
    } else {
        // Nothing can be done about a closed stdout.
        let _ = error.print();
    }
    u8::try_from(error.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from)
}

/// The variable that a refused value came from: its flag is not among the arguments.
fn variable(error: &clap::Error) -> Option<String> {
    let ContextValue::String(argument) = error.get(ContextKind::InvalidArg)? else {
        return None;
    };
    let flag = argument.split([' ', '=', '[']).next()?;
    let given = |argument: &OsStr| {
        let argument = argument.to_string_lossy();
        argument.split('=').next() == Some(flag)
    };
    let name = flag.strip_prefix("--")?;
    if std::env::args_os().any(|argument| given(&argument)) {
        return None;
    }
    Some(format!("OVERLAY_{}", name.replace('-', "_").to_uppercase()))
}

/// `text` has paragraphs: what is wrong, suggestions, usage, where to find help.
fn line(text: &str, variable: Option<&str>) -> String {
    let mut paragraphs = text.split("\n\n");
    let what = one_line(paragraphs.next().unwrap_or(text));
    let origin = variable.map_or(String::new(), |name| format!(" (from {name})"));
    let tips: String = paragraphs
        .flat_map(str::lines)
        .filter_map(|line| line.trim().strip_prefix("tip: "))
        .map(|tip| format!("; {tip}"))
        .collect();
    format!("{what}{origin}{tips}; `--help` says more")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_with_the_suggestions() {
        let text = "error: no such thing\n  [possible: a, b]\n\n  tip: try 'a'\n  tip: or 'b'\n\n\
                    Usage: x\n\nFor more information, try '--help'.\n";
        assert_eq!(
            line(text, None),
            "error: no such thing [possible: a, b]; try 'a'; or 'b'; `--help` says more"
        );
        assert_eq!(
            line("error: bad", Some("OVERLAY_PORT")),
            "error: bad (from OVERLAY_PORT); `--help` says more"
        );
    }
}
