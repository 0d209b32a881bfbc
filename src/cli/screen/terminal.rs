//! The terminal and the main loop: takes the terminal over, reads keys, draws, and gives it back as it was found.

use std::{
    io::{self, Stdout},
    panic,
    sync::{
        Once,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use ratatui::{
    Terminal,
    backend::CrosstermBackend,
    crossterm::{
        cursor::Show,
        event::{self, DisableBracketedPaste, EnableBracketedPaste, KeyEventKind},
        execute,
        terminal::{EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode},
    },
};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
};

use super::{
    draw::draw,
    event::{Effect, Event},
    state::State,
    worker::Worker,
};
use crate::{
    cli::{Exit, Failure, Result},
    client::{Outbox, Session},
};

/// Capacity of the event channels. A sender waits while its channel is full.
const EVENTS: usize = 256;
/// How long the key thread waits for a key before it checks whether the screen has closed.
const KEY_POLL: Duration = Duration::from_millis(200);

/// Runs the screen until the person leaves. Returns the number of messages that are not acknowledged yet; `outbox` holds
/// them.
///
/// # Errors
/// If the terminal cannot be used, or a task of the worker has panicked.
pub async fn run(session: Session, account: &str, outbox: Outbox) -> Result<usize> {
    let mut stop = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()].map(signal);
    let mut screen = Screen::open().map_err(|error| Failure::from(error).context("cannot use the terminal"))?;
    let size = screen.terminal.size()?;
    let ids = session.cluster().clone();
    let mut state = State::new(account, (size.width, size.height), Box::new(move || ids.request_id()));
    let (events, mut coming) = mpsc::channel(EVENTS);
    let mut keys = read_keys();
    let kept = outbox.entries();
    let mut worker = Worker::start(session, outbox, events);
    let first = match kept {
        Ok(kept) => Event::OutboxRead(kept),
        Err(error) => Event::Notice(error.to_string()),
    };
    state.handle(first);
    loop {
        screen.show(&mut state)?;
        // Signals first, then keys: a flood of events must not keep a person from leaving.
        let event = tokio::select! {
            biased;
            () = any(&mut stop) => break,
            key = keys.recv() => match key {
                Some(Ok(input)) => input,
                Some(Err(error)) => return Err(Failure::from(error).context("cannot read the terminal")),
                None => break,
            },
            Some(event) = coming.recv() => Some(event),
            failed = worker.failed() => {
                if failed {
                    return Err(Failure::new(Exit::Failure, "internal error: a background task panicked"));
                }
                None
            }
        };
        let mut effects = event.map(|event| state.handle(event)).unwrap_or_default();
        // Draw once for a burst of events.
        while let Ok(event) = coming.try_recv() {
            effects.extend(state.handle(event));
        }
        if effects.contains(&Effect::Quit) {
            break;
        }
        effects.into_iter().for_each(|effect| worker.run(effect));
    }
    Ok(state.outgoing.len())
}

/// Waits for the first of the signals.
async fn any(signals: &mut [io::Result<Signal>; 3]) {
    let [one, two, three] = signals;
    tokio::select! {
        () = once(one) => {}
        () = once(two) => {}
        () = once(three) => {}
    }
}

async fn once(signal: &mut io::Result<Signal>) {
    match signal {
        Ok(signal) => drop(signal.recv().await),
        // Without a handler, the signal has its default action.
        Err(_) => std::future::pending().await,
    }
}

/// Reads keys on a thread, because reading blocks. `None` wakes the loop after a resize; drawing looks the size up.
fn read_keys() -> mpsc::Receiver<io::Result<Option<Event>>> {
    let (keys, coming) = mpsc::channel(EVENTS);
    thread::spawn(move || {
        while !keys.is_closed() {
            let input = match event::poll(KEY_POLL) {
                Ok(false) => continue,
                Ok(true) => event::read(),
                Err(error) => Err(error),
            };
            let (is_over, input) = (input.is_err(), input.map(translate));
            if keys.blocking_send(input).is_err() || is_over {
                return;
            }
        }
    });
    coming
}

fn translate(input: event::Event) -> Option<Event> {
    match input {
        event::Event::Key(key) if key.kind != KeyEventKind::Release => Some(Event::Key(key)),
        event::Event::Paste(text) => Some(Event::Paste(text)),
        _ => None,
    }
}

/// Exclusive use of the terminal. Dropping it gives the terminal back; a panic does so before its message is printed.
///
/// There must be only one at a time: [`TAKEN`] is one flag for the process.
pub struct Screen {
    terminal: Terminal<CrosstermBackend<Stdout>>,
}

impl Screen {
    /// Takes over the terminal of standard input and output: raw mode, alternate screen, bracketed paste.
    ///
    /// # Errors
    /// If there is no terminal, or it cannot be set up.
    pub fn open() -> io::Result<Self> {
        restore_on_panic();
        enable_raw_mode()?;
        TAKEN.store(true, Ordering::SeqCst);
        // From here on, every failure must give the terminal back.
        let opened = execute!(io::stdout(), EnterAlternateScreen, EnableBracketedPaste)
            .and_then(|()| Terminal::new(CrosstermBackend::new(io::stdout())));
        if opened.is_err() {
            restore();
        }
        Ok(Self { terminal: opened? })
    }

    fn show(&mut self, state: &mut State) -> io::Result<()> {
        self.terminal.draw(|frame| {
            let area = frame.area();
            if state.size != (area.width, area.height) {
                state.resize(area.width, area.height);
            }
            draw(state, frame);
        })?;
        Ok(())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        restore();
    }
}

/// Whether the terminal is taken over. Restoring it twice would move the cursor over what was printed in between.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// Gives the terminal back. Errors are ignored: there is nothing left to report them on.
fn restore() {
    if !TAKEN.swap(false, Ordering::SeqCst) {
        return;
    }
    let _ = execute!(io::stdout(), DisableBracketedPaste, LeaveAlternateScreen, Show);
    let _ = disable_raw_mode();
}

/// Installs a panic hook that restores the terminal first. Otherwise the message would vanish with the alternate screen.
fn restore_on_panic() {
    static HOOKED: Once = Once::new();
    HOOKED.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            restore();
            before(info);
        }));
    });
}
