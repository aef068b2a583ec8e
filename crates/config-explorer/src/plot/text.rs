//! Widths of text in the embedded font, and text cut to a width.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::LazyLock;

use skrifa::instance::{LocationRef, Size};
use skrifa::{FontRef, MetadataProvider};

/// Inter Regular and Semi Bold: Latin, Greek, Cyrillic and the signs that units and objectives need.
pub(super) const REGULAR: &[u8] = include_bytes!("../../assets/fonts/Inter-Regular.otf");
pub(super) const SEMI_BOLD: &[u8] = include_bytes!("../../assets/fonts/Inter-SemiBold.otf");

/// Weight of the letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Weight {
    Regular,
    SemiBold,
}

/// Width of each character at size 1.
static WIDTHS: LazyLock<[HashMap<char, f32>; 2]> = LazyLock::new(|| [REGULAR, SEMI_BOLD].map(advances));

fn advances(font: &[u8]) -> HashMap<char, f32> {
    let Ok(font) = FontRef::new(font) else { return HashMap::new() };
    let metrics = font.glyph_metrics(Size::new(1.0), LocationRef::default());
    font.charmap()
        .mappings()
        .filter_map(|(code, glyph)| Some((char::from_u32(code)?, metrics.advance_width(glyph)?)))
        .collect()
}

/// Width of one line of text, in the unit of `size`.
pub(super) fn width(text: &str, size: f64, weight: Weight) -> f64 {
    let widths = &WIDTHS[weight as usize];
    // Characters that the font lacks are drawn by the viewer's own fonts; ideographs and pictures are one size wide.
    let of =
        |character: char| widths.get(&character).copied().unwrap_or(if character < '\u{1100}' { 0.65 } else { 1.0 });
    size * text.chars().map(|character| f64::from(of(character))).sum::<f64>()
}

/// The text, cut to a width with an ellipsis.
pub(super) fn truncated(text: &str, size: f64, weight: Weight, most: f64) -> Cow<'_, str> {
    if width(text, size, weight) <= most {
        return Cow::Borrowed(text);
    }
    let mut room = most - width("…", size, weight);
    let end = text
        .char_indices()
        .find(|(at, character)| {
            room -= width(&text[*at..*at + character.len_utf8()], size, weight);
            room < 0.0
        })
        .map_or(text.len(), |(at, _)| at);
    Cow::Owned(format!("{}…", text[..end].trim_end()))
}

/// The text in lines of at most this width, broken at spaces; what does not fit into `most_lines` is cut.
pub(super) fn wrapped(text: &str, size: f64, weight: Weight, most: f64, most_lines: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut words = text.split_whitespace().peekable();
    while words.peek().is_some() {
        let mut line = String::new();
        let last = lines.len() + 1 == most_lines;
        while let Some(word) = words.peek() {
            let longer = if line.is_empty() { (*word).to_owned() } else { format!("{line} {word}") };
            if !last && !line.is_empty() && width(&longer, size, weight) > most {
                break;
            }
            line = longer;
            words.next();
        }
        lines.push(truncated(&line, size, weight, most).into_owned());
    }
    lines
}

/// Names without the words with which all of them start: the rest is what tells them apart.
pub(super) fn without_common_start(names: &[&str]) -> Vec<String> {
    let after_word = |text: &str| text.rfind(' ').map_or(0, |at| at + 1);
    let first = names.first().copied().unwrap_or_default();
    let mut common = if names.len() > 1 { after_word(first) } else { 0 };
    for name in names {
        while common > 0 && !name.starts_with(&first[..common]) {
            common = after_word(&first[..common - 1]);
        }
    }
    let shorten = |name: &&str| if common > 0 { format!("… {}", &name[common..]) } else { (*name).to_owned() };
    names.iter().map(shorten).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_font_has_widths_for_what_charts_say() {
        for font in &*WIDTHS {
            for character in "Aaµ≤≥±×·−—–…→αЖé²∞".chars() {
                assert!(font.contains_key(&character), "{character}");
            }
        }
        assert!(width("iii", 10.0, Weight::Regular) < width("WWW", 10.0, Weight::Regular));
        assert!(width("tok/s", 10.0, Weight::Regular) < width("tok/s", 10.0, Weight::SemiBold));
    }

    #[test]
    fn names_lose_the_words_they_share() {
        assert_eq!(without_common_start(&["weight 3 TP 2", "weight 3 TP 4"]), ["… 2", "… 4"]);
        assert_eq!(without_common_start(&["weight 3é x", "weight 3è x"]), ["… 3é x", "… 3è x"]);
        assert_eq!(without_common_start(&["a b", "b a"]), ["a b", "b a"]);
        assert_eq!(without_common_start(&["only one"]), ["only one"]);
        assert!(without_common_start(&[]).is_empty());
    }

    #[test]
    fn text_is_cut_and_wrapped_to_its_width() {
        let long = "Llama-3.3-70B-Instruct on NVIDIA H100 with prefix-aware routing";
        let cut = truncated(long, 12.0, Weight::Regular, 150.0);
        assert!(cut.ends_with('…') && width(&cut, 12.0, Weight::Regular) <= 150.0, "{cut}");
        assert_eq!(truncated("short", 12.0, Weight::Regular, 150.0), "short");
        assert_eq!(truncated("wide", 12.0, Weight::Regular, 0.0), "…");

        let lines = wrapped(long, 12.0, Weight::Regular, 170.0, 2);
        assert_eq!(lines.len(), 2);
        assert!(lines.iter().all(|line| width(line, 12.0, Weight::Regular) <= 170.0), "{lines:?}");
        assert!(lines[1].ends_with('…'));
        assert!(wrapped("  ", 12.0, Weight::Regular, 170.0, 2).is_empty());
    }
}
