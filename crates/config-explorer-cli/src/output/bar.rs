//! The memory of one GPU as a bar.

use std::fmt::Write;

use anstyle::{AnsiColor, Style};
use config_explorer::memory::MemoryPerGpu;

/// Cells of the bar.
const WIDTH: usize = 64;

/// A part of the memory.
struct Part {
    name: &'static str,
    gib: f64,
    symbol: char,
    color: AnsiColor,
}

/// The bar of one GPU and its legend. Parts that do not fit are cut off at the edge, and the legend says by how much.
pub(crate) fn draw(memory: &MemoryPerGpu) -> String {
    let overhead_gib = memory.non_torch_gib + memory.cuda_graph_gib;
    let kv_cache_gib = memory.kv_cache_gib.max(0.0);
    let free_gib = memory.total_gib - memory.weights_gib - memory.activation_gib - overhead_gib - kv_cache_gib;
    let parts = [
        Part { name: "weights", gib: memory.weights_gib, symbol: '█', color: AnsiColor::Blue },
        Part { name: "activation", gib: memory.activation_gib, symbol: '▓', color: AnsiColor::Yellow },
        Part { name: "overhead", gib: overhead_gib, symbol: '▒', color: AnsiColor::Magenta },
        Part { name: "KV cache", gib: kv_cache_gib, symbol: '░', color: AnsiColor::Green },
        Part { name: "free", gib: free_gib.max(0.0), symbol: '·', color: AnsiColor::BrightBlack },
    ];
    let mut text = format!("each GPU, {:.2} GiB  |", memory.total_gib);
    for (part, cells) in parts.iter().zip(cells(&parts, memory.total_gib)) {
        let style = Style::new().fg_color(Some(part.color.into()));
        let _ = write!(text, "{style}{}{style:#}", part.symbol.to_string().repeat(cells));
    }
    text.push_str("|\n");
    let legend = parts.iter().map(|part| {
        let style = Style::new().fg_color(Some(part.color.into()));
        format!("{style}{}{style:#} {} {:.2}", part.symbol, part.name, part.gib)
    });
    let _ = writeln!(text, "{}", legend.collect::<Vec<_>>().join("   "));
    if memory.kv_cache_gib < 0.0 {
        let _ = writeln!(text, "{:.2} GiB are missing before any KV cache", -memory.kv_cache_gib);
    }
    text.push('\n');
    text
}

/// Cells of each part: shares of the total, at least one for what is there, never more than the bar has.
fn cells(parts: &[Part], total_gib: f64) -> Vec<usize> {
    let mut left = WIDTH;
    let mut end_gib = 0.0;
    parts
        .iter()
        .map(|part| {
            end_gib += part.gib;
            let end = (end_gib / total_gib * WIDTH as f64).round() as usize;
            let cells = (end.saturating_sub(WIDTH - left)).max(usize::from(part.gib > 0.005)).min(left);
            left -= cells;
            cells
        })
        .collect()
}
