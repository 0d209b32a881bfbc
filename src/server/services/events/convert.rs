//! Conversions of EventService.

use crate::{
    types::Cursor,
    wire::{Fault, chat},
};

/// Where a subscription begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::server) enum Start {
    /// After everything acknowledged so far.
    Now,
    /// After this cursor; the zero cursor lies before every event.
    After(Cursor),
}

pub(in crate::server) fn start(request: &chat::SubscribeRequest) -> Result<Start, Fault> {
    match (request.from_now, request.after_cursor) {
        (true, 0) => Ok(Start::Now),
        (true, _) => Err(Fault::invalid("after_cursor", "give after_cursor or from_now, not both")),
        (false, cursor) => Ok(Start::After(Cursor(cursor))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subscription_begins_now_or_after_a_cursor() {
        let asked = |from_now, after_cursor| start(&chat::SubscribeRequest { after_cursor, from_now });
        assert_eq!(asked(true, 0), Ok(Start::Now));
        assert_eq!(asked(false, 0), Ok(Start::After(Cursor(0))));
        assert_eq!(asked(false, u64::MAX), Ok(Start::After(Cursor(u64::MAX))));
        assert_eq!(asked(true, 1).unwrap_err().field.as_deref(), Some("after_cursor"));
    }
}
