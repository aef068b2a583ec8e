//! Types of flag values: how each is read from the command line and printed back.

use std::num::{NonZeroU32, NonZeroU64};

use serde_json::{Map, Value};

use crate::model::DType;

/// A JSON object, as `--speculative-config` and its like take it.
pub type JsonObject = Map<String, Value>;

/// What kind of value a flag takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlagKind {
    /// None: `--name` turns it on, `--no-name` off.
    Switch,
    /// A whole number.
    Integer,
    /// A whole number that may be written `8k` (8000), `8K` (8192), `25.6k`.
    Size,
    /// Like `Size`, or `auto` (also written `-1`).
    Length,
    /// A decimal number.
    Number,
    /// A decimal number above 0, at most 1.
    Fraction,
    /// Any text.
    Text,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A JSON object.
    Json,
    /// `image=2,video=0`, or a JSON object.
    Limits,
    /// One text or several.
    TextList,
    /// One whole number or several.
    IntegerList,
}

impl FlagKind {
    /// Several words may follow the flag.
    pub fn is_list(self) -> bool {
        matches!(self, Self::TextList | Self::IntegerList)
    }
}

/// A value that is one word.
pub(super) trait Scalar: Sized {
    /// What the word is.
    const KIND: FlagKind;
    /// The value, or what is wrong with the word and what would be right.
    fn read(word: &str) -> Result<Self, String>;
    /// The word that reads back as this value.
    fn print(&self) -> String;
}

/// A value as the words behind its flag.
pub(super) trait FlagValue: Sized {
    /// What the words are.
    const KIND: FlagKind;
    /// The value, or what is wrong and what would be right.
    fn read_words(words: &[String]) -> Result<Self, String>;
    /// The words that read back as this value.
    fn words(&self) -> Vec<String>;
}

impl<T: Scalar> FlagValue for T {
    const KIND: FlagKind = <T as Scalar>::KIND;

    fn read_words(words: &[String]) -> Result<Self, String> {
        match words {
            [word] => T::read(word),
            _ => Err("needs a value".to_owned()),
        }
    }

    fn words(&self) -> Vec<String> {
        vec![self.print()]
    }
}

/// One word or several.
macro_rules! list {
    ($type:ty, $kind:ident) => {
        impl FlagValue for Vec<$type> {
            const KIND: FlagKind = FlagKind::$kind;

            fn read_words(words: &[String]) -> Result<Self, String> {
                if words.is_empty() {
                    return Err("needs a value".to_owned());
                }
                words.iter().map(|word| <$type>::read(word)).collect()
            }

            fn words(&self) -> Vec<String> {
                self.iter().map(Scalar::print).collect()
            }
        }
    };
}

list!(String, TextList);
list!(u32, IntegerList);

impl Scalar for bool {
    const KIND: FlagKind = FlagKind::Switch;

    fn read(word: &str) -> Result<Self, String> {
        match word.to_ascii_lowercase().as_str() {
            "true" | "1" => Ok(true),
            "false" | "0" => Ok(false),
            _ => Err(format!("`{word}` is neither `true` nor `false`")),
        }
    }

    fn print(&self) -> String {
        self.to_string()
    }
}

impl Scalar for String {
    const KIND: FlagKind = FlagKind::Text;

    fn read(word: &str) -> Result<Self, String> {
        Ok(word.to_owned())
    }

    fn print(&self) -> String {
        self.clone()
    }
}

macro_rules! integer {
    ($type:ty) => {
        impl Scalar for $type {
            const KIND: FlagKind = FlagKind::Integer;

            fn read(word: &str) -> Result<Self, String> {
                let number = word.trim().parse();
                number.map_err(|_| format!("`{word}` is not a whole number from {} to {}", Self::MIN, Self::MAX))
            }

            fn print(&self) -> String {
                self.to_string()
            }
        }
    };
}

integer!(u16);
integer!(u32);
integer!(NonZeroU32);

impl Scalar for NonZeroU64 {
    const KIND: FlagKind = FlagKind::Size;

