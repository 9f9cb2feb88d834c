//! Keys. One table makes what keys do, the help of each screen, the hints of the last line and the documentation.

use crossterm::event::{Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers, MouseEventKind};

use crate::state::line_editor::EditKey;
use crate::state::{Action, Screen};

/// Scope a key works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    Everywhere,
    On(&'static [Screen]),
    /// Scope the view was started to operate.
    Operating,
}

/// A key and what it does.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Binding {
    keys: &'static [(KeyCode, KeyModifiers)],
    /// The keys as people write them.
    pub(crate) shown: &'static str,
    pub(crate) what: &'static str,
    /// A word for the last line; empty for none.
    pub(crate) hint: &'static str,
    pub(crate) action: Action,
    pub(crate) scope: Scope,
}

const NONE: KeyModifiers = KeyModifiers::NONE;
const CTRL: KeyModifiers = KeyModifiers::CONTROL;

const fn c(key: char) -> (KeyCode, KeyModifiers) {
    (KeyCode::Char(key), NONE)
}

const fn ctrl(key: char) -> (KeyCode, KeyModifiers) {
    (KeyCode::Char(key), CTRL)
}

const fn k(code: KeyCode) -> (KeyCode, KeyModifiers) {
    (code, NONE)
}

const fn bind(
    keys: &'static [(KeyCode, KeyModifiers)],
    shown: &'static str,
    hint: &'static str,
    what: &'static str,
    action: Action,
) -> Binding {
    Binding { keys, shown, what, hint, action, scope: Scope::Everywhere }
}

const fn on(screens: &'static [Screen], binding: Binding) -> Binding {
    Binding { scope: Scope::On(screens), ..binding }
}

const fn operate(binding: Binding) -> Binding {
    Binding { scope: Scope::Operating, ..binding }
}

const SORTED: &[Screen] = &[Screen::Overview, Screen::Topics, Screen::Batches, Screen::Actors, Screen::Runs];
const FOLLOWED: &[Screen] = &[Screen::Batches, Screen::Records, Screen::Journal, Screen::Logs];

