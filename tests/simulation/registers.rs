//! Small things that several clients read and write at once. What they were told must be explained by some order of
//! their operations in which each takes effect at one moment between its call and its answer: linearizability
//! (Herlihy and Wing, 1990). Stateright's tester looks for that order.

use std::cell::RefCell;

use stateright::semantics::{ConsistencyTester, LinearizabilityTester, SequentialSpec};

/// A number that whoever may set it sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Register {
    value: u64,
    /// It goes up only: what is set below it changes nothing.
    rises: bool,
}

impl Register {
    pub fn new(value: u64) -> Self {
        Self { value, rises: false }
    }

    pub fn rising(value: u64) -> Self {
        Self { value, rises: true }
    }
}

/// What is done with a [`Register`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    Set(u64),
    Get,
}

impl SequentialSpec for Register {
    type Op = Access;
    /// What a read shows; nothing for a write.
    type Ret = Option<u64>;

    fn invoke(&mut self, access: &Access) -> Option<u64> {
        match *access {
            Access::Get => return Some(self.value),
            Access::Set(value) if self.rises => self.value = self.value.max(value),
            Access::Set(value) => self.value = value,
        }
        None
    }
}

/// A name for an account, which is given once, for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Name {
    Free,
    /// Held by whoever chose this password.
    Held(usize),
    Gone,
}

/// What is done with a [`Name`]. The answer says whether it succeeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deed {
    Claim(usize),
    SignIn(usize),
    Delete,
}

impl SequentialSpec for Name {
    type Op = Deed;
    type Ret = bool;

    fn invoke(&mut self, deed: &Deed) -> bool {
        match (*deed, *self) {
            (Deed::Claim(by), Self::Free) => *self = Self::Held(by),
            (Deed::SignIn(by), Self::Held(holder)) if by == holder => {}
            (Deed::Delete, Self::Held(_)) => *self = Self::Gone,
            _ => return false,
        }
        true
    }
}

/// All that was done with one object, in the order in which calls began and answers came.
pub struct History<Object: SequentialSpec> {
    object: Object,
    calls: RefCell<Vec<Call<Object>>>,
    /// Calls by number: each where it began, and again where it was answered.
    happened: RefCell<Vec<usize>>,
}

struct Call<Object: SequentialSpec> {
    op: Object::Op,
    end: End<Object::Ret>,
}

#[derive(Debug, Clone, PartialEq)]
enum End<Ret> {
    /// It may take effect at any time, or never.
    Unknown,
    /// It has had no effect, and has shown nothing.
    Void,
    Told(Ret),
}

/// Stands for one call.
#[derive(Debug, Clone, Copy)]
pub struct Number(usize);

