//! What a shell makes of the variables of a script that starts an engine.
//!
//! Variables, `${NAME:-default}` and arithmetic are expanded, assignments at the start of a line are remembered; commands are not
//! run. What is not known stays as it is written.

use std::collections::BTreeMap;

/// Deepest nesting of expansions, and longest result: bounds for what is foreign.
const DEPTH_MAX: usize = 16;
const RESULT_BYTES_MAX: usize = 1 << 20;

/// Expands a script with these variables; those that it sets are added.
pub fn expand(script: &str, variables: &mut BTreeMap<String, String>) -> String {
    expand_at(script, variables, 0)
}

fn expand_at(script: &str, variables: &mut BTreeMap<String, String>, depth: usize) -> String {
    let mut result = String::with_capacity(script.len());
    let mut quote: Option<char> = None;
    let mut rest = script;
    let mut line_starts = true;
    while let Some(char) = rest.chars().next() {
        if result.len() > RESULT_BYTES_MAX {
            return result;
        }
        if line_starts && quote.is_none() && depth < DEPTH_MAX {
            assign(rest, variables, depth);
        }
        line_starts = char == '\n';
        let after = &rest[char.len_utf8()..];
        let mut taken = char.len_utf8();
        match (char, quote) {
            ('\\', None | Some('"')) => {
                let escaped = after.chars().next();
                result.push(char);
                result.extend(escaped);
                taken += escaped.map_or(0, char::len_utf8);
            }
            ('#', None) if result.is_empty() || result.ends_with(char::is_whitespace) => {
                // A comment, which may hold a quote.
                taken = rest.find('\n').unwrap_or(rest.len());
            }
            ('\'' | '"', None) => {
                quote = Some(char);
                result.push(char);
            }
            ('\'' | '"', Some(open)) if open == char => {
                quote = None;
                result.push(char);
            }
            ('$', None | Some('"')) if depth < DEPTH_MAX => match substitute(after, variables, depth) {
                Some((value, length)) => {
                    taken += length;
                    put(&mut result, &value, &rest[taken..], quote);
                }
                None => result.push(char),
            },
            _ => result.push(char),
        }
        rest = &rest[taken..];
    }
    result
}

/// Adds a value where a variable stood.
fn put(result: &mut String, value: &str, rest: &str, quote: Option<char>) {
    // `--flag=` with nothing behind it is no flag.
    let word_ends = rest.chars().next().is_none_or(char::is_whitespace);
    if value.is_empty() && quote.is_none() && word_ends && result.ends_with('=') {
        let start = result.rfind(char::is_whitespace).map_or(0, |at| at + 1);
        result.truncate(start);
        return;
    }
    for char in value.chars() {
        let special = if quote.is_some() { "\"\\$`" } else { "'\"\\$`#;&|<>" };
        if special.contains(char) {
            result.push('\\');
        }
        result.push(char);
    }
}

/// Remembers `NAME=value` or `export NAME=value`, if that is what a line starts with.
fn assign(line: &str, variables: &mut BTreeMap<String, String>, depth: usize) {
    let line = line.lines().next().unwrap_or_default().trim();
    let line = line.strip_prefix("export ").unwrap_or(line).trim_start();
    let Some((name, value)) = line.split_once('=') else { return };
    if !is_name(name) {
        return;
    }
    let value = expand_at(value, variables, depth + 1);
    let value = value.trim();
    let unquoted = ['"', '\''].iter().find_map(|quote| value.strip_prefix(*quote)?.strip_suffix(*quote));
    let value = unquoted.unwrap_or_else(|| value.split_whitespace().next().unwrap_or_default());
    if !value.contains("$(") {
        variables.insert(name.to_owned(), value.replace('\\', ""));
    }
}

fn is_name(text: &str) -> bool {
    !text.starts_with(|char: char| char.is_ascii_digit())
        && !text.is_empty()
        && text.chars().all(|char| char.is_ascii_alphanumeric() || char == '_')
}

