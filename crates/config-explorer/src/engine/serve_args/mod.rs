//! `vllm serve` arguments: what was typed, before any default applies.
//!
//! In: a command line, as words or as one line of shell, or flags one by one. Out: [`ServeArgs`], where every field is
//! optional and flags that are not in the table are kept. It prints back as a command. Follows vLLM's
//! `FlexibleArgumentParser` (`utils/argparse_utils.py`): `_` for `-` in names, `--name=value`, `--no-name`, unambiguous
//! abbreviations, the last of two equal flags, and JSON by dots (`--speculative-config.method mtp`).

mod flags;
mod history;
mod shell;
mod values;

use std::collections::BTreeMap;
use std::slice::Iter;

use serde_json::Value;

pub use flags::{FLAGS, Flag, ServeArgs};
pub use history::FlagHistory;
pub use shell::join as join_command;
pub use values::{
    DTypeChoice, FlagKind, Fraction, JsonObject, KvCacheDType, MambaCacheMode, MaxModelLen, MultimodalLimits,
};

use crate::{Error, Result};

/// Flags that hold a secret. It is never kept, so it cannot be printed.
const SECRETS: [&str; 2] = ["--api-key", "--hf-token"];
/// Stands where a secret was.
const HIDDEN: &str = "***";
/// Deepest path of `--flag.a.b.c`.
const MAX_DEPTH: usize = 32;

/// A word that begins a flag: `--name` or `-n`, not `-1`.
fn is_flag(word: &str) -> bool {
    word.strip_prefix('-').is_some_and(|rest| rest.starts_with(|char: char| char == '-' || char.is_ascii_alphabetic()))
}

/// The words that follow, up to the next flag.
fn take_values(words: &mut Iter<'_, String>) -> Vec<String> {
    let count = words.as_slice().iter().take_while(|word| !is_flag(word)).count();
    words.by_ref().take(count).cloned().collect()
}

/// The arguments behind `vllm serve`, `python -m vllm.entrypoints.openai.api_server` or, in a container whose entry point
/// is `vllm`, behind `serve`.
fn after_launcher(words: &[String]) -> Option<&[String]> {
    let is_vllm = |word: &str| word == "vllm" || word.ends_with("/vllm");
    let start = words.windows(2).position(|pair| match pair {
        [program, command] => {
            is_vllm(program) && command == "serve" || program == "-m" && command == "vllm.entrypoints.openai.api_server"
        }
        _ => false,
    });
    match (start, words) {
        (Some(start), _) => Some(&words[start + 2..]),
        (None, [first, rest @ ..]) if first == "serve" => Some(rest),
        _ => None,
    }
}