impl<Object> History<Object>
where
    Object: SequentialSpec<Op: Copy + std::fmt::Debug, Ret: Clone + std::fmt::Debug> + Copy,
{
    pub fn of(object: Object) -> Self {
        Self { object, calls: RefCell::default(), happened: RefCell::default() }
    }

    /// A call begins. Until it ends, its outcome is unknown.
    pub fn begin(&self, op: Object::Op) -> Number {
        let mut calls = self.calls.borrow_mut();
        calls.push(Call { op, end: End::Unknown });
        self.happened.borrow_mut().push(calls.len() - 1);
        Number(calls.len() - 1)
    }

    pub fn told(&self, Number(at): Number, ret: Object::Ret) {
        self.calls.borrow_mut()[at].end = End::Told(ret);
        self.happened.borrow_mut().push(at);
    }

    /// It is certain that the call had no effect.
    pub fn void(&self, Number(at): Number) {
        self.calls.borrow_mut()[at].end = End::Void;
    }

    /// How many calls have had an effect, or may have.
    pub fn len(&self) -> usize {
        self.calls.borrow().iter().filter(|call| call.end != End::Void).count()
    }

    /// How many have not been answered.
    pub fn unknown(&self) -> usize {
        self.calls.borrow().iter().filter(|call| call.end == End::Unknown).count()
    }

    /// Says how no order explains what was told, if none does.
    pub fn judge(&self) -> Result<(), String> {
        let calls = self.calls.borrow();
        let mut tester = LinearizabilityTester::new(self.object);
        let mut begun = vec![false; calls.len()];
        let mut lines = Vec::new();
        for at in self.happened.borrow().iter().copied() {
            let Call { op, end } = &calls[at];
            let fed = match (end, std::mem::replace(&mut begun[at], true)) {
                (End::Void, _) => continue,
                (end, false) => {
                    lines.push(format!("{at} {op:?} begins{}", if *end == End::Unknown { ", for ever" } else { "" }));
                    // Each call is a thread of its own: what was at once and what was not is all that counts.
                    tester.on_invoke(at, *op)
                }
                (End::Told(ret), true) => {
                    lines.push(format!("{at} {op:?} ends: {ret:?}"));
                    tester.on_return(at, ret.clone())
                }
                (End::Unknown, true) => unreachable!("it was never answered"),
            };
            fed.expect("a call begins once, and ends after that");
        }
        match tester.is_consistent() {
            true => Ok(()),
            false => Err(format!("no order of these explains them: {}", lines.join("; "))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Access::*, Deed::*, *};

    fn register() -> History<Register> {
        History::of(Register::new(0))
    }

    /// One call after the other.
    fn done<Object>(history: &History<Object>, op: Object::Op, ret: Object::Ret)
    where
        Object: SequentialSpec<Op: Copy + std::fmt::Debug, Ret: Clone + std::fmt::Debug> + Copy,
    {
        history.told(history.begin(op), ret);
    }

    #[test]
    fn what_was_set_is_read_until_something_else_is_set() {
        let history = register();
        done(&history, Get, Some(0));
        done(&history, Set(1), None);
        done(&history, Get, Some(1));
        history.void(history.begin(Set(7)));
        assert_eq!(history.judge(), Ok(()));
        done(&history, Set(2), None);
        done(&history, Get, Some(1));
        assert!(history.judge().unwrap_err().contains("5 Get ends: Some(1)"));
        assert_eq!((history.len(), history.unknown()), (5, 0));
    }

    #[test]
    fn what_is_under_way_may_be_read_or_not_but_not_unread_again() {
        let history = register();
        let setting = history.begin(Set(1));
        done(&history, Get, Some(0));
        done(&history, Get, Some(1));
        assert_eq!(history.judge(), Ok(()));
        done(&history, Get, Some(0));
        assert!(history.judge().is_err());
        history.told(setting, None);
        assert!(history.judge().is_err());
    }

    #[test]
    fn a_write_that_was_never_answered_may_take_effect_late_or_never() {
        for shown in [Some(0), Some(1)] {
            let history = register();
            history.begin(Set(1));
            done(&history, Get, Some(0));
            done(&history, Get, shown);
            assert_eq!(history.judge(), Ok(()), "{shown:?}");
            assert_eq!(history.unknown(), 1);
        }
        let history = register();
        done(&history, Get, Some(1));
        history.begin(Set(1));
        assert!(history.judge().is_err(), "nothing is read before it was asked for");
    }

    #[test]
    fn a_mark_only_rises() {
        let history = History::of(Register::rising(0));
        done(&history, Set(5), None);
        done(&history, Set(3), None);
        done(&history, Get, Some(5));
        assert_eq!(history.judge(), Ok(()));
        done(&history, Get, Some(3));
        assert!(history.judge().is_err());
    }

    #[test]
    fn a_name_is_given_once() {
        let history = History::of(Name::Free);
        done(&history, SignIn(0), false);
        let (first, second) = (history.begin(Claim(0)), history.begin(Claim(1)));
        history.told(first, false);
        history.told(second, true);
        done(&history, SignIn(0), false);
        done(&history, SignIn(1), true);
        done(&history, Delete, true);
        done(&history, Claim(0), false);
        done(&history, SignIn(1), false);
        done(&history, Delete, false);
        assert_eq!(history.judge(), Ok(()));
        let twice = History::of(Name::Free);
        let (first, second) = (twice.begin(Claim(0)), twice.begin(Claim(1)));
        twice.told(first, true);
        twice.told(second, true);
        assert!(twice.judge().is_err());
    }
}
