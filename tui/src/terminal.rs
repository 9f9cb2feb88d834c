//! Takes over the terminal and restores it.
//!
//! Guarantees:
//! * Raw mode and the alternate screen end when the [`Screen`] is dropped: on return, error and
//!   unwinding. With `panic = "abort"` the panic hook ends them.
//! * A panic on another thread, such as a supervised actor's, neither ends the monitor nor writes
//!   over it. Its message is buffered and printed to stderr at the end.
//!
//! Does not guarantee anything on `SIGKILL`.

use parking_lot::Mutex;
use std::io::{self, Stdout, Write as _, stderr, stdout};
use std::panic;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

use crossterm::cursor::Show;
use crossterm::event::{DisableMouseCapture, EnableMouseCapture};
use crossterm::terminal::{
    BeginSynchronizedUpdate, Clear, ClearType, EndSynchronizedUpdate, EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode,
    enable_raw_mode,
};
use crossterm::{execute, style};
use forebay_schemas::printable;
use ratatui::backend::CrosstermBackend;
use ratatui::{Frame, Terminal};

/// The maximum number of buffered panic messages.
const MAX_PANIC_MESSAGES: usize = 8;

static ACTIVE: AtomicBool = AtomicBool::new(false);
static MESSAGES: Mutex<Vec<String>> = Mutex::new(Vec::new());
static HOOK: Once = Once::new();

/// The terminal while the monitor owns it.
pub(crate) struct Screen {
    terminal: Terminal<CrosstermBackend<Stdout>>,
}

impl Screen {
    /// Takes over the terminal.
    pub(crate) fn enter() -> io::Result<Self> {
        HOOK.call_once(hook);
        if ACTIVE.swap(true, Ordering::SeqCst) {
            return Err(io::Error::other("the monitor is already running on this terminal"));
        }
        Self::take().inspect_err(|_| leave())
    }

    fn take() -> io::Result<Self> {
        // The caller decides about colour. Under `NO_COLOR`, crossterm would write resets that also
        // remove bold and reverse.
        style::force_color_output(true);
        enable_raw_mode()?;
        execute!(stdout(), EnterAlternateScreen)?;
        Ok(Self { terminal: Self::blank()? })
    }

    /// Clears the screen. `Terminal::clear` would query the cursor position, which not every
    /// terminal answers.
    fn blank() -> io::Result<Terminal<CrosstermBackend<Stdout>>> {
        execute!(stdout(), Clear(ClearType::All))?;
        let mut terminal = Terminal::new(CrosstermBackend::new(stdout()))?;
        terminal.hide_cursor()?;
        Ok(terminal)
    }

    /// Draws a frame with a synchronized update, so that the terminal never shows half of it.
    pub(crate) fn draw(&mut self, picture: impl FnOnce(&mut Frame<'_>)) -> io::Result<()> {
        execute!(stdout(), BeginSynchronizedUpdate)?;
        let drawn = self.terminal.draw(picture).map(drop);
        execute!(stdout(), EndSynchronizedUpdate)?;
        drawn
    }

    /// Makes the next frame redraw every cell.
    pub(crate) fn clear(&mut self) -> io::Result<()> {
        self.terminal = Self::blank()?;
        Ok(())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        leave();
    }
}

/// Copies text to the clipboard, if the terminal supports OSC 52.
pub(crate) fn copy(text: &str) -> io::Result<()> {
    let mut out = stdout();
    write!(out, "\x1b]52;c;{}\x07", base64(text.as_bytes()))?;
    out.flush()
}

/// Captures the mouse, or releases it to the terminal.
pub(crate) fn mouse(on: bool) -> io::Result<()> {
    if on { execute!(stdout(), EnableMouseCapture) } else { execute!(stdout(), DisableMouseCapture) }
}

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let [a, b, c] = [0, 1, 2].map(|at| u32::from(chunk.get(at).copied().unwrap_or(0)));
        let bits = a << 16 | b << 8 | c;
        for at in 0..4 {
            let symbol = ALPHABET[(bits >> (18 - 6 * at) & 63) as usize];
            out.push(if at <= chunk.len() { char::from(symbol) } else { '=' });
        }
    }
    out
}

/// Restores the terminal once. Errors are ignored, because nothing can be done about them here.
fn leave() {
    if !ACTIVE.swap(false, Ordering::SeqCst) {
        return;
    }
    let _ = execute!(stdout(), DisableMouseCapture, EndSynchronizedUpdate, LeaveAlternateScreen, Show);
    let _ = disable_raw_mode();
    for message in MESSAGES.lock().drain(..) {
        for line in message.lines() {
            let _ = writeln!(stderr(), "{}", printable(line));
        }
    }
}

fn hook() {
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if cfg!(panic = "abort") {
            leave();
        }
        if !ACTIVE.load(Ordering::SeqCst) {
            return before(info);
        }
        let mut messages = MESSAGES.lock();
        if messages.len() < MAX_PANIC_MESSAGES {
            messages.push(info.to_string());
        }
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_matches_the_standard() {
        for (plain, coded) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("ÿ", "w78=")] {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
    }
}
