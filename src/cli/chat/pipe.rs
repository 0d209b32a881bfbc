//! `chat send --json -`: messages from standard input, one JSON object per line; what became of each, one per line.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read},
    thread,
};

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::{Desk, recipient};
use crate::{
    cli::{Exit, Failure, Result, text},
    client::{Recipient, Session},
    types::{RequestId, limits},
    wire::{Fault, Reason, chat::SendMessageResponse, json as wire_json},
};

/// Bytes of a line: the longest body with every byte escaped, and the rest.
const LINE_BYTES: u64 = 6 * limits::BODY_BYTES as u64 + 4096;
/// What the recipients named so far mean, remembered for so many.
const RECIPIENTS: usize = 1_000;

/// A line of input.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Order {
    to: String,
    body: String,
    #[serde(default)]
    request_id: Option<String>,
}

/// Sends each line before it takes the next. While the cluster cannot decide, it goes on trying with the same
/// request_id, so that what comes out is final.
pub(super) async fn run(mut desk: Desk) -> Result<()> {
    if !desk.output().is_json() {
        return Err(Failure::new(Exit::Usage, "`chat send -` needs --json, or a recipient")
            .next("`chat send TO -` sends all of standard input as one message"));
    }
    let (session, _) = desk.session()?;
    let input = std::mem::replace(&mut desk.around.input, Box::new(std::io::empty()));
    let mut lines = lines(input);
    let mut known = BTreeMap::new();
    let mut worst = Exit::Ok;
    while let Some(line) = lines.recv().await {
        let line = line?;
        if line.trim_ascii().is_empty() {
            continue;
        }
        let result = match order(&line) {
            Ok((order, id)) => {
                let id = id.unwrap_or_else(|| session.cluster().request_id());
                send(&mut desk, &session, &mut known, order, id).await?
            }
            Err(failure) => refused(None, None, &failure, "INVALID_ARGUMENT"),
        };
        if result["ok"] == json!(false) {
            worst = Exit::Failure;
        }
        desk.output().json(&result)?;
    }
    if worst == Exit::Ok { Ok(()) } else { Err(Failure::quiet(worst)) }
}

pub(super) fn order(line: &[u8]) -> Result<(Order, Option<RequestId>)> {
    let invalid = |error: String| Failure::new(Exit::Failure, error);
    let order: Order = serde_json::from_slice(line).map_err(|error| invalid(format!("not a message: {error}")))?;
    let id = order.request_id.as_deref().map(str::parse::<RequestId>).transpose();
    let id = id.map_err(|error| invalid(error.to_string()))?;
    Ok((order, id))
}

async fn send(
    desk: &mut Desk,
    session: &Session,
    known: &mut BTreeMap<String, Recipient>,
    order: Order,
    id: RequestId,
) -> Result<Value> {
    let mut told = false;
    loop {
        match attempt(session, known, &order, id).await {
            Ok(answer) => return Ok(sent(&order, id, &answer)),
            // Safe to repeat: the same request_id takes effect once.
            Err(failure) if failure.exit == Exit::Unavailable => {
                if !std::mem::replace(&mut told, true) {
                    desk.output().talk(format!("waiting: {}", text::line(&failure.message)));
                }
            }
            // Every later line would meet the same, and none of them is to be lost by being answered.
            Err(failure) if failure.exit == Exit::NotAllowed && failure.message.contains("session") => {
                return Err(failure);
            }
            Err(failure) => return Ok(refused(Some(&order), Some(id), &failure, reason(&failure))),
        }
    }
}

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
    order: &Order,
    id: RequestId,
) -> Result<SendMessageResponse> {
    let to = match known.get(&order.to) {
        Some(to) => to.clone(),
        None => {
            let to = recipient::resolve(session, &order.to).await?;
            if known.len() >= RECIPIENTS {
                known.clear();
            }
            known.insert(order.to.clone(), to.clone());
            to
        }
    };
    match session.send_as(id, &to, &order.body).await {
        Ok(answer) => Ok(answer),
        Err(fault @ Fault { reason: Reason::SessionInvalid, .. }) => {
            Err(Failure::from(fault).context("the session has ended"))
        }
        Err(fault) => Err(fault.into()),
    }
}

fn sent(order: &Order, id: RequestId, answer: &SendMessageResponse) -> Value {
    let answer: Value = serde_json::from_str(&wire_json::to_string(answer)).unwrap_or_default();
    json!({
        "ok": true, "requestId": id.to_string(), "to": order.to,
        "message": answer["message"], "deduplicated": answer["deduplicated"],
    })
}

fn refused(order: Option<&Order>, id: Option<RequestId>, failure: &Failure, reason: &str) -> Value {
    let id = id.map(|id| id.to_string());
    json!({ "ok": false, "requestId": id, "to": order.map(|order| &order.to), "reason": reason, "error": failure.message })
}

/// Reads lines on a thread of its own, since that blocks; one ahead of what is being sent.
fn lines(input: Box<dyn Read + Send>) -> mpsc::Receiver<Result<Vec<u8>>> {
    let (lines, coming) = mpsc::channel(1);
    thread::spawn(move || {
        let mut input = BufReader::new(input);
        loop {
            let mut line = Vec::new();
            let read = input.by_ref().take(LINE_BYTES).read_until(b'\n', &mut line);
            let line = match read {
                Ok(0) => return,
                Ok(_) if line.len() as u64 == LINE_BYTES && !line.ends_with(b"\n") => {
                    Err(Failure::new(Exit::Failure, format!("a line is longer than {LINE_BYTES} bytes")))
                }
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
