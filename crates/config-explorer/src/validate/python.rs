//! Python's notation of values, as its programs print dictionaries: `{'method': 'mtp', 'eager': True, 'n': 3}`.

use serde_json::{Map, Number, Value};

/// Deepest nesting that is read.
const MAX_DEPTH: usize = 32;

/// The value that a text begins with; what follows it is ignored. `None` if it is no value.
///
/// What is not a literal (`<Mode.FULL: 2>`, `Config(a=1)`) is kept as its text.
pub(super) fn read(text: &str) -> Option<Value> {
    Reader { rest: text }.value(0)
}

struct Reader<'a> {
    rest: &'a str,
}

impl Reader<'_> {
    fn value(&mut self, depth: usize) -> Option<Value> {
        if depth > MAX_DEPTH {
            return None;
        }
        self.rest = self.rest.trim_start();
        match self.rest.chars().next()? {
            '{' => self.dictionary(depth),
            '[' => self.list(']', depth),
            '(' => self.list(')', depth),
            '\'' | '"' => self.string().map(Value::String),
            _ => self.word(),
        }
    }

    fn take(&mut self, character: char) -> bool {
        self.rest = self.rest.trim_start();
        let rest = self.rest.strip_prefix(character);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn dictionary(&mut self, depth: usize) -> Option<Value> {
        self.take('{');
        let mut object = Map::new();
        while !self.take('}') {
            let key = match self.value(depth + 1)? {
                Value::String(key) => key,
                other => other.to_string(),
            };
            if !self.take(':') {
                return None;
            }
            object.insert(key, self.value(depth + 1)?);
            if !self.take(',') && !self.rest.starts_with('}') {
                return None;
            }
        }
        Some(Value::Object(object))
    }

    fn list(&mut self, end: char, depth: usize) -> Option<Value> {
        self.rest = &self.rest[1..];
        let mut values = Vec::new();
        while !self.take(end) {
            values.push(self.value(depth + 1)?);
            if !self.take(',') && !self.rest.starts_with(end) {
                return None;
            }
        }
        Some(Value::Array(values))
    }

    fn string(&mut self) -> Option<String> {
        let mut characters = self.rest.char_indices();
        let (_, quote) = characters.next()?;
        let mut text = String::new();
        while let Some((index, character)) = characters.next() {
            match character {
                '\\' => text.push(characters.next()?.1),
                _ if character == quote => {
                    self.rest = &self.rest[index + quote.len_utf8()..];
                    return Some(text);
                }
                _ => text.push(character),
            }
        }
        None
    }

    /// A number, a constant, or the text up to the next comma or bracket outside of brackets.
    fn word(&mut self) -> Option<Value> {
        let mut open = 0_usize;
        let ends = |character: char| match character {
            '(' | '[' | '{' | '<' => {
                open += 1;
                false
            }
            ')' | ']' | '}' | '>' if open > 0 => {
                open -= 1;
                false
            }
            ',' | ':' | ')' | ']' | '}' => open == 0,
            _ => false,
        };
        let end = self.rest.find(ends).unwrap_or(self.rest.len());
        let word = self.rest[..end].trim();
        self.rest = &self.rest[end..];
        let number = || {
            let whole = word.parse::<i64>().ok().map(Number::from);
            whole.or_else(|| word.parse::<f64>().ok().and_then(Number::from_f64)).map(Value::Number)
        };
        match word {
            "" => None,
            "None" | "null" => Some(Value::Null),
            "True" | "true" => Some(Value::Bool(true)),
            "False" | "false" => Some(Value::Bool(false)),
            _ => Some(number().unwrap_or_else(|| Value::String(word.to_owned()))),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn what_vllm_prints_is_read() {
        let text = "{'model': 'a/b', 'gpu_memory_utilization': 0.95, 'sizes': [1, 2], 'eager': True, 'none': None, \
                    'config': Config(a=1, b=[2]), 'mode': <Mode.FULL: (2, 1)>, 'spec': {'n': 3}} and more";
        let expected = json!({"model": "a/b", "gpu_memory_utilization": 0.95, "sizes": [1, 2], "eager": true,
            "none": null, "config": "Config(a=1, b=[2])", "mode": "<Mode.FULL: (2, 1)>", "spec": {"n": 3}});
        assert_eq!(read(text), Some(expected));
        assert_eq!(read(r"{'a': 'it\'s', 1: ()}"), Some(json!({"a": "it's", "1": []})));
    }

    #[test]
    fn what_breaks_off_is_nothing() {
        for text in ["", "{'a': ", "{'a' 1}", "[1, 2", "'open", &"[".repeat(1000)] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in r#"[\PC\n{}\[\]()'",:\\<>]{0,200}"#) {
            read(&text);
        }
    }
}
