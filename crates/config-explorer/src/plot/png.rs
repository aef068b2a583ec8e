//! Pictures of pixels, drawn from the SVG with the embedded font only: the same bytes on every machine.

use std::sync::Arc;

use resvg::tiny_skia::{Pixmap, Transform};
use resvg::usvg;

use super::text::{REGULAR, SEMI_BOLD};
use crate::{Error, Result};

/// The SVG as PNG; `scale` pixels for each pixel of the SVG.
pub(super) fn from_svg(svg: &str, width: u32, height: u32, scale: f32) -> Result<Vec<u8>> {
    let failed = |reason: String| Error::Malformed { place: "the picture as SVG".to_owned(), reason };
    let mut fonts = usvg::fontdb::Database::new();
    fonts.load_font_data(REGULAR.to_vec());
    fonts.load_font_data(SEMI_BOLD.to_vec());
    let options = usvg::Options { fontdb: Arc::new(fonts), ..usvg::Options::default() };
    let tree = usvg::Tree::from_str(svg, &options).map_err(|error| failed(error.to_string()))?;

    let pixels = |length: u32| (length as f32 * scale).round() as u32;
    let mut pixmap = Pixmap::new(pixels(width), pixels(height))
        .ok_or_else(|| failed(format!("{width} x {height} at scale {scale} has no pixels")))?;
    resvg::render(&tree, Transform::from_scale(scale, scale), &mut pixmap.as_mut());
    pixmap.encode_png().map_err(|error| failed(error.to_string()))
}
