//! Search in the open conversation (Ctrl+F), which loads older messages as needed.

use ratatui::crossterm::event::{KeyCode, KeyEvent};

use super::{
    compose::Composer,
    event::Effect,
    state::{Mode, State},
};

impl State {
    /// Opens the search, or stops one that is loading.
    pub(super) fn search(&mut self) {
        self.mode = match std::mem::replace(&mut self.mode, Mode::Compose) {
            Mode::Search { words, at, .. } => Mode::Search { words, at, seeking: false },
            _ => Mode::Search { words: Composer::default(), at: None, seeking: false },
        };
    }

    /// Handles a key of the search. Typing searches again from the newest message.
    pub(super) fn search_key(&mut self, key: KeyEvent) {
        let Mode::Search { words, at, seeking } = &mut self.mode else { return };
        match key.code {
            KeyCode::Enter | KeyCode::Up => {
                *seeking = true;
                self.seek();
            }
            KeyCode::Down => {
                let found = self.open.as_ref().and_then(|open| open.find(words.text(), *at, false));
                match found {
                    Some(seq) => {
                        (*at, *seeking) = (Some(seq), false);
                        self.show(seq);
                    }
                    None => self.notice = Some("no newer match".to_owned()),
                }
            }
            _ => {
                let before = words.text().to_owned();
                words.key(key);
                if *words.text() != before {
                    (*at, *seeking) = (None, true);
                    self.seek();
                }
            }
        }
    }

    /// Continues a search: goes to the next older match, or asks for older messages. Called again when they arrive.
    pub(super) fn seek(&mut self) {
        let Mode::Search { words, at, seeking } = &mut self.mode else { return };
        let Some(open) = self.open.as_mut().filter(|_| *seeking) else { return };
        if let Some(seq) = open.find(words.text(), *at, true) {
            (*at, *seeking) = (Some(seq), false);
            return self.show(seq);
        }
        if open.loading {
            return;
        }
        match open.older().filter(|_| !words.is_empty()) {
            Some(before) => self.effects.push(Effect::Load { of: open.to.clone(), before: Some(before) }),
            None => {
                *seeking = false;
                let words_are_there = !words.is_empty();
                let nothing = if open.complete {
                    "no older match".to_owned()
                } else {
                    format!("not in the {} messages loaded here; `chat history` goes further back", open.messages.len())
                };
                self.notice = words_are_there.then_some(nothing);
            }
        }
    }
}
