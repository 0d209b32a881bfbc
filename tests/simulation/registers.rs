//! Small shared objects that several clients read and write at once, and a history of each.
//!
//! A history is correct if it is linearizable: some order of the calls explains all answers, and each call takes effect
//! at one moment between its start and its answer (Herlihy and Wing, 1990). Stateright's tester searches for that
//! order. The search is exponential in the number of overlapping calls, so callers keep histories short.

use std::cell::RefCell;

use stateright::semantics::{ConsistencyTester, LinearizabilityTester, SequentialSpec};

/// A number that can be read and written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Register {
    value: u64,
    /// The value only rises: writing a lower one changes nothing. This is how a read mark behaves.
    is_monotonic: bool,
}

impl Register {
    pub fn new(value: u64) -> Self {
        Self { value, is_monotonic: false }
    }

    pub fn monotonic(value: u64) -> Self {
        Self { value, is_monotonic: true }
    }
}

/// An operation on a [`Register`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RegisterOp {
    Write(u64),
    Read,
}

impl SequentialSpec for Register {
    type Op = RegisterOp;
    /// The value that a read returns; `None` for a write.
    type Ret = Option<u64>;

    fn invoke(&mut self, op: &RegisterOp) -> Option<u64> {
        match *op {
            RegisterOp::Read => return Some(self.value),
            RegisterOp::Write(value) if self.is_monotonic => self.value = self.value.max(value),
            RegisterOp::Write(value) => self.value = value,
        }
        None
    }
}

/// The name of an account. It is given out once: a deleted account's name stays taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccountName {
    Free,
    /// Taken by the client with this number, whose password signs in.
    TakenBy(usize),
    Deleted,
}

/// An operation on an [`AccountName`]. It returns whether it succeeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameOp {
    /// Creates the account with this client's password.
    Create(usize),
    /// Signs in with this client's password.
    SignIn(usize),
    Delete,
}

impl SequentialSpec for AccountName {
    type Op = NameOp;
    type Ret = bool;

    fn invoke(&mut self, op: &NameOp) -> bool {
        match (*op, *self) {
            (NameOp::Create(by), Self::Free) => *self = Self::TakenBy(by),
            (NameOp::SignIn(by), Self::TakenBy(owner)) if by == owner => {}
            (NameOp::Delete, Self::TakenBy(_)) => *self = Self::Deleted,
            _ => return false,
        }
        true
    }
}

/// All calls on one object, in the order in which they started and returned.
///
/// Invariants: each call is in `events` where it started, and a second time where it returned. A call whose outcome is
/// unknown is there once, so it overlaps everything after it. A call without effect counts as if it had never started.
pub struct History<Object: SequentialSpec> {
    object: Object,
    calls: RefCell<Vec<Call<Object>>>,
    /// Indexes into `calls`.
    events: RefCell<Vec<usize>>,
}

struct Call<Object: SequentialSpec> {
    op: Object::Op,
    outcome: Outcome<Object::Ret>,
}

#[derive(Debug, Clone, PartialEq)]
enum Outcome<Ret> {
    /// Not answered: it may take effect at any later time, or never.
    Unknown,
    /// It certainly had no effect, and returned nothing.
    NoEffect,
    Returned(Ret),
}

/// Identifies one call of a [`History`].
#[derive(Debug, Clone, Copy)]
pub struct CallId(usize);