/// All keys, the most needed first.
pub(crate) const BINDINGS: &[Binding] = &[
    bind(&[c('q'), ctrl('c')], "q  ctrl-c", "leave", "leave the view; the pipeline goes on", Action::Quit),
    bind(&[c('?'), k(KeyCode::F(1))], "?  F1", "help", "the keys of this screen, and away again", Action::Help),
    bind(&[k(KeyCode::Enter), c('l')], "enter  l", "open", "open what is selected", Action::Enter),
    bind(&[k(KeyCode::Esc), c('h')], "esc  h", "", "back: close the page, then the filter", Action::Back),
    bind(&[c(' ')], "space", "freeze", "hold what is shown, and on again; the pipeline goes on", Action::Freeze),
    bind(&[c('<'), c(',')], "<  ,", "", "one event back", Action::Step(-1)),
    bind(&[c('>'), c('.')], ">  .", "< > travel", "one event on", Action::Step(1)),
    bind(&[c('{'), c('[')], "{  [", "", "to the batch before", Action::StepBatch(false)),
    bind(&[c('}'), c(']')], "}  ]", "", "to the next batch", Action::StepBatch(true)),
    bind(&[c('(')], "(", "", "a minute back", Action::StepSeconds(-60)),
    bind(&[c(')')], ")", "", "a minute on", Action::StepSeconds(60)),
    bind(&[c('\\')], "\\", "", "back to live", Action::Live),
    bind(&[c('t')], "t", "", "go to the moment of what is selected", Action::GoToSelected),
    bind(&[c('m')], "m", "", "mark this event", Action::Mark),
    bind(&[c('\'')], "'", "", "go to the marked event", Action::GoToMark),
    bind(&[c('/')], "/", "filter", "show only rows with these words; !word leaves out", Action::Filter),
    bind(&[c(':')], ":", "command", "commands, with completion by tab", Action::Palette),
    bind(&[k(KeyCode::Tab)], "tab", "", "next panel, or next screen", Action::NextPanel),
    bind(&[k(KeyCode::BackTab)], "shift-tab", "", "panel or screen before", Action::PreviousPanel),
    bind(&[c('j'), k(KeyCode::Down)], "j  down", "", "next row", Action::Move(1)),
    bind(&[c('k'), k(KeyCode::Up)], "k  up", "", "row before", Action::Move(-1)),
    bind(&[ctrl('d'), k(KeyCode::PageDown)], "ctrl-d  page down", "", "ten rows on", Action::Move(10)),
    bind(&[ctrl('u'), k(KeyCode::PageUp)], "ctrl-u  page up", "", "ten rows back", Action::Move(-10)),
    bind(&[c('g'), k(KeyCode::Home)], "g  gg  home", "", "first row", Action::First),
    bind(&[c('G'), k(KeyCode::End)], "G  end", "", "last row", Action::Last),
    on(SORTED, bind(&[c('s')], "s", "sort", "sort by the next column", Action::Sort)),
    on(SORTED, bind(&[c('S')], "S", "", "the other way round", Action::Reverse)),
    on(FOLLOWED, bind(&[c('f')], "f", "follow", "stay at the newest, or not", Action::Follow)),
    on(&[Screen::Logs], bind(&[c('v')], "v", "level", "only warnings and errors, only errors, all lines", Action::Level)),
    bind(&[c('c'), c('y')], "c  y", "", "copy what is selected (OSC 52)", Action::Copy),
    bind(&[c('x')], "x", "", "write what is selected to a file, as JSON", Action::Export),
    bind(&[c('%')], "%", "", "give the wheel of the mouse to the view, and back to the terminal", Action::Mouse),
    bind(&[ctrl('r')], "ctrl-r", "", "connect again at once", Action::Reconnect),
    bind(&[ctrl('l')], "ctrl-l", "", "draw all anew", Action::Redraw),
    bind(&[c('1')], "1", "", "overview", Action::Show(Screen::Overview)),
    bind(&[c('2')], "2", "", "topics", Action::Show(Screen::Topics)),
    bind(&[c('3')], "3", "", "batches", Action::Show(Screen::Batches)),
    bind(&[c('4')], "4", "", "cassandra", Action::Show(Screen::Store)),
    bind(&[c('5')], "5", "", "actors", Action::Show(Screen::Actors)),
    bind(&[c('6')], "6", "", "runs", Action::Show(Screen::Runs)),
    bind(&[c('7')], "7", "", "records", Action::Show(Screen::Records)),
    bind(&[c('8')], "8", "", "dead letters", Action::Show(Screen::DeadLetters)),
    bind(&[c('9')], "9", "", "journal", Action::Show(Screen::Journal)),
    bind(&[c('0')], "0", "", "alerts", Action::Show(Screen::Alerts)),
    bind(&[c('L')], "L", "", "logs", Action::Show(Screen::Logs)),
    operate(bind(&[c('P')], "P", "pause", "pause the pipeline, or resume it", Action::Pause)),
    operate(bind(&[c('D')], "D", "drain", "drain the pipeline", Action::Drain)),
    operate(bind(&[c('R')], "R", "restart", "restart the selected actor", Action::Restart)),
    operate(bind(&[c('X')], "X", "cancel", "call the selected run off", Action::Cancel)),
    operate(bind(&[c('B')], "B", "redrive", "put dead letters into the topic again", Action::Redrive)),
    operate(bind(&[c('Y')], "Y", "replay", "read records again from an earlier scope", Action::Replay)),
];

impl Binding {
    /// Whether it works on a screen.
    pub(crate) fn works(&self, screen: Screen) -> bool {
        match self.scope {
            Scope::On(screens) => screens.contains(&screen),
            Scope::Everywhere | Scope::Operating => true,
        }
    }
}

/// The bindings of a screen; those that operate only where that is wanted.
pub(crate) fn bindings(screen: Screen, operates: bool) -> impl Iterator<Item = &'static Binding> {
    BINDINGS.iter().filter(move |binding| binding.works(screen) && (operates || binding.scope != Scope::Operating))
}

/// What an event asks for on a screen. A new size asks for nothing: each event is followed by a draw. Keys that operate are looked up
/// always: the gate says why it refuses.
pub(crate) fn action(event: &Event, screen: Screen) -> Option<Action> {
    match event {
        Event::Key(key) if key.kind != KeyEventKind::Release => action_of_key(*key, screen),
        Event::Mouse(mouse) => match mouse.kind {
            MouseEventKind::ScrollDown => Some(Action::Move(3)),
            MouseEventKind::ScrollUp => Some(Action::Move(-3)),
            _ => None,
        },
        _ => None,
    }
}

