//! Command lines as text: split into words as a POSIX shell does, and joined so that a shell splits them back.
//!
//! Variables and substitutions are left as they stand: what they hold is not known here.

use crate::{Error, Result};

/// What was read of a script so far.
#[derive(Default)]
struct Script {
    commands: Vec<Vec<String>>,
    command: Vec<String>,
    word: Option<String>,
    /// The next word is the file of a redirection.
    redirected: bool,
}

impl Script {
    fn word(&mut self) -> &mut String {
        self.word.get_or_insert_default()
    }

    fn end_word(&mut self) {
        if let Some(word) = self.word.take()
            && !std::mem::take(&mut self.redirected)
        {
            self.command.push(word);
        }
    }

    fn end_command(&mut self) {
        self.end_word();
        self.redirected = false;
        if !self.command.is_empty() {
            self.commands.push(std::mem::take(&mut self.command));
        }
    }
}

/// The commands of a script, each as its words. Quotes, backslashes, line continuations and comments are those of the
/// shell; commands end at a new line, `;`, `&` or `|`; redirections are dropped.
///
/// # Errors
/// [`Error::Malformed`] for a quote that is not closed.
pub(super) fn split(text: &str) -> Result<Vec<Vec<String>>> {
    let mut script = Script::default();
    let mut chars = text.chars().peekable();
    while let Some(char) = chars.next() {
        match char {
            quote @ ('\'' | '"') => quoted(&mut chars, quote, script.word())?,
            '\\' => match chars.next() {
                Some('\r') if chars.next_if_eq(&'\n').is_some() => {}
                Some('\n') | None => {}
                Some(escaped) => script.word().push(escaped),
            },
            '#' if script.word.is_none() => while chars.next_if(|char| *char != '\n').is_some() {},
            '<' | '>' => {
                // `2>` redirects a numbered stream: the number is no word.
                script.word = script.word.take().filter(|word| !word.bytes().all(|byte| byte.is_ascii_digit()));
                script.end_word();
                while chars.next_if(|char| matches!(char, '<' | '>' | '&')).is_some() {}
                script.redirected = true;
            }
            '\n' | ';' | '&' | '|' => script.end_command(),
            space if space.is_whitespace() => script.end_word(),
            other => script.word().push(other),
        }
    }
    script.end_command();
    Ok(script.commands)
}

/// Reads up to the closing quote.
fn quoted(chars: &mut impl Iterator<Item = char>, quote: char, word: &mut String) -> Result<()> {
    while let Some(char) = chars.next() {
        match char {
            end if end == quote => return Ok(()),
            '\\' if quote == '"' => match chars.next() {
                Some('\n') => {}
                Some(escaped @ ('"' | '\\' | '$' | '`')) => word.push(escaped),
                other => word.extend(std::iter::once('\\').chain(other)),
            },
            inside => word.push(inside),
        }
    }
    Err(Error::Malformed { place: "command line".to_owned(), reason: format!("a quote ({quote}) is not closed") })
}

/// One line that a shell splits back into these words.
pub fn join(words: &[String]) -> String {
    let plain = |char: char| char.is_ascii_alphanumeric() || "-_./=:,@+%".contains(char);
    let quote = |word: &String| {
        if !word.is_empty() && word.chars().all(plain) {
            word.clone()
        } else {
            format!("'{}'", word.replace('\'', r"'\''"))
        }
    };
    words.iter().map(quote).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn words(text: &str) -> Vec<String> {
        let mut commands = split(text).unwrap();
        assert_eq!(commands.len(), 1, "{text}");
        commands.remove(0)
    }

    #[test]
    fn quotes_escapes_and_continuations() {
        let text = "vllm serve 'a b' \\\n  --x=\"say \\\"hi\\\" for \\$5\" c\\ d '' e'f'\"g\" # not this\n";
        assert_eq!(words(text), ["vllm", "serve", "a b", "--x=say \"hi\" for $5", "c d", "", "efg"]);
        assert_eq!(words("a\\\r\n b"), ["a", "b"]);
        assert_eq!(words("a#b '#c'"), ["a#b", "#c"]);
        assert_eq!(words(r#""a\nb""#), [r"a\nb"]);
    }

    #[test]
    fn commands_end_and_redirections_go() {
        let commands = split("cd /x && export A=1; vllm serve m --port 80 > 'log file' 2>&1 &\nwait\n").unwrap();
        assert_eq!(
            commands,
            [vec!["cd", "/x"], vec!["export", "A=1"], vec!["vllm", "serve", "m", "--port", "80"], vec!["wait"]]
        );
    }

    #[test]
    fn an_open_quote_is_refused() {
        assert!(split("vllm serve 'x").is_err());
        assert!(split("vllm serve \"x\\").is_err());
    }

    proptest! {
        #[test]
        fn a_joined_line_splits_back(expected in prop::collection::vec(any::<String>(), 1..6)) {
            prop_assert_eq!(split(&join(&expected)).unwrap(), vec![expected]);
        }
    }
}
