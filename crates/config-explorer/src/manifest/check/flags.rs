//! Whether the version of vLLM has the flags of a command.

use super::Findings;
use super::server::Server;
use crate::engine::{FLAGS, Flag, FlagHistory, ServeArgs, Version};

/// Edit distance at which an unknown flag is a known one misspelt.
const TYPO_DISTANCE_MAX: usize = 2;

/// Names of flags as a user writes them.
fn flag_names() -> impl Iterator<Item = String> {
    FLAGS.iter().map(|flag| format!("--{}", flag.name()))
}

/// Flags that the version does not have, and those that no version is known to have.
pub(super) fn check(server: &Server, args: &ServeArgs, version: Option<Version>, findings: &mut Findings) {
    let place = &server.place;
    let known = FLAGS.iter().filter(|flag| flag.is_set(args)).map(Flag::name);
    let unknown = args.unknown.iter().filter_map(|words| words.first());
    let unknown = unknown.map(|word| word.split('=').next().unwrap_or(word).trim_start_matches('-').replace('_', "-"));
    let mut not_known = Vec::new();
    for (name, is_known) in known.map(|name| (name, true)).chain(unknown.map(|name| (name, false))) {
        match (FlagHistory::of(&name), version) {
            (Some(history), Some(version)) if !history.is_in(version) => {
                let when = match (history.since, history.until) {
                    (Some(since), _) if version < since => format!("yet: {since} is the first with it"),
                    (_, until) => until.map_or_else(String::new, |until| format!("any more: {until} is without it")),
                };
                let fix = match &history.instead {
                    Some(instead) => format!("write `{instead}`"),
                    None => "remove it, or use an image that has it".to_owned(),
                };
                findings.error(
                    "unknown-flag",
                    place,
                    "args",
                    format!("vLLM {version} has no flag `--{name}` {when}"),
                    fix,
                );
            }
            (Some(_), _) => {}
            (None, _) if is_known => {}
            (None, _) => not_known.push(name),
        }
    }
    for name in not_known {
        let name = format!("--{name}");
        let close = flag_names().map(|known| (strsim::osa_distance(&known, &name), known)).min();
        let version = version.map_or_else(String::new, |version| format!(" {version}"));
        match close.filter(|(distance, _)| *distance <= TYPO_DISTANCE_MAX) {
            Some((_, known)) => findings.error(
                "unknown-flag",
                place,
                "args",
                format!("vLLM{version} has no flag `{name}`"),
                format!("did you mean `{known}`?"),
            ),
            None => findings.note(
                "unknown-flag",
                place,
                "args",
                format!("`{name}` is not among the flags of vLLM that are known here"),
                "check it against `vllm serve --help=all` of the image",
            ),
        }
    }
}