/// The value of what follows a `$`, and how many bytes name it.
fn substitute(text: &str, variables: &mut BTreeMap<String, String>, depth: usize) -> Option<(String, usize)> {
    if let Some(inner) = text.strip_prefix("((") {
        let end = closing(inner, "((", "))")?;
        let value = arithmetic(&expand_at(&inner[..end], variables, depth + 1), variables)?;
        return Some((value.to_string(), end + 4));
    }
    if let Some(inner) = text.strip_prefix('{') {
        let end = closing(inner, "{", "}")?;
        let length = inner[..end].find(|char: char| !char.is_ascii_alphanumeric() && char != '_').unwrap_or(end);
        let (name, operator) = inner[..end].split_at(length);
        let known = variables.get(name).cloned();
        let default = |text: &str, variables: &mut BTreeMap<String, String>| expand_at(text, variables, depth + 1);
        let value = if let Some(text) = operator.strip_prefix(":-") {
            known.filter(|value| !value.is_empty()).unwrap_or_else(|| default(text, variables))
        } else if let Some(text) = operator.strip_prefix('-') {
            known.unwrap_or_else(|| default(text, variables))
        } else if operator.is_empty() {
            known?
        } else {
            return None;
        };
        return Some((value, end + 2));
    }
    let length = text.find(|char: char| !char.is_ascii_alphanumeric() && char != '_').unwrap_or(text.len());
    Some((variables.get(&text[..length])?.clone(), length))
}

/// Where the bracket closes that is open before the text.
fn closing(text: &str, open: &str, close: &str) -> Option<usize> {
    let mut depth = 0_usize;
    let mut at = 0;
    while at < text.len() {
        let rest = text.get(at..)?;
        if rest.starts_with(close) {
            match depth.checked_sub(1) {
                None => return Some(at),
                Some(outer) => depth = outer,
            }
            at += close.len();
        } else if rest.starts_with(open) {
            depth += 1;
            at += open.len();
        } else {
            at += rest.chars().next()?.len_utf8();
        }
    }
    None
}

/// The value of an expression of whole numbers, variables, `+ - * / %` and brackets.
fn arithmetic(text: &str, variables: &BTreeMap<String, String>) -> Option<i64> {
    let mut parser = Arithmetic { rest: text.trim(), variables, depth: 0 };
    let value = parser.sum()?;
    parser.rest.is_empty().then_some(value)
}

struct Arithmetic<'a> {
    rest: &'a str,
    variables: &'a BTreeMap<String, String>,
    depth: usize,
}

impl Arithmetic<'_> {
    fn take(&mut self, char: char) -> bool {
        let rest = self.rest.strip_prefix(char).map(str::trim_start);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn sum(&mut self) -> Option<i64> {
        let mut value = self.product()?;
        loop {
            if self.take('+') {
                value = value.checked_add(self.product()?)?;
            } else if self.take('-') {
                value = value.checked_sub(self.product()?)?;
            } else {
                return Some(value);
            }
        }
    }

    fn product(&mut self) -> Option<i64> {
        let mut value = self.atom()?;
        loop {
            if self.take('*') {
                value = value.checked_mul(self.atom()?)?;
            } else if self.take('/') {
                value = value.checked_div(self.atom()?)?;
            } else if self.take('%') {
                value = value.checked_rem(self.atom()?)?;
            } else {
                return Some(value);
            }
        }
    }

    fn atom(&mut self) -> Option<i64> {
        self.depth += 1;
        if self.depth > 4 * DEPTH_MAX {
            return None;
        }
        if self.take('(') {
            let value = self.sum()?;
            return self.take(')').then_some(value);
        }
        let length =
            self.rest.find(|char: char| !char.is_ascii_alphanumeric() && char != '_').unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(length);
        self.rest = rest.trim_start();
        word.parse().ok().or_else(|| self.variables.get(word)?.trim().parse().ok())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn expanded(script: &str) -> String {
        let mut variables = BTreeMap::from([("N".to_owned(), "8".to_owned()), ("EMPTY".to_owned(), String::new())]);
        expand(script, &mut variables)
    }

    #[test]
    fn variables_defaults_and_arithmetic() {
        assert_eq!(expanded("a $N ${N}0 ${M:-4} ${EMPTY:-5} ${EMPTY-6}|"), "a 8 80 4 5 |");
        assert_eq!(expanded("--x $((N * (2 + 1) - ${M:-4})) '$N' \"$N\" $UNKNOWN"), "--x 20 '$N' \"8\" $UNKNOWN");
        assert_eq!(expanded("A=$((N*2))\nexport B=\"x y\"\nrun $A $B"), "A=16\nexport B=\"x y\"\nrun 16 x y");
        assert_eq!(expanded("run --size=${M-} --port 1"), "run  --port 1");
        assert_eq!(expanded("# it's $N\nrun \\$N"), "\nrun \\$N");
    }

    proptest! {
        #[test]
        fn any_text_is_expanded(script in "([a-zN$(){}:\\-+*/'\"\\\\#\n= 0-9é]|\\$\\(\\(|\\$\\{){0,60}") {
            expanded(&script);
        }
    }
}
