//! The verbs on messages: send, inbox, read, history, delete.

use std::{collections::BTreeMap, io::Read as _};

use super::{
    args::{Delete, History, Read, Send},
    command_context::CommandContext,
    outbox, pipe, recipient, rooms,
    show::{self, Titles, conversation_name},
};
use crate::{
    cli::{Exit, Failure, Result, Table, text, typed},
    client::{Recipient, Session, outcome_is_unknown},
    types::limits,
    wire::chat::{
        Conversation, DeleteMessagesResponse, ListConversationsResponse, ListMessagesRequest, Message, MessageRef,
        RoomChange,
    },
};

/// Bytes of standard input from which on it is not read further: line ends may halve on the way to a body.
const INPUT_BYTES: u64 = 4 * limits::BODY_BYTES as u64;

/// Sends one message, at once or by the outbox. `chat send -` is the pipe.
pub(super) async fn send(mut context: CommandContext, args: Send) -> Result<()> {
    let body = match &args.message[..] {
        [] if args.to == "-" => return pipe::run(context).await,
        [] => return Err(Failure::new(Exit::Usage, "the message is missing").next("type `chat send TO MESSAGE…`")),
        [dash] if dash == "-" => body_from(&mut context.environment.input)?,
        words => words.join(" "),
    };
    let (session, saved) = context.session()?;
    let outbox = context.outbox(&saved)?;
    let id = args.request_id.unwrap_or_else(|| session.cluster().request_id());
    if args.queue {
        return outbox::queue(&mut context, &session, &outbox, id, recipient::parse(&args.to)?, &body).await;
    }
    let to = recipient::resolve(&session, &args.to).await?;
    outbox::deliver_earlier(&mut context, &session, &outbox).await?;
    let answer = session.send_as(id, &to, &body).await.map_err(|fault| {
        let look =
            format!("repeat it with --request-id {id}: the message is sent once, even if this attempt succeeded");
        let what = if outcome_is_unknown(&fault) { "not acknowledged" } else { "not sent" };
        Failure::of_write(fault, look).context(what)
    })?;
    show::acknowledged(context.output(), &answer)
}

/// All of standard input as one message. The last line end is no part of it.
fn body_from(input: &mut dyn std::io::Read) -> Result<String> {
    let mut bytes = Vec::new();
    input.take(INPUT_BYTES).read_to_end(&mut bytes)?;
    if bytes.len() as u64 == INPUT_BYTES {
        return Err(Failure::new(
            Exit::Failure,
            format!("the message on standard input is far longer than the limit of {} bytes", limits::BODY_BYTES),
        )
        .next("send it in parts"));
    }
    // The server refuses a body that is too long, and names its size.
    let mut body = typed::unix_lines(&typed::decode(&bytes, "the message on standard input")?);
    if body.ends_with('\n') {
        body.pop();
    }
    Ok(body)
}

pub(super) async fn inbox(mut context: CommandContext, unread: bool) -> Result<()> {
    let (session, saved) = context.session()?;
    let conversations = rooms::conversations(&session, false, unread).await?;
    if context.output().is_json() {
        return context.output().message(&ListConversationsResponse { conversations, ..Default::default() });
    }
    let mut table = Table::new(["UNREAD", "WITH", "ID", "LAST", "SEEN"]);
    for conversation in &conversations {
        let (unread, last) = (conversation.unread_count.to_string(), conversation.last_seq.to_string());
        let seen = seen(conversation).map(|seq| seq.to_string()).unwrap_or_default();
        table.row([
            &unread,
            &conversation_name(conversation, &saved.account),
            &conversation.conversation_id,
            &last,
            &seen,
        ]);
    }
    context.output().table(&table)?;
    if conversations.is_empty() {
        context.output().talk(if unread { "nothing unread" } else { "no conversations yet" });
    }
    Ok(())
}

/// The number up to which the other account of a direct conversation has read; `None` if receipts are off.
fn seen(conversation: &Conversation) -> Option<u64> {
    Some(conversation.peer_read_seq).filter(|seq| conversation.direct && *seq > 0)
}

/// Prints the oldest unread messages, then marks exactly the printed ones as read. If printing fails, none is marked.
pub(super) async fn read(mut context: CommandContext, args: Read) -> Result<()> {
    let (session, _) = context.session()?;
    let of = match &args.to {
        Some(to) => Some(recipient::resolve(&session, to).await?),
        None => None,
    };
    let messages = oldest_unread(&session, of.as_ref(), args.limit as usize).await?;
    print(&mut context, &session, &messages).await?;
    if messages.is_empty() {
        context.output().talk("nothing unread");
    } else if !args.peek {
        let shown: Vec<MessageRef> = messages.iter().map(reference).collect();
        let left = session.mark_read(shown).await.map_err(|fault| {
            Failure::of_write(fault, "it is safe to repeat").context("the messages shown may not be marked as read")
        })?;
        context.output().talk(format!("{} shown and marked as read; {left} left unread in all", messages.len()));
    }
    Ok(())
}

