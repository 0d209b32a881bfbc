//! `chat send --json -`: one message per line of standard input, one result per line of standard output, both JSON.
//!
//! # Guarantees
//! - Results come in the order of the lines, one for each line that is not empty.
//! - A result is final. While the cluster cannot decide, the same request_id is tried again without end.
//! - If the session ends, the pipe stops without a result for the line at hand. Every later line would fail as well.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read},
    thread,
};

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::{command_context::CommandContext, recipient};
use crate::{
    cli::{Exit, Failure, Result, text, typed},
    client::{Recipient, Session},
    types::{RequestId, limits},
    wire::{Fault, Reason, chat::SendMessageResponse, json as wire_json},
};

/// Maximum bytes of a line: the longest body with each byte escaped (`\u00xx`), plus the other fields.
const LINE_BYTES: u64 = 6 * limits::BODY_BYTES as u64 + 4096;
/// Recipients whose meaning is cached. When there are more, the cache starts again.
const RECIPIENTS: usize = 1_000;

/// A line of input. Unknown fields are refused, so that a misspelt `requestId` is not ignored.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct InputMessage {
    to: String,
    body: String,
    #[serde(default)]
    request_id: Option<String>,
}

/// Sends each line before it takes the next one.
pub(super) async fn run(mut context: CommandContext) -> Result<()> {
    if !context.output().is_json() {
        return Err(Failure::new(Exit::Usage, "`chat send -` needs --json, or a recipient")
            .next("`chat send TO -` sends all of standard input as one message"));
    }
    let (session, _) = context.session()?;
    let input = std::mem::replace(&mut context.environment.input, Box::new(std::io::empty()));
    let mut lines = lines(input);
    let mut known = BTreeMap::new();
    let mut worst = Exit::Ok;
    while let Some(line) = lines.recv().await {
        let line = line?;
        if line.trim_ascii().is_empty() {
            continue;
        }
        let result = match parse(&line) {
            Ok((message, id)) => {
                let id = id.unwrap_or_else(|| session.cluster().request_id());
                send(&mut context, &session, &mut known, message, id).await?
            }
            Err(failure) => refused(None, None, &failure, "INVALID_ARGUMENT"),
        };
        if result["ok"] == json!(false) {
            worst = Exit::Failure;
        }
        context.output().json(&result)?;
    }
    if worst == Exit::Ok { Ok(()) } else { Err(Failure::quiet(worst)) }
}

pub(super) fn parse(line: &[u8]) -> Result<(InputMessage, Option<RequestId>)> {
    let invalid = |error: String| Failure::new(Exit::Failure, error);
    let message: InputMessage =
        serde_json::from_slice(line).map_err(|error| invalid(format!("not a message: {error}")))?;
    let id = message.request_id.as_deref().map(str::parse::<RequestId>).transpose();
    let id = id.map_err(|error| invalid(error.to_string()))?;
    Ok((message, id))
}

/// Sends one message until its fate is certain, and returns the result line. Fails only if the session has ended.
async fn send(
    context: &mut CommandContext,
    session: &Session,
    known: &mut BTreeMap<String, Recipient>,
    message: InputMessage,
    id: RequestId,
) -> Result<Value> {
    let mut told = false;
    loop {
        match attempt(session, known, &message, id).await {
            Ok(answer) => return Ok(sent(&message, id, &answer)),
            // Safe to repeat: the same request_id takes effect once.
            Err(failure) if failure.exit == Exit::Unavailable => {
                if !std::mem::replace(&mut told, true) {
                    context.output().talk(format!("waiting: {}", text::line(&failure.message)));
                }
            }
            // Every later line would fail as well. Without results, a bot sends them all again after signing in.
            Err(failure) if failure.exit == Exit::NotAllowed && failure.message.contains("session") => {
                return Err(failure);
            }
            Err(failure) => return Ok(refused(Some(&message), Some(id), &failure, reason(&failure))),
        }
    }
}

/// The `reason` of a result, for programs.
fn reason(failure: &Failure) -> &'static str {
    match failure.exit {
        Exit::NotFound => "NOT_FOUND",
        Exit::Conflict => "CONFLICT",
        Exit::NotAllowed => "NOT_ALLOWED",
        _ => "FAILED",
    }
}

async fn attempt(
    session: &Session,
    known: &mut BTreeMap<String, Recipient>,
    message: &InputMessage,
    id: RequestId,
) -> Result<SendMessageResponse> {
    let to = match known.get(&message.to) {
        Some(to) => to.clone(),
        None => {
            let to = recipient::resolve(session, &message.to).await?;
            if known.len() >= RECIPIENTS {
                known.clear();
            }
            known.insert(message.to.clone(), to.clone());
            to
        }
    };
    match session.send_as(id, &to, &message.body).await {
        Ok(answer) => Ok(answer),
        Err(fault @ Fault { reason: Reason::SessionInvalid, .. }) => {
            Err(Failure::from(fault).context("the session has ended"))
        }
        Err(fault) => Err(fault.into()),
    }
}

fn sent(message: &InputMessage, id: RequestId, answer: &SendMessageResponse) -> Value {
    let answer: Value = serde_json::from_str(&wire_json::to_string(answer)).unwrap_or_default();
    json!({
        "ok": true, "requestId": id.to_string(), "to": message.to,
        "message": answer["message"], "deduplicated": answer["deduplicated"],
    })
}

fn refused(message: Option<&InputMessage>, id: Option<RequestId>, failure: &Failure, reason: &str) -> Value {
    let id = id.map(|id| id.to_string());
    json!({ "ok": false, "requestId": id, "to": message.map(|message| &message.to), "reason": reason, "error": failure.message })
}

/// Reads lines on a thread, because reading blocks. It reads one line ahead of the one being sent.
fn lines(input: Box<dyn Read + Send>) -> mpsc::Receiver<Result<Vec<u8>>> {
    let (lines, coming) = mpsc::channel(1);
    thread::spawn(move || {
        let mut input = BufReader::new(input);
        let mut is_first = true;
        loop {
            let mut line = Vec::new();
            let read = input.by_ref().take(LINE_BYTES).read_until(b'\n', &mut line);
            let line = match read {
                Ok(0) => return,
                Ok(_) if line.len() as u64 == LINE_BYTES && !line.ends_with(b"\n") => {
                    Err(Failure::new(Exit::Failure, format!("a line is longer than {LINE_BYTES} bytes")))
                }
                Ok(_) if std::mem::take(&mut is_first) => Ok(typed::without_mark(&line).to_vec()),
                Ok(_) => Ok(line),
                Err(error) => Err(Failure::from(error)),
            };
            let is_over = line.is_err();
            if lines.blocking_send(line).is_err() || is_over {
                return;
            }
        }
    });
    coming
}