fn action_of_key(key: KeyEvent, screen: Screen) -> Option<Action> {
    // Shift is in the symbol already; some terminals say it, others don't.
    let pressed = (key.code, key.modifiers & (KeyModifiers::CONTROL | KeyModifiers::ALT));
    BINDINGS.iter().find(|binding| binding.works(screen) && binding.keys.contains(&pressed)).map(|binding| binding.action)
}

/// What a key does to a line that is being typed.
pub(crate) fn edit_key(event: &Event) -> Option<EditKey> {
    let Event::Key(key) = event else { return None };
    if key.kind == KeyEventKind::Release {
        return None;
    }
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    Some(match key.code {
        KeyCode::Char('c') if control => EditKey::Escape,
        KeyCode::Char('u') if control => EditKey::Clear,
        KeyCode::Char('w') if control => EditKey::Word,
        KeyCode::Char('a') if control => EditKey::Home,
        KeyCode::Char('e') if control => EditKey::End,
        KeyCode::Char('n') if control => EditKey::Down,
        KeyCode::Char('p') if control => EditKey::Up,
        KeyCode::Char(_) if control || key.modifiers.contains(KeyModifiers::ALT) => return None,
        KeyCode::Char(c) => EditKey::Char(c),
        KeyCode::Enter => EditKey::Enter,
        KeyCode::Esc => EditKey::Escape,
        KeyCode::Tab => EditKey::Tab,
        KeyCode::BackTab => EditKey::BackTab,
        KeyCode::Backspace => EditKey::Backspace,
        KeyCode::Delete => EditKey::Delete,
        KeyCode::Left => EditKey::Left,
        KeyCode::Right => EditKey::Right,
        KeyCode::Up => EditKey::Up,
        KeyCode::Down => EditKey::Down,
        KeyCode::Home => EditKey::Home,
        KeyCode::End => EditKey::End,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn press(code: KeyCode, modifiers: KeyModifiers, screen: Screen) -> Option<Action> {
        action(&Event::Key(KeyEvent::new(code, modifiers)), screen)
    }

    #[test]
    fn no_key_means_two_things_on_a_screen() {
        for screen in Screen::ALL {
            let mut seen = BTreeSet::new();
            for (binding, key) in BINDINGS
                .iter()
                .filter(|binding| binding.works(screen))
                .flat_map(|binding| binding.keys.iter().map(move |key| (binding, key)))
            {
                assert!(seen.insert(format!("{key:?}")), "{key:?} of {:?} on {screen:?}", binding.what);
            }
        }
    }

    #[test]
    fn every_key_does_what_the_table_says_and_is_shown_as_it_is_pressed() {
        for screen in Screen::ALL {
            for binding in BINDINGS.iter().filter(|binding| binding.works(screen)) {
                for &(code, modifiers) in binding.keys {
                    assert_eq!(press(code, modifiers, screen), Some(binding.action));
                    if let KeyCode::Char(key) = code {
                        let written = if key == ' ' {
                            "space".to_owned()
                        } else if modifiers == CTRL {
                            format!("ctrl-{key}")
                        } else {
                            key.to_string()
                        };
                        assert!(binding.shown.split("  ").any(|shown| shown == written), "{written} of {:?}", binding.shown);
                    }
                }
            }
        }
    }

    #[test]
    fn shift_is_in_the_sign_and_letting_a_key_go_does_nothing() {
        assert_eq!(press(KeyCode::Char('G'), KeyModifiers::SHIFT, Screen::Overview), Some(Action::Last));
        assert_eq!(press(KeyCode::Char('c'), KeyModifiers::CONTROL, Screen::Overview), Some(Action::Quit));
        let event = Event::Key(KeyEvent::new_with_kind(KeyCode::Char('q'), KeyModifiers::NONE, KeyEventKind::Release));
        assert_eq!(action(&event, Screen::Overview), None);
    }

    #[test]
    fn each_screen_has_its_key() {
        for screen in Screen::ALL {
            assert_eq!(press(KeyCode::Char(screen.key()), NONE, Screen::Journal), Some(Action::Show(screen)));
        }
    }
}
