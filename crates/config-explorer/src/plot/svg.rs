//! Writes SVG. Colours live in one style sheet, so that a picture follows the reader's light or dark theme; shapes have
//! classes. Coordinates are to the hundredth of a pixel.

use std::fmt::Write as _;

use super::Theme;
use super::palette::{Colours, DARK, LIGHT};
use super::text::{self, Weight};

/// An SVG document under construction.
pub(super) struct Svg {
    out: String,
}

/// How a line of text stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct TextStyle<'a> {
    pub(super) size: f64,
    pub(super) weight: Weight,
    /// `start`, `middle` or `end`.
    pub(super) anchor: &'static str,
    pub(super) class: &'a str,
    /// Turned by 90 degrees, reading upwards.
    pub(super) upright: bool,
}

impl<'a> TextStyle<'a> {
    pub(super) fn new(size: f64) -> Self {
        Self { size, weight: Weight::Regular, anchor: "start", class: "", upright: false }
    }

    pub(super) fn anchor(self, anchor: &'static str) -> Self {
        Self { anchor, ..self }
    }

    pub(super) fn class(self, class: &'a str) -> Self {
        Self { class, ..self }
    }

    pub(super) fn semi_bold(self) -> Self {
        Self { weight: Weight::SemiBold, ..self }
    }

    pub(super) fn upright(self) -> Self {
        Self { upright: true, ..self }
    }
}

impl Svg {
    /// An empty picture with its background.
    pub(super) fn new(width: f64, height: f64, theme: Theme, title: &str) -> Self {
        let mut svg = Self { out: String::with_capacity(16 * 1024) };
        let root = match theme {
            Theme::Auto => "cx-auto",
            Theme::Light => "cx-light",
            Theme::Dark => "cx-dark",
        };
        svg.raw(format_args!(
            r#"<svg xmlns="http://www.w3.org/2000/svg" width="{0}" height="{1}" viewBox="0 0 {0} {1}" class="{root}" role="img" aria-label="{2}" font-family="Inter,'Helvetica Neue',Arial,sans-serif">"#,
            Num(width),
            Num(height),
            Escaped(title)
        ));
        svg.out.push_str("\n<style>");
        svg.style(root, if theme == Theme::Dark { &DARK } else { &LIGHT });
        if theme == Theme::Auto {
            svg.out.push_str("@media(prefers-color-scheme:dark){");
            svg.style(root, &DARK);
            svg.out.push('}');
        }
        svg.out.push_str("</style>\n");
        svg.rect("bg", 0.0, 0.0, width, height);
        svg
    }

    fn style(&mut self, root: &str, colours: &Colours) {
        let mut rule = |selector: &str, body: String| self.raw(format_args!(".{root} {selector}{{{body}}}"));
        rule(".bg", format!("fill:{}", colours.background));
        rule("text", format!("fill:{}", colours.text));
        rule(".faint", format!("fill:{}", colours.faint_text));
        rule(".halo", format!("stroke:{};stroke-width:3;stroke-linejoin:round;paint-order:stroke", colours.background));
        rule(".axis", format!("stroke:{};fill:none", colours.axis));
        rule(".grid", format!("stroke:{};fill:none", colours.grid));
        rule(".minor", format!("stroke:{};fill:none", colours.minor_grid));
        rule(".shade", format!("fill:{}", colours.shade));
        rule(".limit", format!("stroke:{};stroke-width:1.3;stroke-dasharray:5 4;fill:none", colours.text));
        rule(".leader", format!("stroke:{};fill:none", colours.faint_text));
        rule(".line", "fill:none;stroke-linejoin:round;stroke-linecap:round".to_owned());
        rule(".mark", format!("stroke:{};stroke-linejoin:round", colours.background));
        rule(".lm", format!("stroke:{}", colours.muted));
        rule(".fm", format!("fill:{}", colours.muted));
        rule(".tm", format!("fill:{}", colours.text));
        for (index, (colour, on_colour)) in colours.series.iter().zip(colours.on_series).enumerate() {
            rule(&format!(".l{index}"), format!("stroke:{colour}"));
            rule(&format!(".f{index}"), format!("fill:{colour}"));
            rule(&format!(".t{index}"), format!("fill:{on_colour}"));
        }
    }

    /// Writes as it is; foreign text goes through [`Escaped`].
    pub(super) fn raw(&mut self, markup: std::fmt::Arguments<'_>) {
        // Writing to a String cannot fail.
        let _ = self.out.write_fmt(markup);
    }