/// Up to `limit` unread messages, the oldest first, in as many pages as needed.
async fn oldest_unread(session: &Session, of: Option<&Recipient>, limit: usize) -> Result<Vec<Message>> {
    let mut messages: Vec<Message> = Vec::new();
    let mut page_token = String::new();
    while messages.len() < limit {
        let page_size = (limit - messages.len()).min(limits::PAGE_SIZE) as i32;
        let request = ListMessagesRequest { unread_only: true, page_size, page_token, ..Default::default() };
        let page = session.messages(of, request).await?;
        messages.extend(page.messages);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    messages.truncate(limit);
    Ok(messages)
}

/// Prints the latest messages of a conversation with the changes of the room between them.
///
/// As JSON it prints messages only, one per line, in order.
pub(super) async fn history(mut context: CommandContext, args: History) -> Result<()> {
    let (session, saved) = context.session()?;
    let of = recipient::resolve(&session, &args.to).await?;
    let mut messages: Vec<Message> = Vec::new();
    let mut changes: BTreeMap<u64, RoomChange> = BTreeMap::new();
    let mut before_seq = args.before.unwrap_or(u64::MAX);
    while messages.len() < args.limit as usize && before_seq > 1 {
        let page_size = (args.limit as usize - messages.len()).min(limits::PAGE_SIZE) as i32;
        let request = ListMessagesRequest { before_seq, page_size, ..Default::default() };
        let page = session.messages(Some(&of), request).await?;
        changes.extend(page.changes.into_iter().map(|change| (change.seq, change)));
        // Every page must lie before the previous one: a node that broke this would keep us asking for ever.
        let first = page.messages.iter().map(|message| message.seq).min();
        let Some(first) = first.filter(|first| *first < before_seq) else { break };
        before_seq = first;
        messages.extend(page.messages);
    }
    messages.sort_by_key(|message| message.seq);
    if context.output().is_json() {
        return messages.iter().try_for_each(|message| context.output().message(message));
    }
    if messages.is_empty() && changes.is_empty() {
        return Ok(());
    }
    let conversations = rooms::all(&session, false).await?;
    let shown = |conversation: &&Conversation| match (&of, messages.first()) {
        (Recipient::Conversation(id), _) => conversation.conversation_id == id.to_string(),
        (_, Some(message)) => conversation.conversation_id == message.conversation_id,
        _ => false,
    };
    let of = conversations.iter().find(shown);
    let titles = Titles::of(&conversations);
    let mut lines: Vec<(u64, String)> =
        messages.iter().map(|message| (message.seq, show::message(message, &titles))).collect();
    if let Some(of) = of {
        let line = |change: &RoomChange| (change.seq, show::room_change(change, &of.conversation_id, &titles));
        lines.extend(changes.values().map(line));
    }
    lines.sort_by_key(|(seq, _)| *seq);
    let receipt = of.and_then(|of| {
        seen(of).map(|seq| show::read(&of.conversation_id, &conversation_name(of, &saved.account), seq))
    });
    lines.into_iter().map(|(_, line)| line).chain(receipt).try_for_each(|line| context.output().line(line))
}

async fn print(context: &mut CommandContext, session: &Session, messages: &[Message]) -> Result<()> {
    if context.output().is_json() {
        return messages.iter().try_for_each(|message| context.output().message(message));
    }
    if messages.is_empty() {
        return Ok(());
    }
    let titles = Titles::of(&rooms::all(session, false).await?);
    messages.iter().try_for_each(|message| context.output().line(show::message(message, &titles)))?;
    context.output().raw([])
}

pub(super) async fn delete(mut context: CommandContext, args: Delete) -> Result<()> {
    let (session, _) = context.session()?;
    let conversation_id = match recipient::resolve(&session, &args.to).await? {
        Recipient::Conversation(id) => id.to_string(),
        Recipient::Username(name) => direct_with(&session, &name).await?,
    };
    let place = |seq| MessageRef { conversation_id: conversation_id.clone(), seq };
    let messages = args.seqs.into_iter().map(place).collect();
    let deleted_count = session
        .delete(messages, args.for_everyone)
        .await
        .map_err(|fault| Failure::of_write(fault, "it is safe to repeat").context("cannot delete"))?;
    if context.output().is_json() {
        return context.output().message(&DeleteMessagesResponse { deleted_count });
    }
    let whom = if args.for_everyone { "everyone" } else { "you" };
    context.output().talk(format!("{deleted_count} deleted for {whom}"));
    Ok(())
}

/// The id of the direct conversation with `name`, taken from one of its messages.
async fn direct_with(session: &Session, name: &str) -> Result<String> {
    let of = Recipient::Username(name.to_owned());
    let request = ListMessagesRequest { page_size: 1, ..Default::default() };
    let first = session.messages(Some(&of), request).await?.messages.into_iter().next();
    first.map(|message| message.conversation_id).ok_or_else(|| {
        Failure::new(Exit::NotFound, format!("there are no messages between you and {}", text::line(name)))
            .next("`chat inbox` lists your conversations")
    })
}

fn reference(message: &Message) -> MessageRef {
    MessageRef { conversation_id: message.conversation_id.clone(), seq: message.seq }
}
