//! Makes the pictures of docs/MONITOR.md and an asciicast from a recording: `pictures RECORDING
//! FOLDER`. `scripts/pictures` records and calls it. `pictures --keys [SCREEN]` prints the key
//! table.

#![allow(clippy::print_stdout, reason = "it is a program")]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use forebay_tui::Palette;
use forebay_tui::pictures::{Playback, keys_of};

type Any = Box<dyn std::error::Error>;

/// Placeholder for the number of the batch that was opened during the recording; only that one has
/// a plan.
const BATCH: &str = "BATCH";

/// A picture: its name, the keys that lead to it, and its columns and rows.
const PICTURES: &[(&str, &str, (u16, u16))] = &[
    ("overview", "1", (120, 36)),
    ("overview-small", "1", (80, 24)),
    ("topics", "2", (120, 30)),
    ("batches", "3", (120, 34)),
    ("batch", "3:batch BATCH\n", (120, 44)),
    ("cassandra", "4", (120, 30)),
    ("actors", "5", (120, 32)),
    ("runs", "6", (120, 28)),
    ("records", "7", (120, 28)),
    ("record", "7jj\n", (120, 28)),
    ("letters", "8", (120, 28)),
    ("letter", "8jj\n", (120, 34)),
    ("journal", "9", (120, 34)),
    ("travel", "5\\:event 1\n\x1b5", (120, 32)),
    ("alerts", "0", (120, 28)),
    ("logs", "L", (120, 28)),
    ("help", "1?", (120, 56)),
];

/// The second of the recording at which pictures are taken.
const PICTURE_SECOND: f64 = 24.0;

fn main() -> Result<(), Any> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match &args[..] {
        [flag] if flag == "--keys" => print!("{}", keys_of(None)),
        [flag, screen] if flag == "--keys" => print!("{}", keys_of(Some(screen))),
        [recording, folder] => pictures(Path::new(recording), &PathBuf::from(folder))?,
        _ => return Err("usage: pictures RECORDING FOLDER | --keys [SCREEN]".into()),
    }
    Ok(())
}

fn pictures(recording: &Path, folder: &Path) -> Result<(), Any> {
    std::fs::create_dir_all(folder)?;
    for (name, keys, size) in PICTURES {
        let mut playback = Playback::open(recording)?;
        playback.play(PICTURE_SECOND);
        if *name == "travel" {
            // Go to the last restart of the recording, which the journal's filter finds.
            playback.keys("9/ChildExited\nGt\x1b5");
        } else {
            press(&mut playback, keys)?;
        }
        let tones = [("dark", Palette::DarkTrue), ("light", Palette::LightTrue)];
        // Every screen in dark, some also in light.
        let light = ["overview", "overview-small", "batches", "letters", "letter", "journal"].contains(name);
        for (tone, palette) in tones.into_iter().take(if light { 2 } else { 1 }) {
            std::fs::write(folder.join(format!("monitor-{name}-{tone}.svg")), playback.svg(*size, palette))?;
        }
    }
    std::fs::write(folder.join("monitor.cast"), cast(recording)?)?;
    Ok(())
}

fn press(playback: &mut Playback, keys: &str) -> Result<(), Any> {
    if !keys.contains(BATCH) {
        playback.keys(keys);
        return Ok(());
    }
    let batch = playback.traced_batch().ok_or("nobody opened a batch while it was recorded")?;
    playback.keys(&keys.replace(BATCH, &batch.to_string()));
    Ok(())
}

/// Key presses, and the second of the recording at which they happen.
const KEY_PRESSES: &[(f64, &str)] = &[
    (4.0, ""),
    (8.0, "2"),
    (11.0, "3"),
    (13.0, "jj"),
    (14.0, ":batch BATCH\n"),
    (17.0, "\x1b5"),
    (21.0, "9"),
    (22.0, "<"),
    (22.5, "<<<"),
    (23.0, "{"),
    (23.5, "{{"),
    (24.0, "1"),
    (27.0, "\\"),
    (30.0, "4"),
    (33.0, "1"),
];

/// An asciicast (<https://docs.asciinema.org/manual/asciicast/v2/>) with two frames a second and
/// changed rows only.
fn cast(recording: &Path) -> Result<String, Any> {
    const SIZE: (u16, u16) = (120, 34);
    let mut playback = Playback::open(recording)?;
    let mut out = format!("{{\"version\":2,\"width\":{},\"height\":{},\"title\":\"forebay monitor\"}}\n", SIZE.0, SIZE.1);
    let mut before = String::new();
    let mut presses = KEY_PRESSES.iter();
    let mut next = presses.next();
    for half in 0..70_u32 {
        let at = f64::from(half) / 2.0;
        while let Some((due, keys)) = next
            && *due <= at
        {
            press(&mut playback, keys)?;
            next = presses.next();
        }
        let more = playback.play(at);
        let frame = playback.escapes(SIZE, Palette::Dark);
        let changed: String = changed(&before, &frame);
        if !changed.is_empty() {
            let text: String = changed.chars().map(|c| if c == '\x1b' { "\\u001b".to_owned() } else { escape(c) }).collect();
            writeln!(out, "[{at:.2}, \"o\", \"{text}\"]")?;
        }
        before = frame;
        if !more {
            break;
        }
    }
    Ok(out)
}

fn escape(c: char) -> String {
    match c {
        '"' | '\\' => format!("\\{c}"),
        c => c.to_string(),
    }
}

/// The rows of a frame that differ from the previous one.
fn changed(before: &str, frame: &str) -> String {
    let rows = |text: &str| {
        text.split("\x1b[").fold(Vec::<String>::new(), |mut rows, piece| {
            if piece.split_once(";1H").is_some_and(|(row, _)| row.parse::<u16>().is_ok()) {
                rows.push(String::new());
            }
            if let Some(row) = rows.last_mut() {
                row.push_str("\x1b[");
                row.push_str(piece);
            }
            rows
        })
    };
    let before = rows(before);
    rows(frame).into_iter().enumerate().filter(|(at, row)| before.get(*at) != Some(row)).map(|(_, row)| row).collect()
}
