//! The prompts: the filter, and the command palette with its completion. Pure.

use forebay_schemas::desired::DesiredState;

use super::line_editor::LineEditor;
use super::operation_dialog::Operation;
use super::screen::{RowId, Screen};

/// The maximum number of completions.
pub(crate) const MAX_COMPLETIONS: usize = 8;

/// A command of the palette.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Command {
    Screen(Screen),
    Open(RowId),
    Event(u64),
    /// Goes to a time of day, such as `10:31:07`.
    At(chrono::NaiveTime),
    Live,
    Freeze,
    Filter(String),
    Theme(String),
    Export(Option<String>),
    Help,
    Quit,
    Operate(Operation),
}

/// The commands: word, argument, description.
pub(crate) const COMMANDS: &[(&str, &str, &str)] = &[
    ("batch", "NUMBER", "open a batch"),
    ("run", "KEY", "open a run"),
    ("actor", "PATH", "open an actor"),
    ("partition", "NUMBER", "open a partition"),
    ("event", "SEQ", "go back to an event"),
    ("at", "HH:MM:SS", "go back to a time"),
    ("live", "", "return to live"),
    ("freeze", "", "freeze the view"),
    ("filter", "WORDS", "show only rows with these words; !word excludes"),
    ("theme", "dark|light|mono", "change the colours"),
    ("export", "FILE", "export the selected item as JSON"),
    ("pause", "", "operate: pause the pipeline"),
    ("resume", "", "operate: resume the pipeline"),
    ("drain", "", "operate: drain the pipeline"),
    ("restart", "PATH", "operate: restart an actor"),
    ("cancel", "KEY", "operate: cancel a run"),
    ("redrive", "", "operate: produce dead letters to the topic again"),
    ("replay", "earliest|P:OFFSET,…|TIME", "operate: replay records"),
    ("help", "", "the keys of this screen"),
    ("quit", "", "quit the monitor; the pipeline keeps running"),
];

/// The names in the snapshot, for completion and lookup.
#[derive(Debug, Default)]
pub(crate) struct KnownNames {
    pub(crate) actors: Vec<String>,
    /// Key and identifier.
    pub(crate) runs: Vec<(String, uuid::Uuid)>,
    pub(crate) batches: Vec<u64>,
    pub(crate) partitions: Vec<i32>,
}

impl KnownNames {
    fn run(&self, text: &str) -> Result<uuid::Uuid, String> {
        let found = self.runs.iter().find(|(key, id)| key == text || id.to_string() == text);
        found
            .or_else(|| self.runs.iter().find(|(key, _)| key.contains(text)))
            .map(|(_, id)| *id)
            .ok_or_else(|| format!("unknown run {text:?}"))
    }

    fn actor(&self, text: &str) -> Result<String, String> {
        let found = self.actors.iter().find(|path| *path == text);
        let by_name = || self.actors.iter().find(|path| path.rsplit('/').next() == Some(text));
        found.or_else(by_name).cloned().ok_or_else(|| format!("unknown actor {text:?}"))
    }
}

/// Parses a command.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn parse(text: &str, known: &KnownNames) -> Result<Option<Command>, String> {
    let text = text.trim();
    if text.is_empty() {
        return Ok(None);
    }
    if let Some(screen) = Screen::ALL.into_iter().find(|screen| screen.name() == text || (text == "dlq" && *screen == Screen::DeadLetters))
    {
        return Ok(Some(Command::Screen(screen)));
    }
    let (word, rest) = text.split_once(char::is_whitespace).map_or((text, ""), |(word, rest)| (word, rest.trim()));
    let number = || rest.parse::<u64>().map_err(|_| format!("{word} takes a number, not {rest:?}"));
    let bare = |command: Command| if rest.is_empty() { Ok(command) } else { Err(format!("{word} takes no argument")) };
    let command = match word {
        "batch" => Command::Open(RowId::Batch(number()?)),
        "partition" => Command::Open(RowId::Partition(rest.parse().map_err(|_| format!("partition takes a number, not {rest:?}"))?)),
        "run" => Command::Open(RowId::Run(known.run(rest)?)),
        "actor" => Command::Open(RowId::Actor(known.actor(rest)?)),
        "event" => Command::Event(number()?),
        "at" => {
            let time = ["%H:%M:%S%.f", "%H:%M"].iter().find_map(|form| chrono::NaiveTime::parse_from_str(rest, form).ok());
            Command::At(time.ok_or_else(|| format!("{rest:?} is not a time of day such as 14:03:20"))?)
        }
        "live" => bare(Command::Live)?,
        "freeze" => bare(Command::Freeze)?,
        "filter" => Command::Filter(rest.to_owned()),
        "theme" if ["dark", "light", "mono"].contains(&rest) => Command::Theme(rest.to_owned()),
        "theme" => return Err("theme takes dark, light or mono".to_owned()),
        "export" => Command::Export((!rest.is_empty()).then(|| rest.to_owned())),
        "help" => bare(Command::Help)?,
        "quit" | "q" => bare(Command::Quit)?,
        "pause" => bare(Command::Operate(Operation::State(DesiredState::Paused)))?,
        "resume" => bare(Command::Operate(Operation::State(DesiredState::Running)))?,
        "drain" => bare(Command::Operate(Operation::State(DesiredState::Drained)))?,
        "restart" => Command::Operate(Operation::Restart(known.actor(rest)?)),
        "cancel" => Command::Operate(Operation::Cancel(known.run(rest)?)),
        "redrive" => bare(Command::Operate(Operation::Redrive(None)))?,
        "replay" => {
            let what = |_| "replay takes earliest, PARTITION:OFFSET,… or a time such as 2026-11-24T06:00:00Z".to_owned();
            Command::Operate(Operation::Replay(rest.parse().map_err(what)?))
        }
        _ => return Err(format!("unknown command {word:?}; tab lists the commands")),
    };
    Ok(Some(command))
}

