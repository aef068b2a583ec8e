//! Failures: told once, on stderr, with their causes and what to do next.

use std::io;

use config_explorer::Error;

use crate::ExitStatus;

/// Tells a failure and gives the exit status it calls for. A reader that closed its end of the pipe is no failure.
pub(crate) fn report(error: &anyhow::Error) -> ExitStatus {
    if is_broken_pipe(error) {
        return ExitStatus::Success;
    }
    let label = anstyle::AnsiColor::Red.on_default().bold();
    anstream::eprintln!("{label}error:{label:#} {}", causes(error));
    let known = error.chain().find_map(|cause| cause.downcast_ref::<Error>());
    if let Some(hint) = known.and_then(Error::hint) {
        anstream::eprintln!("hint: {hint}");
    }
    match known {
        Some(Error::Unknown { .. } | Error::Ambiguous { .. } | Error::InvalidSetting { .. }) => ExitStatus::Usage,
        _ => ExitStatus::Failure,
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let io = error.chain().find_map(|cause| cause.downcast_ref::<io::Error>());
    io.is_some_and(|io| io.kind() == io::ErrorKind::BrokenPipe)
}

/// The error and its causes in one line; a cause that the text before it already holds is not said again.
fn causes(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |text, cause| match text.as_str() {
        "" => cause,
        _ if text.contains(&cause) => text,
        _ => format!("{text}: {cause}"),
    })
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    fn missing_file() -> anyhow::Error {
        let source = io::Error::from(io::ErrorKind::NotFound);
        let error = Error::Io { path: "x.toml".into(), source };
        Err::<(), _>(error).context("reading accelerators").unwrap_err()
    }

    #[test]
    fn every_cause_is_said_once() {
        assert_eq!(causes(&missing_file()), "reading accelerators: cannot access `x.toml`: entity not found");
    }

    #[test]
    fn the_status_tells_wrong_usage_from_failure() {
        assert_eq!(report(&missing_file()), ExitStatus::Failure);
        let unknown = Error::Unknown { kind: "accelerator", name: "H1".to_owned(), similar: vec!["H100".to_owned()] };
        assert_eq!(report(&unknown.into()), ExitStatus::Usage);
        assert_eq!(report(&io::Error::from(io::ErrorKind::BrokenPipe).into()), ExitStatus::Success);
    }
}
