//! Which rows of the timeline are in view.
//!
//! The view is counted from the end: [`Timeline::rows_below`](super::timeline::Timeline) is the number of rows below it. At 0
//! it follows new messages.

use super::{event::Effect, rows, state::State};

impl State {
    /// Moves the view by rows, up if positive. At the top, asks for older messages.
    pub(super) fn scroll(&mut self, by: isize) {
        let (width, height) = rows::timeline_size(self);
        let Some(open) = &self.open else { return };
        let wanted = open.rows_below.saturating_add_signed(by);
        let rows = rows::last_rows(self, open, width, wanted.saturating_add(height)).len();
        let above = wanted.min(rows.saturating_sub(height));
        let Some(open) = &mut self.open else { return };
        open.rows_below = above;
        if by > 0
            && above < wanted
            && let Some(before) = open.older()
        {
            self.effects.push(Effect::Load { of: open.to.clone(), before: Some(before) });
        }
    }

    /// Moves the view by pages, up if positive; two rows of the old view stay.
    pub(super) fn page(&mut self, by: isize) {
        let (_, height) = rows::timeline_size(self);
        self.scroll(by * isize::try_from(height.saturating_sub(2).max(1)).unwrap_or(1));
    }

    /// Moves the view so that a message is near its middle.
    pub(super) fn show(&mut self, seq: u64) {
        let (width, height) = rows::timeline_size(self);
        let Some(open) = &self.open else { return };
        let newer = open.messages.range(seq + 1..).map(|(_, message)| rows::message_rows(self, message, width).len());
        let below =
            newer.sum::<usize>() + open.changes.range(seq + 1..).count() + rows::outgoing_rows(self, width).len();
        let Some(open) = &mut self.open else { return };
        open.rows_below = below.saturating_sub(height / 2);
        self.scroll(0);
    }

    /// Keeps the rows in view in place after a message was added below.
    pub(super) fn keep_view(&mut self) {
        let (width, _) = rows::timeline_size(self);
        let Some(open) = &self.open else { return };
        let added = open.messages.values().next_back().map_or(0, |last| rows::message_rows(self, last, width).len());
        self.scroll(isize::try_from(added).unwrap_or(0));
    }

    /// Takes the new size of the terminal.
    pub(super) fn resize(&mut self, columns: u16, rows: u16) {
        self.size = (columns, rows);
        self.scroll(0);
    }
}