    fn read(word: &str) -> Result<Self, String> {
        Self::new(human_readable(word)?).ok_or_else(|| "must be above 0".to_owned())
    }

    fn print(&self) -> String {
        self.to_string()
    }
}

/// A whole number with an optional suffix: decimal in lower case (`8k` is 8000, `25.6k` is 25600), binary in upper case
/// (`8K` is 8192, no decimals). Follows vLLM's `human_readable_int`.
fn human_readable(word: &str) -> Result<u64, String> {
    let invalid = || format!("`{word}` is not a whole number such as 8192, 8k (8000) or 8K (8192)");
    let text = word.trim();
    let Some(position) = text.find(|c: char| c.is_ascii_alphabetic()) else {
        return text.parse().map_err(|_| invalid());
    };
    let (number, suffix) = text.split_at(position);
    if !number.starts_with(|c: char| c.is_ascii_digit()) || !number.ends_with(|c: char| c.is_ascii_digit()) {
        return Err(invalid());
    }
    let (decimal, binary) = match suffix.to_ascii_lowercase().as_str() {
        "k" => (1e3, 1 << 10),
        "m" => (1e6, 1 << 20),
        "g" => (1e9, 1 << 30),
        "t" => (1e12, 1 << 40),
        _ => return Err(invalid()),
    };
    if suffix.starts_with(|char: char| char.is_ascii_lowercase()) {
        let value = number.parse::<f64>().map_err(|_| invalid())? * decimal;
        return if value < u64::MAX as f64 { Ok(value as u64) } else { Err(invalid()) };
    }
    let whole: u64 = number.parse().map_err(|_| {
        format!("`{word}`: a binary suffix takes no decimals; did you mean `{}`?", text.to_ascii_lowercase())
    })?;
    whole.checked_mul(binary).ok_or_else(invalid)
}

impl Scalar for f64 {
    const KIND: FlagKind = FlagKind::Number;

    fn read(word: &str) -> Result<Self, String> {
        match word.trim().parse::<Self>() {
            Ok(number) if number.is_finite() && number >= 0.0 => Ok(number),
            _ => Err(format!("`{word}` is not a number from 0 up")),
        }
    }

    fn print(&self) -> String {
        self.to_string()
    }
}

/// A share: above 0, at most 1.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Fraction(f64);

impl Fraction {
    /// The share, if it is one.
    pub fn new(value: f64) -> Option<Self> {
        (value > 0.0 && value <= 1.0).then_some(Self(value))
    }

    /// The share as a number.
    pub fn get(self) -> f64 {
        self.0
    }
}

impl Scalar for Fraction {
    const KIND: FlagKind = FlagKind::Fraction;

    fn read(word: &str) -> Result<Self, String> {
        let number = word.trim().parse().ok().and_then(Self::new);
        number.ok_or_else(|| format!("`{word}` is not above 0 and at most 1, such as 0.9"))
    }

    fn print(&self) -> String {
        self.0.to_string()
    }
}

/// `--max-model-len`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MaxModelLen {
    /// The longest that fits (`auto` or `-1`).
    Auto,
    /// So many tokens.
    Tokens(NonZeroU64),
}

impl Scalar for MaxModelLen {
    const KIND: FlagKind = FlagKind::Length;

    fn read(word: &str) -> Result<Self, String> {
        let text = word.trim();
        if text == "-1" || text.eq_ignore_ascii_case("auto") {
            return Ok(Self::Auto);
        }
        let tokens = NonZeroU64::read(text);
        tokens.map(Self::Tokens).map_err(|reason| format!("{reason}; `auto` takes the longest that fits"))
    }

    fn print(&self) -> String {
        match self {
            Self::Auto => "auto".to_owned(),
            Self::Tokens(tokens) => tokens.to_string(),
        }
    }
}

/// An element type, or `auto` (what the checkpoint says).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DTypeChoice {
    /// What the checkpoint says.
    Auto,
    /// This type: `float16`, `bfloat16` or `float32`.
    Is(DType),
}

impl Scalar for DTypeChoice {
    const KIND: FlagKind = FlagKind::Choice(&["auto", "half", "float16", "bfloat16", "float", "float32"]);