impl ServeArgs {
    /// Reads a command, or only its arguments.
    ///
    /// # Errors
    /// [`Error::InvalidSetting`] for a value that its flag does not take and for a word that belongs to no flag.
    pub fn parse(words: &[String]) -> Result<Self> {
        let mut args = Self::default();
        let mut dotted: BTreeMap<&'static str, (&'static Flag, Value)> = BTreeMap::new();
        let mut words = after_launcher(words).unwrap_or(words).iter();
        while let Some(word) = words.next() {
            // `--` ends the flags of a launcher.
            if word == "--" {
                continue;
            }
            if !is_flag(word) {
                args.set_model(word)?;
                continue;
            }
            let (spelling, inline) = word.split_once('=').map_or((word.as_str(), None), |(s, value)| (s, Some(value)));
            if spelling == "--model" {
                let model = inline.or_else(|| words.next().map(String::as_str));
                args.set_model(model.ok_or_else(|| no_value(spelling))?)?;
            } else if let Some((flag, negated)) = Flag::find(spelling).or_else(|| Flag::find_abbreviated(spelling)) {
                flag.set(&mut args, &take(flag, negated, inline, &mut words))?;
            } else if let Some((flag, value)) = Flag::find_attached(word) {
                flag.set(&mut args, &[value.to_owned()])?;
            } else if let Some((flag, path)) = json_flag(spelling) {
                let value = inline.or_else(|| words.next().map(String::as_str)).ok_or_else(|| no_value(spelling))?;
                let (_, object) = dotted.entry(flag.field).or_insert_with(|| (flag, Value::Object(JsonObject::new())));
                insert(object, path, value).map_err(|reason| invalid(spelling, reason))?;
            } else {
                args.keep_unknown(spelling, word, take_values(&mut words));
            }
        }
        // As in vLLM, dots replace JSON that was given whole.
        for (flag, object) in dotted.into_values() {
            flag.set(&mut args, &[object.to_string()])?;
        }
        Ok(args)
    }

    /// Reads a line of shell, or a script that holds one `vllm serve` command.
    ///
    /// # Errors
    /// Those of [`ServeArgs::parse`], and [`Error::Malformed`] for an open quote, for several commands of which none
    /// starts vLLM, and for nothing at all.
    pub fn parse_shell(text: &str) -> Result<Self> {
        let commands = shell::split(text)?;
        match (commands.iter().find(|command| after_launcher(command).is_some()), commands.as_slice()) {
            (Some(command), _) => Self::parse(command),
            (None, [arguments]) => Self::parse(arguments),
            (None, _) => Err(Error::Malformed {
                place: "command line".to_owned(),
                reason: "there is no `vllm serve` in it".to_owned(),
            }),
        }
    }

    /// The command that sets exactly these flags for a model: known flags in the order of the table, then unknown ones as
    /// they were typed.
    pub fn to_command(&self, model: &str) -> Vec<String> {
        let mut command = vec!["vllm".to_owned(), "serve".to_owned(), model.to_owned()];
        for flag in FLAGS {
            let name = flag.name();
            match ((flag.words)(self), flag.kind) {
                (None, _) => {}
                (Some(on), FlagKind::Switch) => {
                    command.push(if on == ["true"] { format!("--{name}") } else { format!("--no-{name}") });
                }
                // A value that looks like a flag holds to its own with `=`.
                (Some(values), _) if values.len() == 1 && is_flag(&values[0]) => {
                    command.push(format!("--{name}={}", values[0]));
                }
                (Some(values), _) => {
                    command.push(format!("--{name}"));
                    command.extend(values);
                }
            }
        }
        command.extend(self.unknown.iter().flatten().cloned());
        command
    }

    fn set_model(&mut self, model: &str) -> Result<()> {
        match self.model.replace(model.to_owned()) {
            Some(earlier) if earlier != model => {
                Err(invalid("vllm serve", format!("`{model}` follows no flag, and the model is already `{earlier}`")))
            }
            _ => Ok(()),
        }
    }

    fn keep_unknown(&mut self, spelling: &str, word: &str, values: Vec<String>) {
        let mut words = vec![word.to_owned()];
        words.extend(values);
        if SECRETS.contains(&spelling.replace('_', "-").as_str()) {
            words = vec![spelling.to_owned(), HIDDEN.to_owned()];
        }
        self.unknown.push(words);
    }
}

/// The words that belong to a flag: the one behind `=`, or those that follow as its kind takes them.
fn take(flag: &Flag, negated: bool, inline: Option<&str>, words: &mut Iter<'_, String>) -> Vec<String> {
    if negated {
        return vec!["false".to_owned()];
    }
    if let Some(value) = inline {
        return vec![value.to_owned()];
    }
    match (flag.kind, words.as_slice().first().map(String::as_str)) {
        // `--enable-chunked-prefill False` was valid while the flag took a value (vLLM before 0.9).
        (FlagKind::Switch, Some("True" | "False" | "true" | "false")) => words.by_ref().take(1).cloned().collect(),
        (FlagKind::Switch, _) => vec!["true".to_owned()],
        (kind, _) if kind.is_list() => take_values(words),
        (_, Some(next)) if !is_flag(next) => words.by_ref().take(1).cloned().collect(),
        _ => Vec::new(),
    }
}

/// The JSON flag and the path behind its first dot.
fn json_flag(spelling: &str) -> Option<(&'static Flag, &str)> {
    let (name, path) = spelling.split_once('.')?;
    let (flag, _) = Flag::find(name).filter(|(flag, _)| matches!(flag.kind, FlagKind::Json | FlagKind::Limits))?;
    Some((flag, path))
}

/// Puts a value at a path of an object; behind `+` it joins a list.
fn insert(object: &mut Value, path: &str, word: &str) -> Result<(), String> {
    let (path, is_list) = path.strip_suffix('+').map_or((path, false), |path| (path, true));
    let keys: Vec<&str> = path.split('.').collect();
    if keys.len() > MAX_DEPTH || keys.iter().any(|key| key.is_empty()) {
        return Err(format!("`{path}` is not a path of up to {MAX_DEPTH} keys"));
    }
    let mut place = object;
    for key in keys {
        if !place.is_object() {
            *place = Value::Object(JsonObject::new());
        }
        place = &mut place[key];
    }
    match (place, is_list) {
        (Value::Array(list), true) => list.extend(word.split(',').map(Value::from)),
        (place, true) => *place = word.split(',').map(Value::from).collect(),
        (place, false) => *place = values::read_dotted(word),
    }
    Ok(())
}

fn invalid(setting: &str, reason: String) -> Error {
    Error::InvalidSetting { setting: setting.to_owned(), reason }
}

fn no_value(setting: &str) -> Error {
    invalid(setting, "needs a value".to_owned())
}

#[cfg(test)]
mod tests;