    pub(super) fn rect(&mut self, class: &str, x: f64, y: f64, width: f64, height: f64) {
        self.raw(format_args!(
            "<rect class=\"{class}\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\"/>\n",
            Num(x),
            Num(y),
            Num(width.max(0.0)),
            Num(height.max(0.0))
        ));
    }

    pub(super) fn line(&mut self, class: &str, from: (f64, f64), to: (f64, f64)) {
        self.raw(format_args!(
            "<path class=\"{class}\" d=\"M{} {}L{} {}\"/>\n",
            Num(from.0),
            Num(from.1),
            Num(to.0),
            Num(to.1)
        ));
    }

    /// One line of text with its middle at `y`; `full` is shown under the pointer where it differs.
    pub(super) fn text(&mut self, at: (f64, f64), style: TextStyle<'_>, shown: &str, full: &str) {
        if shown.is_empty() {
            return;
        }
        // Capitals and figures are 0.72 high, so their middle is 0.36 above the baseline.
        let (x, y) = if style.upright { (at.0 + 0.36 * style.size, at.1) } else { (at.0, at.1 + 0.36 * style.size) };
        self.raw(format_args!("<text x=\"{}\" y=\"{}\" font-size=\"{}\"", Num(x), Num(y), Num(style.size)));
        if style.anchor != "start" {
            self.raw(format_args!(" text-anchor=\"{}\"", style.anchor));
        }
        if style.weight == Weight::SemiBold {
            self.out.push_str(" font-weight=\"600\"");
        }
        if !style.class.is_empty() {
            self.raw(format_args!(" class=\"{}\"", style.class));
        }
        if style.upright {
            self.raw(format_args!(" transform=\"rotate(-90 {} {})\"", Num(x), Num(y)));
        }
        self.raw(format_args!(">{}", Escaped(shown)));
        if shown != full {
            self.raw(format_args!("<title>{}</title>", Escaped(full)));
        }
        self.out.push_str("</text>\n");
    }

    /// Text cut to a width.
    pub(super) fn text_within(&mut self, at: (f64, f64), style: TextStyle<'_>, full: &str, most: f64) {
        let shown = text::truncated(full, style.size, style.weight, most);
        self.text(at, style, &shown, full);
    }

    pub(super) fn finish(mut self) -> String {
        self.out.push_str("</svg>\n");
        self.out
    }
}

/// A coordinate: at most two decimals, and never NaN, infinite or `-0`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Num(pub(super) f64);

/// No screen has more pixels; lines to points far outside the plot end here.
const FARTHEST: f64 = 1e6;

impl std::fmt::Display for Num {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // `as` makes 0 of NaN.
        let hundredths = (self.0.clamp(-FARTHEST, FARTHEST) * 100.0).round() as i64;
        if hundredths < 0 {
            f.write_char('-')?;
        }
        let (whole, rest) = (hundredths.abs() / 100, hundredths.abs() % 100);
        match rest {
            0 => write!(f, "{whole}"),
            rest if rest % 10 == 0 => write!(f, "{whole}.{}", rest / 10),
            rest => write!(f, "{whole}.{rest:02}"),
        }
    }
}

/// Foreign text as XML character data or attribute value. Characters that XML 1.0 forbids become U+FFFD.
pub(super) struct Escaped<'a>(pub(super) &'a str);

impl std::fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for character in self.0.chars() {
            match character {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                '\n' => f.write_char('\n')?,
                '\t' => f.write_char(' ')?,
                '\u{0}'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{fffe}' | '\u{ffff}' => f.write_char('\u{fffd}')?,
                _ => f.write_char(character)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coordinates_are_short_and_finite() {
        let written = |value: f64| Num(value).to_string();
        assert_eq!(written(12.0), "12");
        assert_eq!(written(12.3), "12.3");
        assert_eq!(written(-0.056), "-0.06");
        assert_eq!(written(-0.001), "0");
        assert_eq!(written(f64::NAN), "0");
        assert_eq!(written(f64::NEG_INFINITY), "-1000000");
    }

    #[test]
    fn foreign_text_cannot_leave_its_place() {
        assert_eq!(
            Escaped("</text><script>\"a\" & 'b'\u{0}\u{fffe} 模型").to_string(),
            "&lt;/text&gt;&lt;script&gt;&quot;a&quot; &amp; &#39;b&#39;\u{fffd}\u{fffd} 模型"
        );
    }
}
