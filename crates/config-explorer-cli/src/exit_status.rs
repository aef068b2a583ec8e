//! What the program's exit status says.

use std::process::ExitCode;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ExitStatus {
    /// Done, and the answer is yes.
    Success = 0,
    /// Something failed: a file, the hub, the network, malformed input.
    Failure = 1,
    /// The command was used wrongly: an unknown flag, a value that the flag does not take, an unknown name.
    Usage = 2,
    /// Done, and the answer is no: nothing fits, nothing matches, nothing meets the objectives.
    No = 3,
}

impl ExitStatus {
    /// The status of a question that was answered.
    pub(crate) fn yes_if(answer: bool) -> Self {
        if answer { Self::Success } else { Self::No }
    }
}

impl From<ExitStatus> for ExitCode {
    fn from(status: ExitStatus) -> Self {
        Self::from(status as u8)
    }
}
