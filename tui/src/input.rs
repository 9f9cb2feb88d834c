//! Key bindings. One table defines what keys do, the help of each screen, the hints in the footer,
//! and the documentation.

use crossterm::event::{Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers, MouseEventKind};

use crate::state::line_editor::EditKey;
use crate::state::{Action, Screen};

/// Where a binding applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    Everywhere,
    On(&'static [Screen]),
    /// When the monitor was started with `--operate`.
    Operating,
}

/// A key binding.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Binding {
    keys: &'static [(KeyCode, KeyModifiers)],
    /// The keys as the help shows them.
    pub(crate) shown: &'static str,
    pub(crate) what: &'static str,
    /// The hint in the footer; empty for none.
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

/// All bindings, the most used first.
pub(crate) const BINDINGS: &[Binding] = &[
    bind(&[c('q'), ctrl('c')], "q  ctrl-c", "quit", "quit the monitor; the pipeline keeps running", Action::Quit),
    bind(&[c('?'), k(KeyCode::F(1))], "?  F1", "help", "show or hide the keys of this screen", Action::Help),
    bind(&[k(KeyCode::Enter), c('l')], "enter  l", "open", "open the selected item", Action::Enter),
    bind(&[k(KeyCode::Esc), c('h')], "esc  h", "", "go back: close the details, then clear the filter", Action::Back),
    bind(&[c(' ')], "space", "freeze", "freeze the view, or return to live; the pipeline keeps running", Action::Freeze),
    bind(&[c('<'), c(',')], "<  ,", "", "one event back", Action::Step(-1)),
    bind(&[c('>'), c('.')], ">  .", "< > step", "one event forward", Action::Step(1)),
    bind(&[c('{'), c('[')], "{  [", "", "previous batch", Action::StepBatch(false)),
    bind(&[c('}'), c(']')], "}  ]", "", "next batch", Action::StepBatch(true)),
    bind(&[c('(')], "(", "", "one minute back", Action::StepSeconds(-60)),
    bind(&[c(')')], ")", "", "one minute forward", Action::StepSeconds(60)),
    bind(&[c('\\')], "\\", "", "back to live", Action::Live),
    bind(&[c('t')], "t", "", "go to the moment of the selected item", Action::GoToSelected),
    bind(&[c('m')], "m", "", "mark this event", Action::Mark),
    bind(&[c('\'')], "'", "", "go to the marked event", Action::GoToMark),
    bind(&[c('/')], "/", "filter", "show only rows with these words; !word excludes", Action::Filter),
    bind(&[c(':')], ":", "command", "command palette; tab completes", Action::Palette),
    bind(&[k(KeyCode::Tab)], "tab", "", "next panel, or next screen", Action::NextPanel),
    bind(&[k(KeyCode::BackTab)], "shift-tab", "", "previous panel, or previous screen", Action::PreviousPanel),
    bind(&[c('j'), k(KeyCode::Down)], "j  down", "", "next row", Action::Move(1)),
    bind(&[c('k'), k(KeyCode::Up)], "k  up", "", "previous row", Action::Move(-1)),
    bind(&[ctrl('d'), k(KeyCode::PageDown)], "ctrl-d  page down", "", "ten rows down", Action::Move(10)),
    bind(&[ctrl('u'), k(KeyCode::PageUp)], "ctrl-u  page up", "", "ten rows up", Action::Move(-10)),
    bind(&[c('g'), k(KeyCode::Home)], "g  gg  home", "", "first row", Action::First),
    bind(&[c('G'), k(KeyCode::End)], "G  end", "", "last row", Action::Last),
    on(SORTED, bind(&[c('s')], "s", "sort", "sort by the next column", Action::Sort)),
    on(SORTED, bind(&[c('S')], "S", "", "reverse the order", Action::Reverse)),
    on(FOLLOWED, bind(&[c('f')], "f", "follow", "follow the newest row, or stop", Action::Follow)),
    on(&[Screen::Logs], bind(&[c('v')], "v", "level", "minimum level: warnings, errors, or all lines", Action::Level)),
    bind(&[c('c'), c('y')], "c  y", "", "copy the selected item (OSC 52)", Action::Copy),
    bind(&[c('x')], "x", "", "export the selected item to a JSON file", Action::Export),
    bind(&[c('%')], "%", "", "use the mouse wheel to scroll, or give the mouse back to the terminal", Action::Mouse),
    bind(&[ctrl('r')], "ctrl-r", "", "reconnect now", Action::Reconnect),
    bind(&[ctrl('l')], "ctrl-l", "", "redraw the screen", Action::Redraw),
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
    operate(bind(&[c('X')], "X", "cancel", "cancel the selected run", Action::Cancel)),
    operate(bind(&[c('B')], "B", "redrive", "produce dead letters to the topic again", Action::Redrive)),
    operate(bind(&[c('Y')], "Y", "replay", "replay records from an earlier offset", Action::Replay)),
];

impl Binding {
    /// Whether the binding applies to a screen.
    pub(crate) fn works(&self, screen: Screen) -> bool {
        match self.scope {
            Scope::On(screens) => screens.contains(&screen),
            Scope::Everywhere | Scope::Operating => true,
        }
    }
}

/// The bindings of a screen, including those of `--operate` if `operates`.
pub(crate) fn bindings(screen: Screen, operates: bool) -> impl Iterator<Item = &'static Binding> {
    BINDINGS.iter().filter(move |binding| binding.works(screen) && (operates || binding.scope != Scope::Operating))
}

/// The action of a terminal event on a screen. A resize needs none, because a frame follows every
/// event. Keys that operate always map to their action, so that the permission check can explain
/// its refusal.
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
    // The character already includes shift; only some terminals also report the modifier.
    let pressed = (key.code, key.modifiers & (KeyModifiers::CONTROL | KeyModifiers::ALT));
    BINDINGS.iter().find(|binding| binding.works(screen) && binding.keys.contains(&pressed)).map(|binding| binding.action)
}

/// The edit that a key makes while a line is being typed.
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
    fn no_key_has_two_actions_on_a_screen() {
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
    fn every_key_has_the_action_of_the_table_and_is_shown_in_the_help() {
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
    fn shift_is_ignored_and_so_is_releasing_a_key() {
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
