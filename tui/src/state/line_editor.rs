//! A single-line text editor. Pure.

/// The maximum length in characters.
const MAX_CHARS: usize = 500;

/// An editing key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EditKey {
    Char(char),
    Enter,
    Escape,
    Tab,
    BackTab,
    Backspace,
    Delete,
    Left,
    Right,
    Up,
    Down,
    Home,
    End,
    /// Deletes the line.
    Clear,
    /// Deletes the word before the cursor.
    Word,
}

/// A line and its cursor.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct LineEditor {
    text: Vec<char>,
    cursor: usize,
}

impl LineEditor {
    pub(crate) fn new(text: &str) -> Self {
        let text: Vec<char> = text.chars().take(MAX_CHARS).collect();
        Self { cursor: text.len(), text }
    }

    pub(crate) fn text(&self) -> String {
        self.text.iter().collect()
    }

    /// The text before and after the cursor.
    pub(crate) fn parts(&self) -> (String, String) {
        let (before, after) = self.text.split_at(self.cursor.min(self.text.len()));
        (before.iter().collect(), after.iter().collect())
    }

    pub(crate) fn press(&mut self, key: EditKey) {
        match key {
            EditKey::Char(c) if !c.is_control() && self.text.len() < MAX_CHARS => {
                self.text.insert(self.cursor, c);
                self.cursor += 1;
            }
            EditKey::Backspace if self.cursor > 0 => {
                self.cursor -= 1;
                self.text.remove(self.cursor);
            }
            EditKey::Delete if self.cursor < self.text.len() => drop(self.text.remove(self.cursor)),
            EditKey::Left => self.cursor = self.cursor.saturating_sub(1),
            EditKey::Right => self.cursor = (self.cursor + 1).min(self.text.len()),
            EditKey::Home => self.cursor = 0,
            EditKey::End => self.cursor = self.text.len(),
            EditKey::Clear => *self = Self::default(),
            EditKey::Word => {
                let before = self.text[..self.cursor].iter().rposition(|c| !c.is_whitespace()).unwrap_or(0);
                let start = self.text[..before].iter().rposition(|c| c.is_whitespace()).map_or(0, |at| at + 1);
                self.text.drain(start..self.cursor);
                self.cursor = start;
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_edited_anywhere_and_no_key_panics() {
        let mut line = LineEditor::new("pause writer");
        for key in [EditKey::Word, EditKey::Home, EditKey::Delete, EditKey::Char('P'), EditKey::End, EditKey::Backspace, EditKey::Char('é')]
        {
            line.press(key);
        }
        assert_eq!(line.text(), "Pauseé");
        line.press(EditKey::Clear);
        for key in [EditKey::Backspace, EditKey::Delete, EditKey::Left, EditKey::Right, EditKey::Word] {
            line.press(key);
        }
        assert_eq!(line.parts(), (String::new(), String::new()));
    }
}