    fn read(word: &str) -> Result<Self, String> {
        match (word, DType::from_torch(word)) {
            ("auto", _) => Ok(Self::Auto),
            (_, Some(dtype @ (DType::F16 | DType::BF16 | DType::F32))) => Ok(Self::Is(dtype)),
            _ => Err(format!("`{word}` is not one of auto, half, float16, bfloat16, float, float32")),
        }
    }

    fn print(&self) -> String {
        match self {
            Self::Auto => "auto".to_owned(),
            Self::Is(dtype) => dtype.torch_name().to_owned(),
        }
    }
}

/// An enum of words, spelled as vLLM spells them.
macro_rules! choice {
    ($(#[$meta:meta])* $name:ident { $($(#[$variant_meta:meta])* $variant:ident = $word:literal),* $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
        pub enum $name { $($(#[$variant_meta])* #[serde(rename = $word)] $variant),* }

        impl $name {
            /// The word, as vLLM spells it.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),* }
            }
        }

        impl Scalar for $name {
            const KIND: FlagKind = FlagKind::Choice(&[$($word),*]);

            fn read(word: &str) -> Result<Self, String> {
                match word {
                    $($word => Ok(Self::$variant),)*
                    _ => Err(format!("`{word}` is not one of {}", [$($word),*].join(", "))),
                }
            }

            fn print(&self) -> String {
                self.as_str().to_owned()
            }
        }
    };
}

choice! {
    /// Element type of the KV cache (vLLM 0.25: `config/cache.py`, `CacheDType`).
    KvCacheDType {
        /// The model's type, or what the checkpoint asks for.
        Auto = "auto",
        /// 2 bytes.
        Float16 = "float16",
        /// 2 bytes.
        BFloat16 = "bfloat16",
        /// 1 byte: `fp8_e4m3` on CUDA.
        Fp8 = "fp8",
        /// 1 byte.
        Fp8E4M3 = "fp8_e4m3",
        /// 1 byte.
        Fp8E5M2 = "fp8_e5m2",
        /// 1 byte, Intel Gaudi.
        Fp8Inc = "fp8_inc",
        /// DeepSeek's MLA layout: 656 bytes for each token and layer.
        Fp8DsMla = "fp8_ds_mla",
        /// 1 byte and a scale for each token and head.
        Fp8PerTokenHead = "fp8_per_token_head",
        /// 1 byte and a scale for each token and head.
        Int8PerTokenHead = "int8_per_token_head",
        /// 4 bits and a scale for each token and head.
        Int4PerTokenHead = "int4_per_token_head",
        /// 4 bits and a scale for each 16 elements.
        Nvfp4 = "nvfp4",
        /// TurboQuant: keys in 8 bits, values in 4.
        TurboquantK8V4 = "turboquant_k8v4",
        /// TurboQuant: 4 bits.
        Turboquant4BitNc = "turboquant_4bit_nc",
        /// TurboQuant: keys in 3 bits, values in 4.
        TurboquantK3V4Nc = "turboquant_k3v4_nc",
        /// TurboQuant: 3 bits.
        Turboquant3BitNc = "turboquant_3bit_nc",
    }
}

impl KvCacheDType {
    /// The element type; `None` for `auto`.
    ///
    /// # Errors
    /// [`InvalidSetting`](crate::Error::InvalidSetting) for a format with scales of its own, whose size is not modelled.
    pub fn element(self) -> crate::Result<Option<DType>> {
        Ok(match self {
            Self::Auto => None,
            Self::Float16 => Some(DType::F16),
            Self::BFloat16 => Some(DType::BF16),
            Self::Fp8 | Self::Fp8E4M3 | Self::Fp8Inc | Self::Fp8DsMla => Some(DType::F8E4M3),
            Self::Fp8E5M2 => Some(DType::F8E5M2),
            other => {
                return Err(crate::Error::InvalidSetting {
                    setting: "--kv-cache-dtype".to_owned(),
                    reason: format!("the size of a `{}` cache is not modelled", other.as_str()),
                });
            }
        })
    }
}

choice! {
    /// Which states of Mamba and linear-attention layers are kept for prefix caching.
    MambaCacheMode {
        /// The running state only.
        None = "none",
        /// The running state and the last one at a block's end.
        Align = "align",
        /// The state at every block's end.
        All = "all",
    }
}

impl Default for MambaCacheMode {
    /// vLLM's own (`config/cache.py`).
    fn default() -> Self {
        Self::None
    }
}

fn read_object(word: &str) -> Result<JsonObject, String> {
    match serde_json::from_str(word) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(format!("`{word}` is JSON but not an object such as {{\"key\": \"value\"}}")),
        Err(error) => Err(format!("`{word}` is not JSON: {error}")),
    }
}

fn print_object(object: &JsonObject) -> String {
    Value::Object(object.clone()).to_string()
}

impl Scalar for JsonObject {
    const KIND: FlagKind = FlagKind::Json;

    fn read(word: &str) -> Result<Self, String> {
        read_object(word)
    }

    fn print(&self) -> String {
        print_object(self)
    }
}

/// `--limit-mm-per-prompt`: by modality, how many items a prompt may hold, as a count or as an object with `count` and
/// the size of an item.
#[derive(Debug, Clone, PartialEq)]
pub struct MultimodalLimits(pub JsonObject);

impl Scalar for MultimodalLimits {
    const KIND: FlagKind = FlagKind::Limits;

    fn read(word: &str) -> Result<Self, String> {
        if word.trim_start().starts_with('{') {
            return read_object(word).map(Self);
        }
        let pair = |pair: &str| {
            let (modality, count) = pair.split_once('=')?;
            Some((modality.trim().to_owned(), Value::from(count.trim().parse::<u32>().ok()?)))
        };
        let limits: Option<JsonObject> = word.split(',').map(pair).collect();
        limits.map(Self).ok_or_else(|| format!("`{word}` is neither `image=2,video=0` nor a JSON object"))
    }

    fn print(&self) -> String {
        print_object(&self.0)
    }
}

/// What stands behind a dot (`--speculative-config.num_speculative_tokens 3`): JSON where it is JSON, else a number
/// with a suffix, else text.
pub(super) fn read_dotted(word: &str) -> Value {
    serde_json::from_str(word).or_else(|_| human_readable(word).map(Value::from)).unwrap_or_else(|_| Value::from(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Examples of vLLM's `human_readable_int`.
    #[test]
    fn sizes_follow_vllm() {
        for (word, expected) in [
            ("8192", 8192),
            ("1k", 1000),
            ("1K", 1024),
            ("25.6k", 25_600),
            ("2M", 2_097_152),
            ("2.5g", 2_500_000_000),
            (" 32k ", 32_000),
            ("1T", 1 << 40),
        ] {
            assert_eq!(human_readable(word), Ok(expected), "{word}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for word in ["", "k", "1.5K", "1kk", "1e3", "-5", "+5k", ".5k", "5.k", "1.2.3k", "99999999999999999999t", "9T9"]
        {
            assert!(human_readable(word).is_err(), "{word}");
        }
        assert!(human_readable("16777216T").is_err(), "2^64 does not fit");
        let message = human_readable("25.6K").unwrap_err();
        assert!(message.contains("did you mean `25.6k`"), "{message}");
    }

    #[test]
    fn shares_are_above_zero_and_at_most_one() {
        assert_eq!(Fraction::read("0.92").map(Fraction::get), Ok(0.92));
        for word in ["0", "1.01", "-0.5", "NaN", "90%"] {
            assert!(Fraction::read(word).is_err(), "{word}");
        }
    }

    #[test]
    fn limits_read_both_forms() {
        let old = MultimodalLimits::read("image=2, video=0").unwrap();
        let json = MultimodalLimits::read(r#"{"image": 2, "video": 0}"#).unwrap();
        assert_eq!(old, json);
        for word in ["image", "image=two", "", "[1]", "{"] {
            assert!(MultimodalLimits::read(word).is_err(), "{word}");
        }
    }
}