/// The completions of a line: the whole text, and its description.
pub(crate) fn complete(text: &str, known: &KnownNames) -> Vec<(String, String)> {
    let text = text.trim_start();
    let numbers =
        |word: &str, numbers: Vec<String>| numbers.into_iter().map(|n| (format!("{word} {n}"), String::new())).collect::<Vec<_>>();
    let all: Vec<(String, String)> = match text.split_once(' ') {
        None => {
            let screens = Screen::ALL.into_iter().map(|screen| (screen.name().to_owned(), screen.about().to_owned()));
            screens.chain(COMMANDS.iter().map(|(word, _, what)| ((*word).to_owned(), (*what).to_owned()))).collect()
        }
        Some((word @ ("actor" | "restart"), _)) => known.actors.iter().map(|path| (format!("{word} {path}"), String::new())).collect(),
        Some((word @ ("run" | "cancel"), _)) => known.runs.iter().map(|(key, _)| (format!("{word} {key}"), String::new())).collect(),
        Some((word @ "batch", _)) => numbers(word, known.batches.iter().map(ToString::to_string).collect()),
        Some((word @ "partition", _)) => numbers(word, known.partitions.iter().map(ToString::to_string).collect()),
        Some((word @ "theme", _)) => numbers(word, ["dark", "light", "mono"].map(str::to_owned).to_vec()),
        Some((word @ "replay", _)) => numbers(word, vec!["earliest".to_owned()]),
        Some(_) => Vec::new(),
    };
    let close = |whole: &&(String, String)| whole.0.starts_with(text);
    let mut found: Vec<_> = all.iter().filter(close).cloned().collect();
    found.sort_by_key(|(whole, _)| whole != text);
    // Then those that contain it, so that `restart writer` finds root/egress/writer.
    let part = text.rsplit(' ').next().unwrap_or_default();
    if !part.is_empty() {
        found.extend(all.iter().filter(|whole| !close(whole) && whole.0.contains(part)).cloned());
    }
    found.truncate(MAX_COMPLETIONS);
    found
}

/// An open prompt in the footer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Prompt {
    Filter(LineEditor),
    /// The line, and the selected completion.
    Palette(LineEditor, Option<usize>),
}

/// Whether a text contains all words of a filter and none of its `!` words.
pub(crate) fn matches_filter(text: &str, filter: &str) -> bool {
    let text = text.to_lowercase();
    filter.split_whitespace().all(|word| {
        let word = word.to_lowercase();
        word.strip_prefix('!').map_or_else(|| text.contains(&word), |not| not.is_empty() || !text.contains(not))
    })
}

#[cfg(test)]
mod tests {
    use forebay_schemas::api::ReplayFrom;

    use super::*;

    fn known() -> KnownNames {
        KnownNames {
            actors: vec!["root".to_owned(), "root/egress/writer".to_owned()],
            runs: vec![("manual 10:30".to_owned(), uuid::Uuid::nil())],
            batches: vec![7],
            partitions: vec![0],
        }
    }

    #[test]
    fn a_command_is_parsed_or_its_error_says_what_it_takes() {
        let command = |text: &str| parse(text, &known());
        assert_eq!(command("topics"), Ok(Some(Command::Screen(Screen::Topics))));
        assert_eq!(command("dead letters"), Ok(Some(Command::Screen(Screen::DeadLetters))));
        assert_eq!(command(" batch 7 "), Ok(Some(Command::Open(RowId::Batch(7)))));
        assert_eq!(command("actor writer"), Ok(Some(Command::Open(RowId::Actor("root/egress/writer".to_owned())))));
        assert_eq!(command("run 10:30"), Ok(Some(Command::Open(RowId::Run(uuid::Uuid::nil())))));
        assert!(matches!(command("at 10:31"), Ok(Some(Command::At(_)))));
        assert!(matches!(command("replay 0:12,3:9"), Ok(Some(Command::Operate(Operation::Replay(ReplayFrom::Offsets(_)))))));
        assert_eq!(command(""), Ok(None));
        for wrong in ["batch x", "run nobody", "actor nobody", "paint", "live now", "theme pink", "at noon", "replay 0:-1"] {
            assert!(command(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn every_word_of_the_palette_is_a_command_and_completes_to_itself() {
        for (word, _, _) in COMMANDS {
            assert!(!parse(word, &known()).is_err_and(|why| why.contains("unknown command")), "{word}");
            assert_eq!(complete(word, &known())[0].0, *word);
        }
        assert_eq!(complete("restart wri", &known())[0].0, "restart root/egress/writer");
        assert!(complete("", &known()).len() <= MAX_COMPLETIONS);
    }

    #[test]
    fn a_filter_has_required_and_excluded_words() {
        assert!(matches_filter("BatchWritten p2 27 rows", "batch P2"));
        assert!(!matches_filter("BatchWritten p2 27 rows", "batch !p2"));
        assert!(matches_filter("anything", "") && matches_filter("anything", "!"));
    }
}
