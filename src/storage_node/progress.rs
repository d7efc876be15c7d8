//! A progress bar on standard error, where that is a terminal; nothing otherwise.

use std::io::IsTerminal as _;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Shows how far a tool is. Gone from the screen when it is dropped.
pub(super) struct Progress(ProgressBar);

impl Progress {
    /// Of so many bytes.
    pub(super) fn of_bytes(what: &'static str, bytes: u64) -> Self {
        Self::new(
            what,
            bytes,
            "{msg} {wide_bar} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left",
        )
    }

    /// Of so many things.
    pub(super) fn of_items(what: &'static str, items: u64) -> Self {
        Self::new(what, items, "{msg} {wide_bar} {human_pos} of {human_len}, {eta} left")
    }

    fn new(what: &'static str, length: u64, template: &str) -> Self {
        let target = if std::io::stderr().is_terminal() {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        let bar = ProgressBar::with_draw_target(Some(length), target).with_message(what);
        let style = ProgressStyle::with_template(template);
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Self(bar)
    }

    /// So much more is done.
    pub(super) fn advance(&self, count: u64) {
        self.0.inc(count);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
