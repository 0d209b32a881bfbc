//! A reminder bot. Send it `in 10m tea is ready`, and ten minutes later it sends you `tea is ready`.
//!
//! ```sh
//! export CHAT_SERVERS=127.0.0.1:7400 CHAT_AS=reminder CHAT_PASSWORD='correct horse battery'
//! cargo run --example bot reminder.cursor
//! ```
//!
//! It answers each command once, whatever fails: nodes, the network, or the bot itself, which may be killed at any time
//! and started again. Two things make it so:
//!
//! - The *cursor* of the last event that needs no answer any more is kept in a file, and written after the answer was
//!   acknowledged. After a restart the bot sees all later events again, so it forgets no reminder.
//! - The *request id* of an answer is computed from the command. A repeated answer bears the same id, and the cluster,
//!   which remembers ids for a day, does not send it again. So a lost or old cursor file does no harm.

use std::{collections::BTreeMap, env, error::Error, fs, io::ErrorKind, path::PathBuf, time::Duration};

use quorate::{
    client::{Cluster, Recipient, Session, Settings, Start, Update, outcome_is_unknown},
    types::{RequestId, limits::REQUEST_WINDOW},
    wire::{
        Dialer, Fault, Reason,
        chat::{Message, subscribe_response::Event},
    },
};
use tokio::time::sleep;

/// Most reminders in memory. When there are more, the bot stops reading until the next one is due.
const PENDING: usize = 10_000;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let variable = |name| env::var(name).map_err(|_| format!("set {name}"));
    let file = env::args().nth(1).ok_or("name a file for the cursor")?.into();
    let (name, password) = (variable("CHAT_AS")?, variable("CHAT_PASSWORD")?);
    let seeds = variable("CHAT_SERVERS")?.split(',').map(str::parse).collect::<Result<_, _>>()?;
    let cluster = Cluster::new(seeds, Dialer::tcp(), Settings::new(Duration::from_secs(10)));
    Bot { name, password, file }.run(&cluster).await
}

/// The bot's account, and the file that holds the cursor.
pub struct Bot {
    /// Its username. Registered if it is new.
    pub name: String,
    /// Its password. While it stays the same, so do the request ids of answers.
    pub password: String,
    /// The cursor, in decimal.
    pub file: PathBuf,
}

/// A command that waits for its answer.
struct Reminder {
    to: String,
    text: String,
    /// The cursor before the command, to read it again after a restart.
    before: u64,
}

/// Reminders by when they are due (Unix milliseconds) and by the cursor of the command.
type Pending = BTreeMap<(u64, u64), Reminder>;

impl Bot {
    /// Runs until the session ends, or until something fails that a repetition does not cure.
    pub async fn run(&self, cluster: &Cluster) -> Result<(), Box<dyn Error>> {
        let session = self.sign_in(cluster).await?;
        let mut saved = self.load()?;
        let mut subscription = session.subscribe(Start::After(saved));
        let mut pending = Pending::new();
        loop {
            let before = subscription.cursor();
            let now = cluster.clock().now_ms();
            let wait =
                pending.keys().next().map_or(Duration::MAX, |(due, _)| Duration::from_millis(due.saturating_sub(now)));
            tokio::select! {
                // If a node fails, the subscription moves to another by itself. It repeats nothing and omits nothing.
                update = subscription.next(), if pending.len() < PENDING => match update {
                    Some(Ok(Update::Event(event))) => {
                        if let Some(Event::Message(message)) = event.event {
                            pending.extend(self.reminder(message, before));
                        }
                    }
                    Some(Ok(_)) => {}
                    Some(Err(fault)) => return Err(fault.into()),
                    None => return Ok(()),
                },
                () = sleep(wait) => {
                    if let Some(entry) = pending.first_entry()
                        && self.answer(&session, *entry.key(), entry.get()).await?
                    {
                        entry.remove();
                    }
                }
            }
            let cursor = pending.values().map(|reminder| reminder.before).min().unwrap_or(subscription.cursor());
            if cursor != saved {
                self.save(cursor)?;
                saved = cursor;
            }
        }
    }

    async fn sign_in(&self, cluster: &Cluster) -> Result<Session, Fault> {
        match Session::register(cluster, &self.name, &self.password).await {
            Err(fault) if fault.reason != Reason::NameTaken => return Err(fault),
            _ => {}
        }
        Ok(Session::login(cluster, &self.name, &self.password, "bot").await?.0)
    }

    fn load(&self) -> Result<u64, Box<dyn Error>> {
        match fs::read_to_string(&self.file) {
            Ok(text) => Ok(text.trim().parse()?),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(0),
            Err(error) => Err(error.into()),
        }
    }

    fn save(&self, cursor: u64) -> std::io::Result<()> {
        let new = self.file.with_extension("new");
        fs::write(&new, cursor.to_string())?;
        fs::rename(&new, &self.file)
    }

    /// The reminder that a message asks for: `in DURATION TEXT`, from somebody else.
    fn reminder(&self, message: Message, before: u64) -> Option<((u64, u64), Reminder)> {
        let (delay, text) = message.body.strip_prefix("in ")?.split_once(' ')?;
        let delay = humantime::parse_duration(delay).ok().filter(|delay| *delay <= REQUEST_WINDOW)?;
        // The time that the cluster gave to the message, which is the same whenever it is read again.
        let sent = message.create_time?;
        let due = Duration::new(u64::try_from(sent.seconds).ok()?, u32::try_from(sent.nanos).ok()?) + delay;
        let reminder = Reminder { to: message.sender, text: text.to_owned(), before };
        let is_own = reminder.to.eq_ignore_ascii_case(&self.name);
        (!is_own).then_some(((u64::try_from(due.as_millis()).ok()?, message.cursor), reminder))
    }

    /// Sends an answer. Returns false if it must be tried again.
    async fn answer(&self, session: &Session, (due, cursor): (u64, u64), reminder: &Reminder) -> Result<bool, Fault> {
        // All clients share one space of ids. With the password in it, nobody else can guess this one and use it up.
        let digest = blake3::hash(format!("{} {} {cursor}", self.name, self.password).as_bytes());
        let id = RequestId::new(due, *digest.as_bytes().first_chunk().expect("32 bytes"));
        match session.send_as(id, &Recipient::Username(reminder.to.clone()), &reminder.text).await {
            Ok(_) => Ok(true),
            Err(fault) if fault.reason == Reason::SessionInvalid => Err(fault),
            Err(fault) if outcome_is_unknown(&fault) || fault.reason.is_transient() => {
                eprintln!("will try again: {fault}");
                sleep(Duration::from_secs(1)).await;
                Ok(false)
            }
            Err(fault) => {
                eprintln!("cannot remind {}: {fault}", reminder.to);
                Ok(true)
            }
        }
    }
}
