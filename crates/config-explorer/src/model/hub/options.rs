//! Where models are looked for, from the environment that all Hugging Face programs share.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// An access token. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// The token without the line ends and spaces that files and shells add; `None` if nothing is left.
    pub fn new(token: &str) -> Option<Self> {
        let token: String = token.chars().filter(|character| !matches!(character, '\r' | '\n')).collect();
        let token = token.trim();
        (!token.is_empty()).then(|| Self(token.to_owned()))
    }

    pub(super) fn secret(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Token(hidden)")
    }
}

/// Where and how a model is looked for.
#[derive(Debug, Clone)]
pub struct LoadOptions {
    /// Branch, tag or commit; `None` is the main branch.
    pub revision: Option<String>,
    /// Use local files only.
    pub offline: bool,
    /// The hub, without a slash at its end.
    pub endpoint: String,
    /// Token for the hub, sent to no other host.
    pub token: Option<Token>,
    /// The cache that Hugging Face programs share.
    pub hub_cache: PathBuf,
    /// Our own cache of what was read of safetensors headers.
    pub header_cache: PathBuf,
    /// How long to wait for a connection, for an answer, and for the next bytes of one.
    pub timeout: Duration,
    /// Pauses before a request is tried again, one for each try.
    pub retry_delays: Vec<Duration>,
}

impl LoadOptions {
    /// The options that the environment asks for, with the names, precedence and defaults of `huggingface_hub`
    /// (`constants.py`, `utils/_auth.py`). `variable` looks up an environment variable; empty ones count as unset.
    pub fn from_env(variable: impl Fn(&str) -> Option<String>) -> Self {
        let get = |names: &[&str]| names.iter().find_map(|name| variable(name).filter(|value| !value.is_empty()));
        let home = get(&["HOME", "USERPROFILE"]).map(PathBuf::from).or_else(std::env::home_dir).unwrap_or_default();
        let path = |names: &[&str]| get(names).map(|path| expand_home(&path, &home));

        let cache_home = path(&["XDG_CACHE_HOME"]).unwrap_or_else(|| home.join(".cache"));
        let hf_home = path(&["HF_HOME"]).unwrap_or_else(|| cache_home.join("huggingface"));
        let token_path = path(&["HF_TOKEN_PATH"]).unwrap_or_else(|| hf_home.join("token"));
        Self {
            revision: None,
            offline: get(&["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"]).is_some_and(|value| is_true(&value)),
            endpoint: get(&["HF_ENDPOINT"])
                .unwrap_or_else(|| "https://huggingface.co".to_owned())
                .trim_end_matches('/')
                .to_owned(),
            token: get(&["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"])
                .or_else(|| fs::read_to_string(token_path).ok())
                .and_then(|token| Token::new(&token)),
            hub_cache: path(&["HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"]).unwrap_or_else(|| hf_home.join("hub")),
            header_cache: cache_home.join("config-explorer").join("headers"),
            timeout: Duration::from_secs(10),
            retry_delays: vec![Duration::from_millis(500), Duration::from_secs(2)],
        }
    }

    /// The revision as the hub knows it.
    pub(crate) fn revision(&self) -> &str {
        self.revision.as_deref().unwrap_or("main")
    }
}

/// `huggingface_hub`'s `ENV_VARS_TRUE_VALUES`.
fn is_true(value: &str) -> bool {
    ["1", "ON", "YES", "TRUE"].contains(&value.to_uppercase().as_str())
}

fn expand_home(path: &str, home: &Path) -> PathBuf {
    match path.strip_prefix('~') {
        Some("") => home.to_owned(),
        Some(rest) if rest.starts_with('/') => home.join(&rest[1..]),
        _ => PathBuf::from(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(variables: &[(&str, &str)]) -> LoadOptions {
        LoadOptions::from_env(|name| {
            let value = variables.iter().find(|(known, _)| *known == name)?.1;
            Some(value.to_owned())
        })
    }

    #[test]
    fn defaults_are_those_of_huggingface_hub() {
        let options = options(&[("HOME", "/home/user"), ("HF_TOKEN", "")]);
        assert_eq!(options.endpoint, "https://huggingface.co");
        assert_eq!(options.hub_cache, Path::new("/home/user/.cache/huggingface/hub"));
        assert_eq!(options.header_cache, Path::new("/home/user/.cache/config-explorer/headers"));
        assert!(!options.offline && options.token.is_none() && options.revision.is_none());
    }

    #[test]
    fn the_more_specific_variable_wins() {
        let environment = [
            ("HOME", "/home/user"),
            ("XDG_CACHE_HOME", "/xdg"),
            ("HF_HOME", "~/hf"),
            ("HUGGINGFACE_HUB_CACHE", "/legacy"),
            ("HUGGING_FACE_HUB_TOKEN", "hf_legacy"),
            ("HF_ENDPOINT", "https://mirror/"),
            ("HF_HUB_OFFLINE", "yes"),
            ("HF_HUB_CACHE", "/hub"),
            ("HF_TOKEN", " hf_new\n"),
        ];
        let all = options(&environment);
        assert_eq!((all.endpoint.as_str(), all.offline), ("https://mirror", true));
        assert_eq!(all.hub_cache, Path::new("/hub"));
        assert_eq!(all.header_cache, Path::new("/xdg/config-explorer/headers"));
        assert_eq!(all.token, Token::new("hf_new"));
        let legacy = options(&environment[..7]);
        assert_eq!(legacy.hub_cache, Path::new("/legacy"));
        assert_eq!(legacy.token, Token::new("hf_legacy"));
        assert_eq!(options(&environment[..3]).hub_cache, Path::new("/home/user/hf/hub"));
        assert_eq!(options(&environment[..2]).hub_cache, Path::new("/xdg/huggingface/hub"));
    }

    #[test]
    fn the_token_is_read_from_its_file_and_never_printed() {
        let directory = tempfile::tempdir().unwrap();
        let home = directory.path().to_str().unwrap();
        let file = directory.path().join("token");
        fs::write(&file, "hf_secret\n").unwrap();
        for environment in [[("HF_HOME", home)], [("HF_TOKEN_PATH", file.to_str().unwrap())]] {
            let options = options(&environment);
            assert_eq!(options.token, Token::new("hf_secret"));
            assert!(!format!("{options:?}").contains("secret"));
        }
    }
}
