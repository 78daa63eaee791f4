//! How does every figure begin and end? The colours follow the reader's preference for light or
//! dark.

/// The width of every figure.
pub(crate) const WIDTH: usize = 900;

/// A figure of this height around what is drawn on it, with a note at its foot.
pub(crate) fn figure(height: usize, drawn: &str, note: &str) -> String {
    let foot = height - 8;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" \
         height=\"{height}\" role=\"img\">\n<style>{STYLE}</style>\n{drawn}\
         <text class=\"note\" x=\"4\" y=\"{foot}\">{note}</text>\n</svg>\n"
    )
}

/// The title of a panel, whose own space begins at `y`.
pub(crate) fn title(y: usize, text: &str) -> String {
    let y = y - 8;
    format!("<text class=\"title\" x=\"4\" y=\"{y}\">{text}</text>\n")
}

const STYLE: &str = "\
text{font:12px system-ui,sans-serif;fill:#24292f}\
.title{font-weight:600;font-size:13px}.note{fill:#6e7781}\
.gate{fill:#1a7f64}.peer{fill:#57606a}.blind{fill:#b6bec7}\
polyline{fill:none;stroke-width:1.5}.good{stroke:#1a7f64}.hostile{stroke:#cf222e}\
.axis{stroke:#b6bec7}.out{fill:#9a6700;opacity:.18}.reload{fill:#1a7f64}.refused{fill:#cf222e}\
@media(prefers-color-scheme:dark){text{fill:#e6edf3}.note{fill:#8d96a0}\
.gate{fill:#3fb68b}.peer{fill:#8d96a0}.blind{fill:#484f58}\
.good{stroke:#3fb68b}.hostile{stroke:#ff7b72}.axis{stroke:#484f58}.out{fill:#d29922;opacity:.3}\
.reload{fill:#3fb68b}.refused{fill:#ff7b72}}";
