//! The terminal: taken over, drawn on, read from, and given back as it was found.

use std::{
    io::{self, Stdout},
    panic,
    sync::Once,
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
    work::Worker,
};
use crate::{
    cli::{Exit, Failure, Result},
    client::{Outbox, Session},
};

/// Events that wait to be taken, at most; whoever brings one more waits.
const EVENTS: usize = 256;
/// How often the thread that reads keys looks whether it is still wanted.
const LOOK: Duration = Duration::from_millis(200);

/// Runs the screen until the person leaves; answers with how many messages are still on their way, kept in `outbox`.
///
/// # Errors
/// When the terminal cannot be used, or a part of the screen has failed.
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
        Ok(kept) => Event::Found(kept),
        Err(error) => Event::Notice(error.to_string()),
    };
    state.take(first);
    loop {
        screen.show(&mut state)?;
        let event = tokio::select! {
            biased;
            () = any(&mut stop) => break,
            key = keys.recv() => match key {
                Some(Ok(input)) => input,
                Some(Err(error)) => return Err(Failure::from(error).context("the terminal cannot be read")),
                None => break,
            },
            Some(event) = coming.recv() => Some(event),
            failed = worker.failed() => {
                if failed {
                    return Err(Failure::new(Exit::Failure, "a part of the screen has failed, by a fault of this program"));
                }
                None
            }
        };
        let mut effects = event.map(|event| state.take(event)).unwrap_or_default();
        // A burst is drawn once.
        while let Ok(event) = coming.try_recv() {
            effects.extend(state.take(event));
        }
        if effects.contains(&Effect::Quit) {
            break;
        }
        effects.into_iter().for_each(|effect| worker.begin(effect));
    }
    Ok(state.outgoing.len())
}

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
        // A signal that cannot be caught does what it always does.
        Err(_) => std::future::pending().await,
    }
}

/// Reads the terminal on a thread of its own, since that blocks. `None` is news of a size, which drawing looks up.
fn read_keys() -> mpsc::Receiver<io::Result<Option<Event>>> {
    let (keys, coming) = mpsc::channel(EVENTS);
    thread::spawn(move || {
        while !keys.is_closed() {
            let input = match event::poll(LOOK) {
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

/// The terminal while it is ours.
struct Screen {
    terminal: Terminal<CrosstermBackend<Stdout>>,
}

impl Screen {
    fn open() -> io::Result<Self> {
        restore_on_panic();
        enable_raw_mode()?;
        // From here on, whatever fails gives the terminal back.
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

/// Gives the terminal back. What fails here cannot be told to anyone.
fn restore() {
    let _ = execute!(io::stdout(), DisableBracketedPaste, LeaveAlternateScreen, Show);
    let _ = disable_raw_mode();
}

/// A panic's message must stand on the person's own screen, not vanish with ours.
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
