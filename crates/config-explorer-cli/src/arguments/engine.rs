//! The engine's flags, made from the library's table of them.

use std::ffi::OsString;

use clap::builder::{PossibleValuesParser, ValueParser};
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};
use config_explorer::Error;
use config_explorer::engine::{FLAGS, Flag, FlagKind, ServeArgs};

/// Spellings of the original `config_explorer`, which stay accepted.
const ORIGINAL: [(&str, &str); 1] = [("gpu_memory_utilization", "gpu-mem-util")];

/// The engine's flags that memory planning reads, as vLLM spells them.
#[derive(Debug, Clone, Default)]
pub(crate) struct EngineArgs(pub(crate) ServeArgs);

/// Rewrites a word that is an engine flag in one of vLLM's spellings (`-tp`, `-tp=2`, `--max_model_len`) to the flag's
/// name, which clap can read.
pub(crate) fn canonical_spelling(word: OsString) -> OsString {
    let Some(text) = word.to_str() else { return word };
    let (spelling, value) = text.find('=').map_or((text, ""), |equals| text.split_at(equals));
    match Flag::find(spelling).filter(|(flag, _)| flag.planning) {
        Some((flag, negated)) => format!("--{}{}{value}", if negated { "no-" } else { "" }, flag.name()).into(),
        None => word,
    }
}

fn planning_flags() -> impl Iterator<Item = &'static Flag> {
    FLAGS.iter().filter(|flag| flag.planning)
}

fn negation(flag: &Flag) -> String {
    format!("no_{}", flag.field)
}

/// What stands for the value in the help.
fn value_name(kind: FlagKind) -> &'static str {
    match kind {
        FlagKind::Switch => "",
        FlagKind::Integer | FlagKind::Size | FlagKind::IntegerList => "N",
        FlagKind::Length => "N|auto",
        FlagKind::Number | FlagKind::Fraction => "X",
        FlagKind::Text | FlagKind::TextList => "NAME",
        FlagKind::Choice(_) => "TYPE",
        FlagKind::Json | FlagKind::Limits => "JSON",
    }
}

/// The word as it was typed, once the flag accepts it.
fn parser(flag: &'static Flag) -> ValueParser {
    if let FlagKind::Choice(words) = flag.kind {
        return PossibleValuesParser::new(words).into();
    }
    ValueParser::from(move |word: &str| {
        flag.set(&mut ServeArgs::default(), &[word.to_owned()]).map(|()| word.to_owned()).map_err(|error| match error {
            // clap names the flag itself.
            Error::InvalidSetting { reason, .. } => reason,
            other => other.to_string(),
        })
    })
}

fn arg(flag: &'static Flag) -> Arg {
    let original = ORIGINAL.iter().filter(|(field, _)| *field == flag.field).map(|(_, name)| *name);
    let arg = Arg::new(flag.field)
        .long(flag.name())
        .visible_aliases(flag.aliases.iter().filter_map(|alias| alias.strip_prefix("--")))
        .aliases(original)
        .help(flag.help())
        .help_heading("Engine, as in `vllm serve` (`--no-NAME` turns a switch off)");
    match flag.kind {
        FlagKind::Switch => arg.action(ArgAction::SetTrue).overrides_with(negation(flag)),
        kind => {
            let arg = arg.value_name(value_name(kind)).value_parser(parser(flag));
            arg.allow_hyphen_values(kind == FlagKind::Length)
        }
    }
}

impl Args for EngineArgs {
    fn augment_args(command: Command) -> Command {
        let switches = planning_flags().filter(|flag| flag.kind == FlagKind::Switch);
        let negations = switches.map(|flag| {
            let no = Arg::new(negation(flag)).long(negation(flag).replace('_', "-")).action(ArgAction::SetTrue);
            no.hide(true).overrides_with(flag.field)
        });
        command.args(planning_flags().map(arg)).args(negations)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for EngineArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut engine = Self::default();
        engine.update_from_arg_matches(matches)?;
        Ok(engine)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        for flag in planning_flags() {
            let word = match flag.kind {
                FlagKind::Switch if matches.get_flag(flag.field) => Some("true"),
                FlagKind::Switch => matches.get_flag(&negation(flag)).then_some("false"),
                _ => matches.get_one::<String>(flag.field).map(String::as_str),
            };
            if let Some(word) = word {
                flag.set(&mut self.0, &[word.to_owned()])
                    .map_err(|error| clap::Error::raw(clap::error::ErrorKind::ValueValidation, error))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use config_explorer::engine::{Fraction, MaxModelLen};

    use super::*;

    #[derive(Debug, Parser)]
    struct Program {
        #[command(flatten)]
        engine: EngineArgs,
    }

    fn parse(text: &str) -> Result<ServeArgs, clap::Error> {
        let words = std::iter::once("program").chain(text.split_whitespace()).map(OsString::from);
        Program::try_parse_from(words.map(canonical_spelling)).map(|program| program.engine.0)
    }

    #[test]
    fn every_spelling_sets_the_flag() {
        for text in ["--tensor-parallel-size 2", "--tp 2", "--tp=2", "-tp 2", "-tp=2", "--tensor_parallel_size=2"] {
            assert_eq!(parse(text).unwrap().tensor_parallel_size.map(u32::from), Some(2), "{text}");
        }
        for text in ["--max-model-len -1", "--max-model-len auto", "--max_model_len=-1"] {
            assert_eq!(parse(text).unwrap().max_model_len, Some(MaxModelLen::Auto), "{text}");
        }
        let engine = parse("--gpu-mem-util 0.8 --enforce-eager --no_enable_prefix_caching").unwrap();
        assert_eq!(engine.gpu_memory_utilization.map(Fraction::get), Some(0.8));
        assert_eq!((engine.enforce_eager, engine.enable_prefix_caching), (Some(true), Some(false)));
    }

    #[test]
    fn the_last_of_a_switch_and_its_negation_counts() {
        assert_eq!(parse("--async-scheduling --no-async-scheduling").unwrap().async_scheduling, Some(false));
        assert_eq!(parse("--no-async-scheduling --async-scheduling").unwrap().async_scheduling, Some(true));
        assert_eq!(parse("").unwrap(), ServeArgs::default());
    }

    #[test]
    fn a_wrong_value_is_wrong_usage() {
        let error = parse("--gpu-memory-utilization 90").unwrap_err();
        assert_eq!(error.kind(), clap::error::ErrorKind::ValueValidation);
        let text = error.to_string();
        assert!(text.contains("at most 1") && text.matches("--gpu-memory-utilization").count() == 1, "{text}");
        assert!(parse("--port 80").is_err(), "planning does not read it");
    }
}
