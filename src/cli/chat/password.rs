//! Reads passwords: from a file, the environment, or a prompt. Never from the arguments, which every user can list.

use std::{
    fs::File,
    io::{self, IsTerminal, Read},
    path::Path,
};

use crate::{
    cli::{Exit, Failure, Result, typed},
    types::limits,
};

/// Bytes read of a password file: a byte order mark, a password, one byte too many, and a line end.
const FILE_BYTES: u64 = limits::PASSWORD_BYTES as u64 + 6;

/// Reads a password from `file`, else from `environment`, else by a prompt on a terminal. `twice` asks again for
/// confirmation, for passwords that are being set.
pub(super) fn read(file: Option<&Path>, environment: Option<String>, prompt: &str, twice: bool) -> Result<String> {
    if let Some(path) = file {
        return from_file(path);
    }
    if let Some(password) = environment {
        return Ok(password);
    }
    if !io::stdin().is_terminal() {
        return Err(Failure::new(Exit::Usage, "no password is given, and there is no terminal for a prompt")
            .next("give --password-file FILE or set CHAT_PASSWORD"));
    }
    let password = rpassword::prompt_password(format!("{prompt}: "))?;
    if twice && rpassword::prompt_password(format!("{prompt}, again: "))? != password {
        return Err(Failure::new(Exit::Usage, "the two passwords differ").next("try again"));
    }
    Ok(password)
}

/// The first line of the file.
fn from_file(path: &Path) -> Result<String> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(FILE_BYTES).read_to_end(&mut bytes));
    read.map_err(|error| Failure::new(Exit::Failure, format!("cannot read {}: {error}", path.display())))?;
    let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    if line.len() as u64 == FILE_BYTES {
        let rule = format!(
            "the first line of {} is no password: one has at most {} bytes",
            path.display(),
            limits::PASSWORD_BYTES
        );
        return Err(Failure::new(Exit::Failure, rule));
    }
    let line = typed::decode(line, &path.display().to_string())?;
    Ok(line.strip_suffix('\r').unwrap_or(&line).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_comes_before_the_environment_and_its_line_end_is_no_part_of_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("password");
        std::fs::write(&path, "open sesame\r\nmore\n").unwrap();
        assert_eq!(read(Some(&path), Some("other".into()), "", false).unwrap(), "open sesame");
        assert_eq!(read(None, Some("other".into()), "", false).unwrap(), "other");
        std::fs::write(&path, "\u{feff}open sesame\r\n").unwrap();
        assert_eq!(read(Some(&path), None, "", false).unwrap(), "open sesame", "without its byte order mark");
        std::fs::write(&path, b"\xff\xfeo\0p\0e\0n\0\n\0").unwrap();
        let utf_16 = read(Some(&path), None, "", false).unwrap_err();
        assert!(utf_16.message.contains("UTF-16"), "{utf_16}");
        std::fs::write(&path, "\u{e9}".repeat(limits::PASSWORD_BYTES)).unwrap();
        let long = read(Some(&path), None, "", false).unwrap_err();
        assert!(long.message.contains("at most"), "{long}");
        let missing = read(Some(&directory.path().join("none")), None, "", false).unwrap_err();
        assert!(missing.message.contains("none"), "{missing}");
    }
}
