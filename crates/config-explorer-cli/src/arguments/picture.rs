//! Size and colours of pictures.

use std::path::Path;

use clap::Args;
use config_explorer::Error;
use config_explorer::plot::{Appearance, Chart, Format, Theme};

/// How a picture looks.
#[derive(Debug, Args)]
pub(crate) struct AppearanceArgs {
    /// Width in pixels.
    #[arg(long, value_name = "PIXELS", default_value_t = 960)]
    width: u32,

    /// Height in pixels.
    #[arg(long, value_name = "PIXELS", default_value_t = 600)]
    height: u32,

    /// Pixels of a PNG for each of these pixels.
    #[arg(long, value_name = "FACTOR", default_value_t = 2.0)]
    scale: f32,

    /// Colours; `auto` follows the reader's screen, and is light in a PNG.
    #[arg(long, value_enum, default_value = "auto")]
    theme: ThemeName,
}

/// The themes.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum ThemeName {
    Auto,
    Light,
    Dark,
}

impl AppearanceArgs {
    /// Writes a chart into a file and says so on stderr.
    pub(crate) fn write(&self, chart: &Chart, path: &Path) -> Result<(), Error> {
        let theme = match self.theme {
            ThemeName::Auto => Theme::Auto,
            ThemeName::Light => Theme::Light,
            ThemeName::Dark => Theme::Dark,
        };
        write(chart, path, &Appearance { width: self.width, height: self.height, scale: self.scale, theme })
    }
}

/// Writes a chart into a file whose ending names the format, and says so on stderr.
pub(crate) fn write(chart: &Chart, path: &Path, appearance: &Appearance) -> Result<(), Error> {
    let file = chart.render(Format::of(path)?, appearance)?;
    std::fs::write(path, file).map_err(|source| Error::Io { path: path.to_owned(), source })?;
    anstream::eprintln!("wrote {}", path.display());
    Ok(())
}