impl<Object> History<Object>
where
    Object: SequentialSpec<Op: Copy + std::fmt::Debug, Ret: Clone + std::fmt::Debug> + Copy,
{
    /// An empty history of an object that starts as `object`.
    pub fn of(object: Object) -> Self {
        Self { object, calls: RefCell::default(), events: RefCell::default() }
    }

    /// Records the start of a call. Its outcome is unknown until one of the two methods below is called.
    pub fn invoke(&self, op: Object::Op) -> CallId {
        let mut calls = self.calls.borrow_mut();
        calls.push(Call { op, outcome: Outcome::Unknown });
        self.events.borrow_mut().push(calls.len() - 1);
        CallId(calls.len() - 1)
    }

    /// Records the answer of a call.
    pub fn returned(&self, CallId(at): CallId, ret: Object::Ret) {
        self.calls.borrow_mut()[at].outcome = Outcome::Returned(ret);
        self.events.borrow_mut().push(at);
    }

    /// Records that a call certainly had no effect.
    pub fn had_no_effect(&self, CallId(at): CallId) {
        self.calls.borrow_mut()[at].outcome = Outcome::NoEffect;
    }

    /// The number of calls that had an effect, or may have one.
    pub fn len(&self) -> usize {
        self.calls.borrow().iter().filter(|call| call.outcome != Outcome::NoEffect).count()
    }

    /// The number of calls without an answer.
    pub fn unknown(&self) -> usize {
        self.calls.borrow().iter().filter(|call| call.outcome == Outcome::Unknown).count()
    }

    /// Searches for an order that explains all answers. The error lists the calls that none explains.
    pub fn check(&self) -> Result<(), String> {
        let calls = self.calls.borrow();
        let mut tester = LinearizabilityTester::new(self.object);
        let mut started = vec![false; calls.len()];
        let mut lines = Vec::new();
        for at in self.events.borrow().iter().copied() {
            let Call { op, outcome } = &calls[at];
            let accepted = match (outcome, std::mem::replace(&mut started[at], true)) {
                (Outcome::NoEffect, _) => continue,
                (outcome, false) => {
                    let never = if *outcome == Outcome::Unknown { " and is never answered" } else { "" };
                    lines.push(format!("{at} {op:?} starts{never}"));
                    // The tester wants a thread for each call. One of its own fits: only the overlap of calls matters.
                    tester.on_invoke(at, *op)
                }
                (Outcome::Returned(ret), true) => {
                    lines.push(format!("{at} {op:?} returns {ret:?}"));
                    tester.on_return(at, ret.clone())
                }
                (Outcome::Unknown, true) => unreachable!("a call without an answer has one event"),
            };
            accepted.expect("a call starts once, and returns after that");
        }
        match tester.is_consistent() {
            true => Ok(()),
            false => {
                Err(format!("not linearizable, no order of these calls explains the answers: {}", lines.join("; ")))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{NameOp::*, RegisterOp::*, *};

    fn register() -> History<Register> {
        History::of(Register::new(0))
    }

    /// A call that returns before the next one starts.
    fn call<Object>(history: &History<Object>, op: Object::Op, ret: Object::Ret)
    where
        Object: SequentialSpec<Op: Copy + std::fmt::Debug, Ret: Clone + std::fmt::Debug> + Copy,
    {
        history.returned(history.invoke(op), ret);
    }

    #[test]
    fn a_read_returns_what_was_written_last() {
        let history = register();
        call(&history, Read, Some(0));
        call(&history, Write(1), None);
        call(&history, Read, Some(1));
        history.had_no_effect(history.invoke(Write(7)));
        assert_eq!(history.check(), Ok(()));
        call(&history, Write(2), None);
        call(&history, Read, Some(1));
        assert!(history.check().unwrap_err().contains("5 Read returns Some(1)"));
        assert_eq!((history.len(), history.unknown()), (5, 0));
    }

    #[test]
    fn a_write_under_way_may_be_read_but_then_every_later_read_sees_it() {
        let history = register();
        let writing = history.invoke(Write(1));
        call(&history, Read, Some(0));
        call(&history, Read, Some(1));
        assert_eq!(history.check(), Ok(()));
        call(&history, Read, Some(0));
        assert!(history.check().is_err());
        history.returned(writing, None);
        assert!(history.check().is_err());
    }

    #[test]
    fn a_write_that_was_never_answered_may_take_effect_late_or_never() {
        for shown in [Some(0), Some(1)] {
            let history = register();
            history.invoke(Write(1));
            call(&history, Read, Some(0));
            call(&history, Read, shown);
            assert_eq!(history.check(), Ok(()), "{shown:?}");
            assert_eq!(history.unknown(), 1);
        }
        let history = register();
        call(&history, Read, Some(1));
        history.invoke(Write(1));
        assert!(history.check().is_err(), "a value was read before it was written");
    }

    #[test]
    fn a_monotonic_register_only_rises() {
        let history = History::of(Register::monotonic(0));
        call(&history, Write(5), None);
        call(&history, Write(3), None);
        call(&history, Read, Some(5));
        assert_eq!(history.check(), Ok(()));
        call(&history, Read, Some(3));
        assert!(history.check().is_err());
    }

    #[test]
    fn a_name_is_given_out_once() {
        let history = History::of(AccountName::Free);
        call(&history, SignIn(0), false);
        let (first, second) = (history.invoke(Create(0)), history.invoke(Create(1)));
        history.returned(first, false);
        history.returned(second, true);
        call(&history, SignIn(0), false);
        call(&history, SignIn(1), true);
        call(&history, Delete, true);
        call(&history, Create(0), false);
        call(&history, SignIn(1), false);
        call(&history, Delete, false);
        assert_eq!(history.check(), Ok(()));
        let twice = History::of(AccountName::Free);
        let (first, second) = (twice.invoke(Create(0)), twice.invoke(Create(1)));
        twice.returned(first, true);
        twice.returned(second, true);
        assert!(twice.check().is_err());
    }
}
