//! Keys. One table makes what keys do, the help and the hints of the last line.

use crossterm::event::{Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use crate::state::{Action, Panel};

/// A line of the help: the keys as people write them, and what they do.
pub(crate) const HELP: &[(&str, &str)] = &[
    ("q  ctrl-c", "leave the view; the pipeline goes on"),
    ("?", "this help, and away again"),
    ("tab  shift-tab", "next panel, panel before"),
    ("1 2 3 4", "partitions, actors, batches, runs"),
    ("j k  arrows", "next row, row before"),
    ("g G  home end", "first row, last row"),
    ("ctrl-d ctrl-u", "ten rows on, ten rows back"),
    ("space", "freeze the view, and on again; the pipeline goes on"),
];

/// What an event asks for. A new size asks for nothing: each event is followed by a draw.
pub(crate) fn action(event: &Event) -> Option<Action> {
    match event {
        Event::Key(key) if key.kind != KeyEventKind::Release => of_key(*key),
        _ => None,
    }
}

fn of_key(key: KeyEvent) -> Option<Action> {
    if key.modifiers.contains(KeyModifiers::CONTROL) {
        return match key.code {
            KeyCode::Char('c') => Some(Action::Quit),
            KeyCode::Char('d') => Some(Action::Move(10)),
            KeyCode::Char('u') => Some(Action::Move(-10)),
            KeyCode::Char('l') => Some(Action::Redraw),
            _ => None,
        };
    }
    match key.code {
        KeyCode::Char('q') => Some(Action::Quit),
        KeyCode::Char('?') | KeyCode::F(1) => Some(Action::Help),
        KeyCode::Esc => Some(Action::Back),
        KeyCode::Tab => Some(Action::NextPanel),
        KeyCode::BackTab => Some(Action::PreviousPanel),
        KeyCode::Char('1') => Some(Action::Focus(Panel::Partitions)),
        KeyCode::Char('2') => Some(Action::Focus(Panel::Actors)),
        KeyCode::Char('3') => Some(Action::Focus(Panel::Batches)),
        KeyCode::Char('4') => Some(Action::Focus(Panel::Runs)),
        KeyCode::Char('j') | KeyCode::Down => Some(Action::Move(1)),
        KeyCode::Char('k') | KeyCode::Up => Some(Action::Move(-1)),
        KeyCode::PageDown => Some(Action::Move(10)),
        KeyCode::PageUp => Some(Action::Move(-10)),
        KeyCode::Char('g') | KeyCode::Home => Some(Action::First),
        KeyCode::Char('G') | KeyCode::End => Some(Action::Last),
        KeyCode::Char(' ') => Some(Action::Freeze),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn press(code: KeyCode, modifiers: KeyModifiers) -> Option<Action> {
        action(&Event::Key(KeyEvent::new(code, modifiers)))
    }

    #[test]
    fn the_keys_do_what_the_help_says() {
        assert_eq!(press(KeyCode::Char('q'), KeyModifiers::NONE), Some(Action::Quit));
        assert_eq!(press(KeyCode::Char('c'), KeyModifiers::CONTROL), Some(Action::Quit));
        assert_eq!(press(KeyCode::Char('c'), KeyModifiers::NONE), None);
        assert_eq!(press(KeyCode::Char('G'), KeyModifiers::SHIFT), Some(Action::Last));
        assert_eq!(press(KeyCode::Char(' '), KeyModifiers::NONE), Some(Action::Freeze));
        assert_eq!(press(KeyCode::Char('2'), KeyModifiers::NONE), Some(Action::Focus(Panel::Actors)));
    }

    #[test]
    fn letting_a_key_go_does_nothing() {
        let event = Event::Key(KeyEvent::new_with_kind(KeyCode::Char('q'), KeyModifiers::NONE, KeyEventKind::Release));
        assert_eq!(action(&event), None);
    }
}
