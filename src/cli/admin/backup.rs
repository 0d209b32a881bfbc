//! The command `backup`: writes the whole state to a file.
//!
//! The file gets its name only when it is complete and synced. Until then it is `FILE.part`, which is removed on failure.
//! It is never written over another file, and only its owner can read it.

use std::{
    io,
    path::{Path, PathBuf},
};

use tokio::{
    fs::{self, File, OpenOptions},
    io::AsyncWriteExt,
    time::Instant,
};
use tonic::Streaming;

use super::CommandContext;
use crate::{
    cli::{Exit, Failure, Output, Result, text},
    types::limits,
    wire::{
        Fault,
        admin::{BackupChunk, CreateBackupRequest, admin_service_client::AdminServiceClient},
    },
};

/// Writes a backup to `file`, or to stdout if that is `-`.
pub(super) async fn run(context: &CommandContext<'_>, file: &Path, output: &mut Output) -> Result<()> {
    let cannot = |failure: Failure| failure.context(format!("cannot back up to {}", file.display()));
    if file == Path::new("-") {
        return to_stdout(context, output).await.map_err(cannot);
    }
    let bytes = to_file(context, file, output).await.map_err(cannot)?;
    if output.is_json() {
        return output.json(&serde_json::json!({ "file": file.to_string_lossy(), "bytes": bytes.to_string() }));
    }
    output.line(format!("backup written: {}, {bytes} bytes", text::line(&file.to_string_lossy())))
}

/// Starts the stream of a backup.
///
/// Asks the leader, which has every acknowledged write. If no leader is found within half of the timeout, asks any node:
/// a cluster without a leader may need a backup most.
async fn start(context: &CommandContext<'_>, output: &mut Output) -> Result<Streaming<BackupChunk>> {
    let call = |channel| async move {
        let client = AdminServiceClient::new(channel);
        client.max_decoding_message_size(limits::RPC_BYTES).create_backup(CreateBackupRequest {}).await
    };
    let deadline = Instant::now() + context.args.timeout;
    let leaderless = match context.cluster.with_timeout(context.args.timeout / 2).read_leader(call).await {
        Ok(stream) => return Ok(stream.into_inner()),
        Err(fault) if fault.reason.is_transient() => fault,
        Err(fault) => return Err(fault.into()),
    };
    // Both attempts together keep the deadline of the command. If the second fails too, the first fault says more.
    let rest = deadline.saturating_duration_since(Instant::now());
    let stream = context.cluster.with_timeout(rest).on_any(call).await.map_err(|_| Failure::from(leaderless))?;
    output.talk("warning: no leader was found; this is the state of one node, which may lack the latest writes");
    Ok(stream.into_inner())
}

async fn next(stream: &mut Streaming<BackupChunk>) -> Result<Option<BackupChunk>> {
    stream.message().await.map_err(|status| Failure::from(Fault::from_status(&status)))
}

async fn to_stdout(context: &CommandContext<'_>, output: &mut Output) -> Result<()> {
    if output.is_terminal() {
        let failure = Failure::new(Exit::Usage, "a backup is binary and cannot go to a terminal");
        return Err(failure.next("redirect stdout, or name a file"));
    }
    let mut stream = start(context, output).await?;
    while let Some(chunk) = next(&mut stream).await? {
        output.raw(&chunk.data)?;
    }
    Ok(())
}

async fn to_file(context: &CommandContext<'_>, file: &Path, output: &mut Output) -> Result<u64> {
    if fs::try_exists(file).await.map_err(on_disk)? {
        let failure = Failure::new(Exit::Conflict, "the file exists already");
        return Err(failure.next("choose another name, or move it away"));
    }
    let mut stream = start(context, output).await?;
    let part = part_of(file);
    let mut writer = create(&part).await.map_err(|error| {
        if error.kind() == io::ErrorKind::AlreadyExists {
            let failure = Failure::new(
                Exit::Conflict,
                format!("{} exists: another backup is being written, or left it behind", part.display()),
            );
            return failure.next("delete it if no backup is running");
        }
        on_disk(error)
    })?;
    let written = write(&mut stream, &mut writer).await;
    match written {
        Ok(bytes) => {
            publish(&part, file).await?;
            Ok(bytes)
        }
        Err(failure) => {
            // Best effort: the first failure is the one to report.
            let _ = fs::remove_file(&part).await;
            Err(failure)
        }
    }
}

async fn write(stream: &mut Streaming<BackupChunk>, writer: &mut File) -> Result<u64> {
    let mut bytes = 0;
    while let Some(chunk) = next(stream).await? {
        writer.write_all(&chunk.data).await.map_err(on_disk)?;
        bytes += chunk.data.len() as u64;
    }
    writer.flush().await.map_err(on_disk)?;
    writer.sync_all().await.map_err(on_disk)?;
    Ok(bytes)
}

/// Gives the complete file its name and syncs the folder. Uses a hard link, which fails if the name has been taken
/// meanwhile; a rename would replace that file.
async fn publish(part: &Path, file: &Path) -> Result<()> {
    fs::hard_link(part, file).await.map_err(on_disk)?;
    fs::remove_file(part).await.map_err(on_disk)?;
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let folder = File::open(folder).await.map_err(on_disk)?;
    folder.sync_all().await.map_err(on_disk)
}

/// An IO error at the target of the backup.
fn on_disk(error: io::Error) -> Failure {
    Failure::from(error).next("name a file in a folder that exists, is writable and has free space")
}

fn part_of(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".part");
    name.into()
}

/// Creates a file that only its owner may read: a backup has every message.
async fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).await
}
