//! The verbs on rooms, and listings of conversations.

use std::collections::BTreeSet;

use super::{args::Room, command_context::CommandContext, recipient};
use crate::{
    cli::{Failure, Result, Table, text},
    client::Session,
    wire::{Fault, chat},
};

/// All conversations of the account, or all rooms it may join. The number is bounded by the limits on an account.
pub(super) async fn all(session: &Session, joinable: bool) -> Result<Vec<chat::Conversation>> {
    conversations(session, joinable, false).await
}

/// Like [`all`]; with `unread_only`, only conversations with unread messages.
pub(super) async fn conversations(
    session: &Session,
    joinable: bool,
    unread_only: bool,
) -> Result<Vec<chat::Conversation>> {
    Ok(session.all_conversations(joinable, unread_only).await?)
}

/// Lists joined rooms and then those that may be joined. A room that was joined between the two calls appears once.
pub(super) async fn list(mut context: CommandContext) -> Result<()> {
    let (session, _) = context.session()?;
    let mut rooms = all(&session, false).await?;
    rooms.retain(|room| !room.direct);
    let joined: BTreeSet<String> = rooms.iter().map(|room| room.conversation_id.clone()).collect();
    let others = all(&session, true).await?;
    rooms.extend(others.into_iter().filter(|room| !joined.contains(&room.conversation_id)));
    if context.output().is_json() {
        let listing = chat::ListConversationsResponse { conversations: rooms, ..Default::default() };
        return context.output().message(&listing);
    }
    let mut table = Table::new(["ROOM", "ID", "KIND", "MEMBERS", "YOU"]);
    for room in &rooms {
        let kind = if room.private { "private" } else { "public" };
        let you = if joined.contains(&room.conversation_id) { "in it" } else { "" };
        let members = room.member_count.to_string();
        table.row([&text::title(&room.title), &room.conversation_id, kind, &members, you]);
    }
    context.output().table(&table)
}

pub(super) async fn run(mut context: CommandContext, verb: Room) -> Result<()> {
    let (session, _) = context.session()?;
    let find = |room: String| {
        let session = session.clone();
        async move { recipient::room(&session, &room).await }
    };
    match verb {
        Room::Create { title, private, users } => {
            let title = title.strip_prefix('#').unwrap_or(&title);
            show(&mut context, "created", session.create_room(title, private, users).await)
        }
        Room::Join { room } => show(&mut context, "joined", session.join_room(find(room).await?).await),
        Room::Leave { room } => {
            let id = find(room).await?;
            session.leave_room(id).await.map_err(failed)?;
            context.output().talk(format!("left {id}"));
            Ok(())
        }
        Room::Rename { room, title } => {
            let title = title.strip_prefix('#').unwrap_or(&title);
            show(&mut context, "renamed", session.rename_room(find(room).await?, title).await)
        }
        Room::Invite { room, users } => {
            let done = format!("invited {} to", users.join(" "));
            show(&mut context, &done, session.invite(find(room).await?, users).await)
        }
        Room::Kick { room, users } => {
            let done = format!("removed {} from", users.join(" "));
            show(&mut context, &done, session.kick(find(room).await?, users).await)
        }
    }
}

fn show(
    context: &mut CommandContext,
    done: &str,
    answer: std::result::Result<chat::Conversation, Fault>,
) -> Result<()> {
    let room = answer.map_err(failed)?;
    if context.output().is_json() {
        return context.output().message(&room);
    }
    let (title, id, members) = (text::title(&room.title), &room.conversation_id, room.member_count);
    let line = format!("{} {title} ({}); members: {members}", text::line(done), text::line(id));
    context.output().talk(line);
    Ok(())
}

fn failed(fault: Fault) -> Failure {
    Failure::of_write(fault, "`chat rooms` shows whether it took effect")
}
